"""A kernel's ``.config``, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from harness.errors import InfrastructureError

_ASSIGNED = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")
_ARM64_PAGE_KIB = (4, 16, 64)


def parse_kconfig(text: str, source: str) -> dict[str, str]:
    """Symbol → value as written (``y``, ``m``, ``11``; strings without quotes; unset → ``n``).

    Raises:
        InfrastructureError: a line is neither assignment, "is not set", comment nor blank.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _ASSIGNED.fullmatch(line):
            values[match[1]] = _unquote(match[2])
        elif match := _UNSET.fullmatch(line):
            values[match[1]] = "n"
        elif line.strip() and not line.startswith("#"):
            raise InfrastructureError(f"{source}:{number}: not a line of a .config: {line!r}")
    return values


def read_kconfig(path: Path) -> dict[str, str]:
    """``parse_kconfig`` of a file."""
    return parse_kconfig(path.read_text(encoding="utf-8"), str(path))


def is_set(config: Mapping[str, str], symbol: str) -> bool:
    """Whether ``symbol`` (with its CONFIG_) is built in or a module."""
    return config.get(symbol, "n") in {"y", "m"}


def max_nodes(config: Mapping[str, str]) -> int:
    """MAX_NUMNODES: how many NUMA nodes the kernel can tell apart.

    Kernel: include/linux/numa.h; CONFIG_NODES_SHIFT, which NUMA kernels have, and those with
    DISCONTIGMEM (to 5.13), to which a node is a piece of memory.
    """
    if not is_set(config, "CONFIG_NUMA") and not is_set(config, "CONFIG_DISCONTIGMEM"):
        return 1
    return 1 << int(config.get("CONFIG_NODES_SHIFT", "0"))


def page_size_bytes(config: Mapping[str, str]) -> int:
    """The size of a base page.

    Kernel: x86 always has 4 KiB; arm64 chooses by CONFIG_ARM64_{4K,16K,64K}_PAGES.
    """
    for kib in _ARM64_PAGE_KIB:
        if is_set(config, f"CONFIG_ARM64_{kib}K_PAGES"):
            return kib << 10
    return 4 << 10


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value
