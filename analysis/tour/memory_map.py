"""The plate of a machine's physical memory, drawn from a capture."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from analysis.capture.snapshot import Snapshot
from analysis.procfs import iomem
from analysis.procfs.iomem import Iomem
from analysis.procfs.zoneinfo import Zone
from analysis.tour.finding import Plate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMESPACE = re.compile(r"namespace\d")
_MEMORY = {"System RAM": "System RAM", "Persistent Memory (legacy)": "pmem"}


def map_plate(plate_id: str, snapshot: Snapshot, told: Collection[str] = ()) -> Plate:
    """A row of nodes and zones; ``told``: the zones that it is about, all where none are named."""
    return Plate(id=plate_id, draw=functools.partial(_draw, snapshot, tuple(told)))


def _draw(snapshot: Snapshot, told: tuple[str, ...]) -> Figure:
    from analysis.figures.tour_map import Extent, ZoneExtent, draw

    tree = snapshot.parsed("proc/iomem", iomem.parse)
    zones = [
        ZoneExtent(
            node=zone.node,
            zone=zone.zone,
            start=start,
            end=start + zone.pages["spanned"] * snapshot.page_size_bytes,
            present_pages=zone.pages["present"],
            told=not told or zone.zone in told,
        )
        for zone in snapshot.zoneinfo.zones
        if zone.pages.get("spanned")
        and (start := _start(zone, tree, snapshot.page_size_bytes)) is not None
    ]
    memory = [
        Extent(start=resource.start, end=resource.end, label=_MEMORY[resource.name])
        for resource in tree.resources
        if resource.name in _MEMORY and resource.depth == 0
    ]
    return draw(zones, memory)


def _start(zone: Zone, tree: Iomem, page_bytes: int) -> int | None:
    """Where a zone begins: printed of zones with pages, and of Device what a driver claimed."""
    if "start_pfn" in zone.tail:
        return zone.tail["start_pfn"] * page_bytes
    claimed = [resource.start for resource in tree.resources if _NAMESPACE.match(resource.name)]
    return min(claimed, default=None)
