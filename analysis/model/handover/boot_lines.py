"""What the kernel says of its memory while it boots: totals and holes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_down, align_up, clip
from analysis.model.layout.zones import ZoneLayout


class Unavailable(NamedTuple):
    """Pages of memmap that stand for no memory, told of one zone."""

    node: int
    zone: str
    pages: int


def managed_before_handover(
    present_pages: int, memmap_pages: int, *, reserved_pages: int = 0, highmem: bool = False
) -> int:
    """What a zone counts as managed until memory is handed over: present pages without its memmap.

    ``memmap_pages`` as of ``zone_memmap_pages``: the kernel's guess; not taken off where it is
    more than the zone has, nor from high memory. ``reserved_pages``: what x86_64 found reserved
    below 16 MiB, taken off the first zone (of every node) where that has more.

    Kernel: mm/page_alloc.c (mm_init.c from 6.4), ``free_area_init_core``; 5.10 and 6.1; from 6.10
        all present pages count.
    Ignores: nothing known.
    """
    pages = present_pages
    if not highmem and pages >= memmap_pages:
        pages -= memmap_pages
    if pages > reserved_pages:
        pages -= reserved_pages
    return pages


def unavailable_ranges(
    memory: Iterable[NodeSpan],
    zones: Sequence[ZoneLayout],
    *,
    end_align: int,
    block_pages: int,
    valid: Callable[[int], bool],
) -> tuple[Unavailable, ...]:
    """Holes that have a memmap, in the order told: before each part of a zone the frames since the
    last one, and after all memory those up to a multiple of ``end_align``.

    ``valid(pfn)``: whether a frame, the first of a pageblock of ``block_pages``, has a struct page.
    ``end_align``: pages of a section; 1 with FLATMEM, where nothing is told behind all memory.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``memmap_init`` and ``init_unavailable_range``;
        5.10 stable, 6.1, 6.12, 7.2 and 7.3; with FLATMEM from 5.14.
    Ignores: nothing known.
    """
    told: list[Unavailable] = []
    hole = end = 0
    last: ZoneLayout | None = None
    for node, start, end in memory:
        for zone in zones:
            if zone.node != node or zone.present_pages == 0:
                continue
            part = clip(Span(start, end), zone.span.start, zone.span.end)
            if part.size > 0:
                _tell(told, Span(hole, part.start), zone, block_pages, valid)
                hole = part.end
            last = zone
    if last is not None:
        _tell(told, Span(hole, align_up(end, end_align)), last, block_pages, valid)
    return tuple(told)


def _tell(
    told: list[Unavailable],
    hole: Span,
    zone: ZoneLayout,
    block_pages: int,
    valid: Callable[[int], bool],
) -> None:
    pages = 0
    for block in range(align_down(hole.start, block_pages), hole.end, block_pages):
        if valid(block):
            pages += clip(hole, block, block + block_pages).size
    if pages:
        told.append(Unavailable(zone.node, zone.zone, pages))
