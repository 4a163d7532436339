"""The buddy's free lists right after the hand-over, before anything was taken from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.model.buddy import free_one
from analysis.model.eras import Era
from analysis.model.freelist import Migratetype, ZoneFreeLists
from analysis.model.handover.freed import first_blocks
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_up, clip
from analysis.model.layout.zones import ZoneLayout


def first_lists(
    zone: ZoneLayout,
    memory: Sequence[NodeSpan],
    ranges: Iterable[NodeSpan],
    deferred: Mapping[int, int],
    *,
    max_order: int,
    pageblock_order: int,
    era: Era,
) -> ZoneFreeLists:
    """The free lists of a zone after the hand-over, each in list order.

    ``memory`` in pages; ``ranges`` as of ``handed_over``, ``deferred`` as of ``first_deferred``.
    The blocks of a range come one after the other from its first page on; each coalesces as far
    as it can, and what results goes to the tail of its list. Pageblocks are movable, but for
    those whose first page is no memory: nobody gives them a type, so that they stay unmovable.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``memmap_init_range``; mm/memblock.c,
        ``__free_pages_memory``; mm/page_alloc.c, ``__free_pages_core``, which frees with
        FPI_TO_TAIL; 5.10, 6.1, 6.12, 7.2 and 7.3 (6.10 and later free a block above the
        pageblock order one pageblock after the other, which ends the same).
    Ignores: page shuffling (``page_alloc.shuffle``), which comes later; KMSAN; scratch memory of a
        kexec hand-over, whose pageblocks are of the CMA type.
    """
    lists = ZoneFreeLists(
        start_pfn=zone.start_pfn,
        spanned_pages=zone.spanned_pages,
        max_order=max_order,
        pageblock_order=pageblock_order,
    )
    size = 1 << pageblock_order
    typed = {
        pfn
        for node, start, end in memory
        if node == zone.node
        for part in [clip(Span(start, end), zone.span.start, zone.span.end)]
        for pfn in range(align_up(part.start, size), part.end, size)
    }
    for pfn in range(zone.start_pfn // size * size, zone.span.end, size):
        if pfn not in typed:
            lists.set_pageblock_migratetype(max(pfn, zone.start_pfn), 0, Migratetype.UNMOVABLE)
    limit = deferred.get(zone.node)
    for node, start, end in ranges:
        if node != zone.node or end <= zone.span.start or zone.span.end <= start:
            continue
        for block in first_blocks(Span(start, end), max_order):
            late = limit is not None and block.pfn >= limit
            if lists.spans(block.pfn) and not late:
                free_one(lists, block.pfn, block.order, era=era, to_tail=True)
    return lists
