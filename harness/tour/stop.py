"""A stop of the tour: the machines that it boots and what it gathers on each."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernel.kconfig import is_set

if TYPE_CHECKING:
    from harness.tour.evidence import Evidence

DEFAULT_KERNEL = "bookworm"
"""Not the host's own suite: a stop holds on the kernels that it was made for, on every host."""

_NAME = re.compile(r"[a-z][a-z0-9_]*/[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopBoot:
    """One machine of a stop, in the words of ``mmscope boot``'s options."""

    label: str
    """Names the boot's directory within the stop: ``main``, ``slab``."""
    gather: Callable[[Evidence], None]
    """What is done and kept once the guest is up."""
    arch: str = "x86_64"
    kernel: str = DEFAULT_KERNEL
    """As ``--kernel`` takes it."""
    shapes: tuple[str, ...] = ()
    """Names of the catalogue of shapes; they are put together."""
    nodes: tuple[str, ...] = ("512M",)
    """Used where no shape says otherwise."""
    cpus: int | None = 1
    distances: tuple[str, ...] = ()
    append: str = ""
    """Further kernel parameters."""
    swap: str = "0"
    """Size of the swap disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One thing to see, named ``topic/name``."""

    name: str
    boots: tuple[StopBoot, ...]
    contrasts_kernels: bool = False
    """It is about what differs between its kernels: on one of them alone there is nothing to see.
    Else each machine shows what there is to see by itself."""
    needs: tuple[str, ...] = ()
    """Symbols of the configuration without which a kernel has nothing to show here; ``!SYMBOL``
    means with which."""

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.name), f"{self.name!r} is not topic/name"
        assert self.boots, f"{self.name}: boots nothing"
        labels = [boot.label for boot in self.boots]
        assert len(set(labels)) == len(labels), f"{self.name}: labels {labels}"

    @property
    def topic(self) -> str:
        return self.name.partition("/")[0]

    @property
    def directory(self) -> str:
        """Name of its directory in a tour: ``zones-highmem``."""
        return self.name.replace("/", "-")

    def on_kernel(self, kernel: str, arch: str) -> Stop | None:
        """The same on one kernel; machines that would then be the same one are booted once. None
        where the stop contrasts kernels."""
        if self.contrasts_kernels:
            return None
        machines: dict[StopBoot, StopBoot] = {}
        for boot in self.boots:
            there = replace(boot, kernel=kernel, arch=arch)
            machines.setdefault(replace(there, label=""), there)
        return replace(self, boots=tuple(machines.values()))

    def lacks(self, config: Mapping[str, str]) -> str:
        """What a kernel of this configuration has not got; empty if the stop can be walked."""
        for need in self.needs:
            symbol = f"CONFIG_{need.removeprefix('!')}"
            if is_set(config, symbol) is need.startswith("!"):
                has = "has" if need.startswith("!") else "is built without"
                return f"the kernel {has} {symbol}"
        return ""

    def digest(self) -> str:
        """Changes whenever the stop would boot or gather something else, as far as its own module
        decides: its machines, and the text of the module that gathers."""
        known = hashlib.sha256()
        for boot in self.boots:
            for field in fields(boot):
                value = getattr(boot, field.name)
                if callable(value):
                    value = _source(value)
                known.update(f"{field.name}={value!r}\n".encode())
        return known.hexdigest()


def _source(function: Callable[[Evidence], None]) -> str:
    try:
        return Path(inspect.getfile(inspect.unwrap(function))).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return repr(getattr(function, "__qualname__", ""))
