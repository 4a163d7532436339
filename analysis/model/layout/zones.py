"""Zones of a node: first page, pages spanned, pages present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.model.layout.absent import absent_pages
from analysis.model.layout.nodes import NodeSpan, node_extents
from analysis.model.layout.pfn import Span, clip
from analysis.model.layout.zone_limits import MOVABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneLayout:
    """A zone as it is when the machine has booted; pages."""

    node: int
    zone: str
    start_pfn: int
    """0 for a zone that spans nothing."""
    spanned_pages: int
    present_pages: int

    @property
    def span(self) -> Span:
        return Span(self.start_pfn, self.start_pfn + self.spanned_pages)


def zone_span(
    zone: str,
    limits: Mapping[str, Span],
    extent: Span,
    movable_start: int | None,
    movable_end: int,
) -> Span:
    """The pages from a zone's first to its last on one node; empty where it has none.

    A zone takes the part of the node between its limits. ZONE_MOVABLE takes what lies above its
    start on the node, up to ``movable_end``, and the zone below ends there. A zone's limits may
    lie in a hole of the node, so it can span page frames that no memory stands for.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``zone_spanned_pages_in_node`` and
        ``adjust_zone_range_for_zone_movable``; 5.10 to 7.3.
    Ignores: ``kernelcore=mirror``, with which the lower zone does not end at Movable's start.
    """
    if zone == MOVABLE:
        if movable_start is None:
            return Span(0, 0)
        start, end = movable_start, min(extent.end, movable_end)
    else:
        start, end = clip(extent, limits[zone].start, limits[zone].end)
        if movable_start is not None:
            if start < movable_start < end:
                end = movable_start
            elif start >= movable_start:
                start = end
    if end < extent.start or start > extent.end:
        return Span(0, 0)
    start, end = max(start, extent.start), min(end, extent.end)
    return Span(start, end) if start < end else Span(0, 0)


def zone_layout(
    names: Sequence[str],
    limits: Mapping[str, Span],
    ranges: Sequence[NodeSpan],
    movable: Mapping[int, int],
    movable_from: str,
) -> tuple[ZoneLayout, ...]:
    """All zones of all nodes with memory.

    ``limits`` as of ``zone_ranges``; ``ranges``: memory in pages; ``movable``: as of
    ``movable_starts``, ``movable_from`` the zone it is cut from. Lower zones lie on the node
    that holds low memory, mostly the first; where low memory is spread over nodes each has its
    part.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``calculate_node_totalpages``; 5.10 to 7.3.
    Ignores: memory that comes and goes after boot, and ZONE_DEVICE, which only that fills.
    """
    layout: list[ZoneLayout] = []
    for node, extent in node_extents(ranges).items():
        for name in names:
            span = zone_span(name, limits, extent, movable.get(node), limits[movable_from].end)
            layout.append(
                ZoneLayout(
                    node=node,
                    zone=name,
                    start_pfn=span.start,
                    spanned_pages=span.size,
                    present_pages=span.size - absent_pages(ranges, span, node),
                )
            )
    return tuple(layout)
