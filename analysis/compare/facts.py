"""What the claims must know about a run beside its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd

from analysis.errors import ParseError
from analysis.model.release import Release, parse_release

Tables = Mapping[str, pd.DataFrame]
"""Table name → frame, as ``analysis.tables`` makes them; a source that was not there is absent."""

_VERSION = re.compile(r"Linux version (\d+\.\d+\S*)")
_PAGE_SHIFT = re.compile(r"^CONFIG_PAGE_SHIFT=(\d+)$", re.MULTILINE)
_ARM64_PAGES = re.compile(r"^CONFIG_ARM64_(4|16|64)K_PAGES=y$", re.MULTILINE)
_X86 = re.compile(r"^CONFIG_X86=y$", re.MULTILINE)
_SYSCTL_DIR = "proc/sys/vm/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The kernel that was watched. None where the run does not say."""

    kernel: str
    """Release as the kernel prints it (``6.1.0-37-amd64``)."""
    page_size_bytes: int | None = None
    sysctl: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Files of /proc/sys/vm that hold one number."""
    thp: bool | None = None
    """Whether the kernel has transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE)."""
    phase_nodes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """NUMA node of the workload, for phases whose workload was bound to one."""

    @property
    def release(self) -> Release:
        """Version and patch level.

        Raises:
            ValueError: ``kernel`` does not begin with two numbers.
        """
        return parse_release(self.kernel)


def facts_from_texts(
    texts: Mapping[str, str],
    *,
    page_size_bytes: int | None = None,
    phase_nodes: Mapping[str, int] | None = None,
) -> Facts:
    """Facts from files of the guest, by path without the leading slash (``proc/version``).

    A page size that somebody already knows (the agent's greeting) goes before the kernel config.

    Raises:
        ParseError: ``proc/version`` is absent or does not name a release.
    """
    version = texts.get("proc/version", "")
    match = _VERSION.search(version)
    if match is None:
        raise ParseError("proc/version", 1, version, "'Linux version' and a release like 6.1.0")
    kernel = match[1]
    config = texts.get("config")
    sysctl = {
        path.removeprefix(_SYSCTL_DIR): int(text)
        for path, text in texts.items()
        if path.startswith(_SYSCTL_DIR) and text.strip().isdecimal()
    }
    return Facts(
        kernel=kernel,
        page_size_bytes=page_size_bytes or _page_size_bytes(config or ""),
        sysctl=MappingProxyType(sysctl),
        thp=_thp(texts, config),
        phase_nodes=MappingProxyType(dict(phase_nodes or {})),
    )


def page_size_from_tables(tables: Tables) -> int | None:
    """Page size in bytes: MemTotal against the managed pages of all zones; None without both.

    Kernel: mm/page_alloc.c, ``totalram_pages`` is kept beside every zone's managed pages.
    Ignores: memory plugged later or held by a balloon, which may be in one of the two only: more
        than a hundredth of difference gives None.
    """
    meminfo, zoneinfo = tables.get("meminfo"), tables.get("zoneinfo")
    if meminfo is None or zoneinfo is None:
        return None
    total = meminfo.loc[meminfo["field"] == "MemTotal", ["round", "value"]]
    managed = zoneinfo.loc[zoneinfo["field"] == "managed"].groupby("round")["value"].sum()
    for number, total_kib in total.itertuples(index=False):
        pages = int(managed.get(number, 0))
        if pages:
            ratio_kib = int(total_kib) / pages
            for size_kib in (4, 8, 16, 64):
                if abs(ratio_kib / size_kib - 1) < 0.01:
                    return size_kib * 1024
    return None


def _page_size_bytes(config: str) -> int | None:
    if match := _PAGE_SHIFT.search(config):
        return 1 << int(match[1])
    if match := _ARM64_PAGES.search(config):
        return int(match[1]) * 1024
    return 4096 if _X86.search(config) else None


def _thp(texts: Mapping[str, str], config: str | None) -> bool | None:
    if "sys/kernel/mm/transparent_hugepage/enabled" in texts:
        return True
    if config is not None:
        return "\nCONFIG_TRANSPARENT_HUGEPAGE=y\n" in f"\n{config}\n"
    return None
