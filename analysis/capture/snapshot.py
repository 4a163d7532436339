"""A machine at one moment, parsed from a capture as it is asked for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar, cast

from analysis.capture.booted_cpus import booted_cpus
from analysis.capture.kernel import (
    RELEASE_PATTERNS,
    configured_architecture,
    named_architecture,
    releases_in_force,
    shown_architecture,
    vendor_of,
)
from analysis.capture.source import Source
from analysis.errors import MissingInputError, ParseError
from analysis.model.release import Release, parse_release
from analysis.procfs import (
    buddyinfo,
    build_date,
    cpulist,
    meminfo,
    slabinfo,
    sysctl,
    vmstat,
    zoneinfo,
)
from analysis.procfs.buddyinfo import BuddyRow
from analysis.procfs.cmdline import Cmdline
from analysis.procfs.cmdline import parse as parse_cmdline
from analysis.procfs.dmesg import Dmesg
from analysis.procfs.dmesg import parse as parse_dmesg
from analysis.procfs.kconfig import Kconfig
from analysis.procfs.kconfig import parse as parse_kconfig
from analysis.procfs.meminfo import Meminfo
from analysis.procfs.slabinfo import Slabinfo
from analysis.procfs.vmstat import Counters
from analysis.procfs.zoneinfo import Zoneinfo

T = TypeVar("T")

NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"


class Snapshot:
    """What a capture says. Every attribute raises MissingInputError where its file is missing, and
    ParseError where the file is not what the kernel prints."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._parsed: dict[tuple[str, Callable[..., object]], object] = {}

    # files

    def has(self, name: str) -> bool:
        """Whether the capture has the file with a canonical name."""
        return self._text(name) is not None

    def provides(self, names: str) -> bool:
        """Whether the capture has a rule's input: a file, or a sysctl in a listing.

        `` | `` stands between inputs of which one is enough; ``N`` in the name of a node's or a
        CPU's file, and ``*``, stand for any; a directory is there if a file in it is.
        """
        return any(self._provides(name) for name in names.split(" | "))

    def _provides(self, name: str) -> bool:
        if name.startswith("proc/sys/") and self.has_sysctl(name.removeprefix("proc/sys/")):
            return True
        if self.has(name):
            return True
        pattern = name.replace("nodeN", "node*").replace("cpuN", "cpu*")
        return any(
            fnmatch.fnmatchcase(found, pattern) or found.startswith(f"{pattern}/")
            for found in self.source.files
        )

    def text(self, name: str) -> str:
        """The text of a file by its canonical name (see ``analysis.capture.source``).

        Raises:
            MissingInputError: the capture lacks it, or has it empty.
        """
        text = self._text(name)
        if not text:
            raise MissingInputError(name)
        return text

    def parsed(self, name: str, parse: Callable[..., T]) -> T:
        """``parse(text, source=name)`` of a file, done once.

        Raises:
            MissingInputError: the capture lacks the file.
            ParseError: as ``parse`` does.
        """
        key = (name, parse)
        if key not in self._parsed:
            self._parsed[key] = parse(self.text(name), source=name)
        return cast(T, self._parsed[key])

    def number(self, name: str, base: int = 10) -> int:
        """The one number that a file holds.

        Raises:
            MissingInputError: the capture lacks the file.
            ParseError: it is no number.
        """
        text = self.text(name)
        if not text.endswith("\n"):
            raise ParseError(name, 1, text, "a whole line (cut short?)")
        try:
            return int(text, base)
        except ValueError:
            raise ParseError(name, 1, text.strip(), f"one number to the base {base}") from None

    def _text(self, name: str) -> str | None:
        release = None if name in ("proc/version", "uname", "dmesg") else self._release_or_none
        return self.source.text(name, release=release)

    # the kernel

    @cached_property
    def _release_or_none(self) -> str | None:
        for name, pattern in RELEASE_PATTERNS.items():
            text = self.source.text(name)
            if text and (match := pattern.search(text)):
                return match[1]
        return None

    @property
    def knows_kernel(self) -> bool:
        """Whether the capture names its kernel's release."""
        return self._release_or_none is not None

    @cached_property
    def kernel(self) -> str:
        """Release as the kernel prints it: ``6.1.0-37-amd64``."""
        if self._release_or_none is None:
            raise MissingInputError("proc/version (or uname, or the first line of dmesg)")
        return self._release_or_none

    @cached_property
    def release(self) -> Release:
        """Version and patch level."""
        return parse_release(self.kernel)

    @cached_property
    def vendor(self) -> str | None:
        """A distribution whose kernels carry many later changes (``el9``), or None."""
        return vendor_of(self.kernel)

    @cached_property
    def built(self) -> date | None:
        """The day on which the kernel was built; None where the capture does not tell."""
        for name in ("proc/version", "proc/sys/kernel/version", "uname", "dmesg"):
            if (day := build_date.parse(self.source.text(name) or "")) is not None:
                return day
        return None

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """The releases whose rules may be in force: the kernel's own, and every later one where its
        vendor takes changes back, but for those that came long after it was built."""
        return releases_in_force(self.release, self.vendor, self.built)

    @cached_property
    def config(self) -> Kconfig:
        """The kernel's configuration."""
        return self.parsed("config", parse_kconfig)

    @cached_property
    def cmdline(self) -> Cmdline:
        """The kernel's parameters."""
        return self.parsed("proc/cmdline", parse_cmdline)

    @cached_property
    def arch(self) -> str:
        """``x86_64``, ``arm64``, ``i386``, ``arm``, ``riscv64`` …"""
        found = configured_architecture(self.config) if self.has("config") else None
        found = found or named_architecture(self.source.text("uname") or "", self.kernel)
        found = found or shown_architecture(
            self.source.text("proc/cpuinfo") or "", self.source.text("proc/zoneinfo") or ""
        )
        if found is not None:
            return found
        raise MissingInputError("the architecture (config, or uname)")

    @cached_property
    def page_size_bytes(self) -> int:
        """Bytes of a page."""
        if self.has("config"):
            shift = self.config.number("PAGE_SHIFT")
            if shift is not None:
                return 1 << shift
            for size_kib in (4, 16, 64):
                if self.config.on(f"ARM64_{size_kib}K_PAGES"):
                    return size_kib * 1024
        if self.arch in ("x86_64", "i386", "arm", "riscv64", "s390x"):
            return 4096
        managed = sum(zone.pages.get("managed", 0) for zone in self.zoneinfo.zones)
        total_kib = self.meminfo.values.get("MemTotal", 0)
        for size_kib in (4, 16, 64):
            if managed and abs(total_kib / managed / size_kib - 1) < 0.01:
                return size_kib * 1024
        raise MissingInputError("the page size (config, or meminfo beside zoneinfo)")

    @property
    def page_kib(self) -> int:
        """KiB of a page."""
        return self.page_size_bytes // 1024

    # sysctls

    @cached_property
    def _listed_sysctls(self) -> Mapping[str, str]:
        if not self.has("sysctl"):
            return MappingProxyType({})
        return self.parsed("sysctl", sysctl.parse_listing).values

    def sysctl(self, name: str) -> str:
        """The value of a sysctl by its path: ``vm/min_free_kbytes``.

        Raises:
            MissingInputError: neither its file nor a listing has it.
            ParseError: its file ends inside a line.
        """
        own = self._text(f"proc/sys/{name}")
        if own is not None:
            if not own.endswith("\n"):
                raise ParseError(f"proc/sys/{name}", 1, own, "a whole line (cut short?)")
            return own.strip()
        if name in self._listed_sysctls:
            return self._listed_sysctls[name].strip()
        raise MissingInputError(f"proc/sys/{name}")

    def has_sysctl(self, name: str) -> bool:
        """Whether the capture knows the value of a sysctl."""
        return name in self._listed_sysctls or self._text(f"proc/sys/{name}") is not None

    def sysctl_number(self, name: str) -> int:
        """The value of a sysctl that is one number.

        Raises:
            MissingInputError: as ``sysctl``.
            ParseError: it is no number.
        """
        text = self.sysctl(name)
        try:
            return int(text)
        except ValueError:
            raise ParseError(f"proc/sys/{name}", 1, text, "one number") from None

    # what /proc prints

    @property
    def zoneinfo(self) -> Zoneinfo:
        return self.parsed("proc/zoneinfo", zoneinfo.parse)

    @property
    def meminfo(self) -> Meminfo:
        return self.parsed("proc/meminfo", meminfo.parse)

    @property
    def vmstat(self) -> Counters:
        return self.parsed("proc/vmstat", vmstat.parse)

    @property
    def buddyinfo(self) -> tuple[BuddyRow, ...]:
        return self.parsed("proc/buddyinfo", buddyinfo.parse)

    @property
    def slabinfo(self) -> Slabinfo:
        return self.parsed("proc/slabinfo", slabinfo.parse)

    @property
    def dmesg(self) -> Dmesg:
        return self.parsed("dmesg", parse_dmesg)

    # nodes and CPUs

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        """Online nodes: of sysfs, or those that zoneinfo prints."""
        if self.has(f"{NODES}/online"):
            return self.parsed(f"{NODES}/online", cpulist.parse)
        found = self.source.nodes()
        return found or tuple(sorted({zone.node for zone in self.zoneinfo.zones}))

    def node_meminfo(self, node: int) -> Meminfo:
        """A node's own meminfo."""
        return self.parsed(f"{NODES}/node{node}/meminfo", meminfo.parse)

    def node_vmstat(self, node: int) -> Counters:
        """A node's own vmstat."""
        return self.parsed(f"{NODES}/node{node}/vmstat", vmstat.parse)

    def node_cpus(self, node: int) -> tuple[int, ...]:
        """The CPUs of a node: of sysfs, else of the messages of a PC that brought up its CPUs."""
        name = f"{NODES}/node{node}/cpulist"
        text = self.source.text(name)
        if text:  # a node without CPUs has an empty line
            return cpulist.parse(text, source=name)
        if len(self.nodes) == 1:
            return self.cpus_online
        booted = booted_cpus(self.dmesg) if self.has("dmesg") else {}
        if sorted(cpu for cpus in booted.values() for cpu in cpus) != sorted(self.cpus_online):
            raise MissingInputError(f"{name} (or all CPUs by node in dmesg)")
        return booted.get(node, ())

    def node_distances(self, node: int) -> tuple[int, ...]:
        """Distances from a node to each online node, in their order."""
        name = f"{NODES}/node{node}/distance"
        text = self.text(name)
        try:
            return tuple(map(int, text.split()))
        except ValueError:
            raise ParseError(name, 1, text, "numbers") from None

    @cached_property
    def cpus_online(self) -> tuple[int, ...]:
        """Online CPUs: of sysfs, of cpuinfo, or those with a pageset in zoneinfo."""
        if self.has(f"{CPUS}/online"):
            return self.parsed(f"{CPUS}/online", cpulist.parse)
        cpuinfo = self._text("proc/cpuinfo") or ""
        found = [int(n) for n in re.findall(r"^processor\s*: (\d+)", cpuinfo, re.MULTILINE)]
        if found:
            return tuple(found)
        cpus = {cpu.cpu for zone in self.zoneinfo.zones for cpu in zone.cpus}
        if not cpus:
            raise MissingInputError(f"{CPUS}/online (or cpuinfo)")
        return tuple(sorted(cpus))
