"""Boot memory that came to a zone only after its sizes had been computed.

The kernel computes watermarks, batches and the like early in boot, from the pages that its zones
manage then. The initrd and what the image needs for init alone are handed over later: ``managed``
of /proc/zoneinfo has them, what was computed before does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from analysis.capture.snapshot import Snapshot
from analysis.errors import MissingInputError
from analysis.procfs import iomem
from analysis.procfs.iomem import Resource
from analysis.procfs.zoneinfo import Zone

ZoneKey = tuple[int, str]

_FREEING = re.compile(r"Freeing (.+) memory: (\d+)K")
_RAMDISK = re.compile(r"(?:Allocated new )?RAMDISK: \[mem 0x([0-9a-f]+)-0x[0-9a-f]+\]")
_CMA = re.compile(r"cma: Reserved (\d+) MiB at (?:0x)?([0-9a-f]+)")
_EARLY = ("SMP alternatives",)
"""Freed before the initcalls that set the watermarks last."""
_CPUS_UP = re.compile(r"smp: Brought up \d+ node")
"""The CPUs are there, the initcalls follow."""
_EFI = re.compile(r"efi: Freeing EFI boot services memory: (\d+)K")


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFree:
    """Pages that one zone, one of a few, got late."""

    name: str
    pages: int
    zones: tuple[ZoneKey, ...]
    """The zone that holds them; all that may where the capture does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Managed pages of a zone at some moment, and how they follow from those now."""

    managed_pages: int
    working: str


def late_frees(snapshot: Snapshot, *, before_initcalls: bool = False) -> tuple[LateFree, ...]:
    """What was handed over after the initcalls that set the watermarks, from dmesg.

    ``before_initcalls``: also what came before or with the first of them: CMA areas count as
    managed only from core_initcall on; without CONFIG_DEFERRED_STRUCT_PAGE_INIT the lists were
    sized before x86 gave back what only several CPUs need.

    Raises:
        MissingInputError: no dmesg, or one that does not reach back to the hand-over.
    """
    freed = [
        (match[1], int(match[2]))
        for match in snapshot.dmesg.matching(_FREEING)
        if match[1] not in _EARLY
    ]
    if not any(name.startswith("unused kernel") for name, _ in freed):
        raise MissingInputError("dmesg up to 'Freeing unused kernel memory'")
    places = _Places(snapshot)
    frees: list[LateFree] = []
    for name, kib in freed:
        if name == "initrd":
            pages = kib // snapshot.page_kib
            frees.append(LateFree(name=name, pages=pages, zones=places.initrd(kib)))
    parts = [(name, kib // snapshot.page_kib) for name, kib in freed if name != "initrd"]
    image = places.image()
    if len(image) > 1:  # wherever they are, they are together
        parts = [("unused parts of the kernel", sum(pages for _, pages in parts))]
    frees += [LateFree(name=name, pages=pages, zones=image) for name, pages in parts]
    if before_initcalls:
        for match in snapshot.dmesg.matching(_CMA):
            pages = int(match[1]) * 1024 // snapshot.page_kib
            zones = places.at(int(match[2], 16)) or places.all
            frees.append(LateFree(name="CMA", pages=pages, zones=zones))
        if snapshot.has("config") and not snapshot.config.on("DEFERRED_STRUCT_PAGE_INIT"):
            frees += _early(snapshot, during_initcalls=False)
    return tuple(frees)


def between_initcalls(snapshot: Snapshot) -> tuple[LateFree, ...]:
    """What came after the watermarks were first set (postcore_initcall), but before the last time.

    Newer x86 kernels (7.2 does, 6.12 not) give back at arch_initcall what several CPUs need alone.
    """
    return tuple(_early(snapshot, during_initcalls=True))


def efi_pages_between(snapshot: Snapshot) -> int:
    """Pages of EFI boot services that came then, in zones that do not show."""
    texts = [message.text for message in snapshot.dmesg.messages]
    found = [(at, _EFI.match(text)) for at, text in enumerate(texts)]
    up = _cpus_up(snapshot)
    return sum(int(match[1]) // snapshot.page_kib for at, match in found if match and at > up)


def _early(snapshot: Snapshot, *, during_initcalls: bool) -> Iterator[LateFree]:
    up = _cpus_up(snapshot)
    for at, message in enumerate(snapshot.dmesg.messages):
        match = _FREEING.match(message.text)
        if match and match[1] in _EARLY and (at > up) == during_initcalls:
            pages = int(match[2]) // snapshot.page_kib
            yield LateFree(name=match[1], pages=pages, zones=_Places(snapshot).image())


def _cpus_up(snapshot: Snapshot) -> int:
    """The index of the message that the CPUs are up; without it, behind the last."""
    messages = snapshot.dmesg.messages
    matching = (at for at, message in enumerate(messages) if _CPUS_UP.match(message.text))
    return next(matching, len(messages))


def as_now(zone: Zone) -> Earlier:
    """What a zone manages now."""
    now = zone.pages["managed"]
    return Earlier(managed_pages=now, working=f"{now} managed pages, as now")


def managed_before(zone: Zone, frees: tuple[LateFree, ...]) -> tuple[Earlier, ...]:
    """What a zone managed before its late frees, each possibility once, fewest pages first."""
    key = (zone.node, zone.zone)
    managed = zone.pages["managed"]
    mine = [free for free in frees if key in free.zones]
    choices = [(True,) if free.zones == (key,) else (True, False) for free in mine]
    found: dict[int, str] = {}
    for taken in product(*choices):
        off = [free for free, take in zip(mine, taken, strict=True) if take]
        left = managed - sum(free.pages for free in off)
        terms = "".join(f" - {free.pages} ({free.name})" for free in off)
        if left >= 0:
            found.setdefault(left, f"{managed} managed now{terms} = {left} pages" if off else "")
    return tuple(
        Earlier(managed_pages=pages, working=found[pages] or f"{pages} managed pages, as now")
        for pages in sorted(found)
    )


class _Places:
    """Which zone holds a physical address."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.spans: Mapping[ZoneKey, tuple[int, int]] = {
            (zone.node, zone.zone): (
                zone.tail["start_pfn"],
                zone.tail["start_pfn"] + zone.pages["spanned"],
            )
            for zone in snapshot.zoneinfo.zones
            if zone.pages.get("present", 0) and "start_pfn" in zone.tail
        }
        self.resources = _resources(snapshot)

    @property
    def all(self) -> tuple[ZoneKey, ...]:
        return tuple(self.spans)

    def at(self, address: int) -> tuple[ZoneKey, ...]:
        """The zones that span an address: of several, those that overlap there."""
        pfn = address // self.snapshot.page_size_bytes
        return tuple(key for key, (start, end) in self.spans.items() if start <= pfn < end)

    def initrd(self, kib: int) -> tuple[ZoneKey, ...]:
        said = list(self.snapshot.dmesg.matching(_RAMDISK))
        if said:
            return self.at(int(said[-1][1], 16)) or self.all
        slack = 2 * self.snapshot.page_size_bytes
        fitting = {
            zones
            for resource in self.resources
            if resource.name == "reserved"
            and 0 <= resource.end - resource.start - kib * 1024 < slack
            for zones in [self.at(resource.start)]
        }
        return fitting.pop() if len(fitting) == 1 else self.all

    def image(self) -> tuple[ZoneKey, ...]:
        parts = [part for part in self.resources if part.name.startswith("Kernel ")]
        if not parts:
            return self.all
        first, last = min(part.start for part in parts), max(part.end for part in parts) - 1
        zones = self.at(first)
        return zones if zones == self.at(last) else tuple(sorted({*zones, *self.at(last)}))


def _resources(snapshot: Snapshot) -> tuple[Resource, ...]:
    """What /proc/iomem shows; nothing where addresses are hidden."""
    if not snapshot.has("proc/iomem"):
        return ()
    found = snapshot.parsed("proc/iomem", iomem.parse)
    return () if found.hidden else found.resources
