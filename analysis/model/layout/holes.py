"""Struct pages that stand for no memory: holes within what the memmap covers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_down, align_up, clip
from analysis.model.layout.sections import present_sections
from analysis.model.layout.zones import ZoneLayout

Key = tuple[int, str]
Covered = Callable[[Span], tuple[Span, ...]]
"""The parts of a hole that have struct pages."""


def covered_by_sections(ranges: Sequence[NodeSpan], section_pages: int) -> Covered:
    """Frames of sections with memory.

    Kernel: include/linux/mmzone.h, ``pfn_valid`` of SPARSEMEM; 5.10 to 7.3 (on arm64 from
        5.14).
    Ignores: nothing known.
    """
    present = present_sections(ranges, section_pages)

    def parts(hole: Span) -> tuple[Span, ...]:
        edges = {hole.start // section_pages, (hole.end - 1) // section_pages}
        spans = (Span(n * section_pages, (n + 1) * section_pages) for n in edges if n in present)
        return tuple(clip(hole, span.start, span.end) for span in spans)

    return parts


def covered_by_flatmem(end_pfn: int) -> Covered:
    """Every frame below the end of memory.

    Kernel: include/asm-generic/memory_model.h, ``pfn_valid`` of FLATMEM; 5.10 to 7.3.
    Ignores: architectures whose memory does not begin near 0.
    """
    return lambda hole: (clip(hole, 0, end_pfn),)


def covered_by_memory(ranges: Sequence[NodeSpan], block_pages: int) -> Covered:
    """Frames of pageblocks that begin with memory: those that follow it.

    Kernel: arch/arm64/mm/init.c, ``pfn_valid`` to 5.13, asked of a pageblock's first frame.
    Ignores: memory that is mapped for nobody.
    """

    def parts(hole: Span) -> tuple[Span, ...]:
        first = align_down(hole.start, block_pages)
        begins = any(piece.start <= first < piece.end for piece in ranges)
        return (clip(hole, first, first + block_pages),) if begins else ()

    return parts


def unavailable_pages(
    zones: Sequence[ZoneLayout],
    ranges: Sequence[NodeSpan],
    covered: Covered,
    *,
    memmap_unit_pages: int | None,
) -> dict[Key, int]:
    """Struct pages that the kernel sets up for holes, by node and zone.

    A hole's struct pages count for the zone of the memory behind it, those behind all memory for
    the highest zone of the last node, up to a whole ``memmap_unit_pages`` (None: to none).

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``memmap_init`` and ``init_unavailable_range``;
        5.10 stable and 5.12 to 7.3.
    Ignores: nothing known.
    """
    found: dict[Key, int] = {}
    for hole, key in _holes(zones, ranges, memmap_unit_pages):
        if hole.size > 0:
            pages = sum(max(0, part.size) for part in covered(hole))
            if pages:
                found[key] = found.get(key, 0) + pages
    return found


def _holes(
    zones: Sequence[ZoneLayout], ranges: Sequence[NodeSpan], unit: int | None
) -> Iterator[tuple[Span, Key]]:
    behind = 0
    key: Key = (0, "")
    for piece in ranges:
        for zone in (z for z in zones if z.node == piece.node and z.present_pages):
            key = (zone.node, zone.zone)
            part = clip(piece.span, zone.span.start, zone.span.end)
            if part.size > 0:
                yield Span(behind, part.start), key
                behind = part.end
    if ranges and unit is not None:
        yield Span(behind, align_up(ranges[-1].end, unit)), key
