"""Where the memory lay that a boot handed over late: which zone holds the initrd, the image …"""

from __future__ import annotations

import re
from collections.abc import Mapping

from analysis.capture.snapshot import Snapshot
from analysis.errors import ParseError
from analysis.procfs import iomem
from analysis.procfs.iomem import Resource

ZoneKey = tuple[int, str]

_RAMDISK = re.compile(r"(?:Allocated new )?RAMDISK: \[mem 0x([0-9a-f]+)-0x[0-9a-f]+\]")
_BRK = re.compile(r"BRK \[0x([0-9a-f]+), 0x[0-9a-f]+\]")
_IMAGE_BYTES_MAX = 128 << 20
"""No x86 kernel image with all its sections is larger."""
_IMAGE_BYTES_MIN = 16 << 20
"""No x86 kernel image begins below, with or without a random base."""
_UNMAPPED = ("HighMem", "Device")
"""Neither the kernel nor its initrd lies there when it is handed over."""


class Places:
    """Which zone holds a physical address; several where nodes lie interleaved."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.spans: Mapping[ZoneKey, tuple[int, int]] = {
            (zone.node, zone.zone): (
                zone.tail["start_pfn"],
                zone.tail["start_pfn"] + zone.pages.get("spanned", 0),
            )
            for zone in snapshot.zoneinfo.zones
            if zone.pages.get("managed", 0) and "start_pfn" in zone.tail
        }
        self.resources = _resources(snapshot)

    @property
    def all(self) -> tuple[ZoneKey, ...]:
        """Every zone that boot memory may be handed to."""
        return tuple(
            (zone.node, zone.zone)
            for zone in self.snapshot.zoneinfo.zones
            if zone.pages.get("managed", 0) and zone.zone not in _UNMAPPED
        )

    def at(self, address: int) -> tuple[ZoneKey, ...]:
        """The zones that span an address."""
        pfn = address // self.snapshot.page_size_bytes
        return tuple(key for key, (start, end) in self.spans.items() if start <= pfn < end)

    def between(self, start: int, end: int) -> tuple[ZoneKey, ...]:
        """The zones that reach into a range of addresses."""
        size = self.snapshot.page_size_bytes
        return tuple(
            key
            for key, (first, last) in self.spans.items()
            if first * size < end and start < last * size
        )

    def highest(self, node: int) -> ZoneKey | None:
        """A node's highest zone with memory of its boot: the one whose struct pages wait."""
        found = [key for key in self.spans if key[0] == node and key[1] != "Device"]
        return max(found, key=lambda key: self.spans[key], default=None)

    def initrd(self, pages: int) -> tuple[ZoneKey, ...]:
        """By x86's message, else by the reservation of that size in the memory map."""
        said = list(self.snapshot.dmesg.matching(_RAMDISK))
        if said:
            return self.at(int(said[-1][1], 16)) or self.all
        size = pages * self.snapshot.page_size_bytes
        ends = 2 * self.snapshot.page_size_bytes  # the first and last page may be shared
        fitting = [
            zone
            for resource in self.resources
            if resource.name == "reserved" and 0 <= resource.end - resource.start - size <= ends
            for zone in self.at(resource.start)
        ]
        return tuple(dict.fromkeys(fitting)) or self.all

    def image(self) -> tuple[ZoneKey, ...]:
        """By the memory map, else by what x86 says of the memory behind its image."""
        parts = [
            part for part in self.resources if part.name.startswith("Kernel ") and part.end > 1
        ]
        if parts:
            first, last = min(part.start for part in parts), max(part.end for part in parts) - 1
            zones = self.at(first)
            if zones != self.at(last):
                zones = tuple(sorted({*zones, *self.at(last)}))
            return zones or self.all
        if not self._is_pc():
            return self.all
        behind = [int(match[1], 16) for match in self.snapshot.dmesg.matching(_BRK)]
        end = min(behind) if behind else None
        start = _IMAGE_BYTES_MIN if end is None else max(_IMAGE_BYTES_MIN, end - _IMAGE_BYTES_MAX)
        within = self.between(start, 1 << 64 if end is None else end)
        return tuple(key for key in within if key in self.all) or self.all

    def _is_pc(self) -> bool:
        return self.snapshot.arch in ("x86_64", "i386")


def _resources(snapshot: Snapshot) -> tuple[Resource, ...]:
    """What /proc/iomem shows; nothing where addresses are hidden."""
    if not snapshot.has("proc/iomem"):
        return ()
    try:
        found = snapshot.parsed("proc/iomem", iomem.parse)
    except ParseError:
        return ()
    return () if found.hidden else found.resources
