"""The hand-over: what memblock gives to the buddy allocator, and in which blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from analysis.model.handover.memblock import Region, gaps
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_up, clip, whole_pages
from analysis.model.layout.zones import ZoneLayout

ZoneKey = tuple[int, str]


class Block(NamedTuple):
    """A free block of the buddy allocator."""

    pfn: int
    order: int


def handed_over(
    memory: Iterable[NodeSpan], reserved: Sequence[Region], page_bytes: int
) -> tuple[NodeSpan, ...]:
    """Page frames given to the buddy: memory without what is reserved, whole pages only.

    ``memory`` in pages, in order, each range with its node and without NOMAP regions;
    ``reserved`` in bytes, in order. A page of which a single byte is reserved stays reserved.

    Kernel: mm/memblock.c, ``free_low_memory_core_early`` and ``__free_memory_core``; 5.10 to 7.3.
        High memory is handed over with the rest (7.x) or by ``set_highmem_pages_init`` (i386) from
        the same lists.
    Ignores: memory above ``max_low_pfn`` on 32 bits; memory that a firmware has not accepted.
    """
    ranges: list[NodeSpan] = []
    for node, start, end in memory:
        for gap in gaps(reserved, Span(start * page_bytes, end * page_bytes)):
            pages = whole_pages(gap, page_bytes)
            if pages.size > 0:
                ranges.append(NodeSpan(node, pages.start, pages.end))
    return tuple(ranges)


def pages_by_zone(ranges: Iterable[NodeSpan], zones: Sequence[ZoneLayout]) -> Mapping[ZoneKey, int]:
    """How many pages of some ranges lie in each zone; a zone takes pages of its own node only.

    Kernel: mm/page_alloc.c, ``__free_pages_core``, which counts a block as managed by the zone
        that its page says; 5.10 to 7.3.
    Ignores: zones of one node that overlap (``kernelcore=mirror``).
    """
    counts = {(zone.node, zone.zone): 0 for zone in zones}
    for node, start, end in ranges:
        for zone in zones:
            if zone.node == node:
                part = clip(Span(start, end), zone.span.start, zone.span.end)
                counts[zone.node, zone.zone] += part.size
    return counts


def first_blocks(span: Span, max_order: int) -> Iterator[Block]:
    """The blocks in which a range of page frames comes to the buddy, lowest first.

    Each is the largest that the alignment of its first page allows and that still fits. Then each
    is freed, and merges with a free buddy as any other; blocks of the largest order stay as they
    are, and so do smaller ones whose buddy is not free.

    Kernel: mm/memblock.c, ``__free_pages_memory``; 5.10 (MAX_ORDER - 1), 6.1, 6.12, 7.2 and 7.3
        (MAX_PAGE_ORDER).
    Ignores: nothing known.
    """
    pfn = span.start
    while pfn < span.end:
        aligned = (pfn & -pfn).bit_length() - 1 if pfn else max_order
        order = min(max_order, aligned, (span.end - pfn).bit_length() - 1)
        yield Block(pfn, order)
        pfn += 1 << order


def first_deferred(
    memory: Iterable[NodeSpan], zones: Sequence[ZoneLayout], section_pages: int
) -> Mapping[int, int]:
    """The first page frame of each node whose struct page is left for later; nodes that have none
    are not in it.

    All of a node's zones but the one that ends the node are made at once. Of that one, more than
    a section of pages is, and it stops at the next begin of a section. The pages counted go on
    over holes, and start anew where the end of the zone is another one than before.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``defer_init``, from ``memmap_init``; 5.10 to 6.1
        (6.12 and later the same), CONFIG_DEFERRED_STRUCT_PAGE_INIT.
    Ignores: ``early_page_ext``, with which nothing is deferred; allocations that need more pages
        before the rest is made (``deferred_grow_zone``).
    """
    node_ends: dict[int, int] = {}
    for node, _, end in (memory := tuple(memory)):
        node_ends[node] = max(end, node_ends.get(node, 0))
    deferred: dict[int, int] = {}
    counted_end, counted = 0, 0
    for node, start, end in memory:
        for zone in zones:
            part = clip(Span(start, end), zone.span.start, zone.span.end)
            if zone.node != node or part.size <= 0 or zone.present_pages == 0:
                continue
            if zone.span.end != counted_end:
                counted_end, counted = zone.span.end, 0
            if zone.span.end < node_ends[node] or node in deferred:
                continue
            stop = align_up(part.start + max(0, section_pages - counted), section_pages)
            if stop < part.end:
                deferred[node] = stop
            else:
                counted += part.size
    return deferred


def free_at_once(
    ranges: Iterable[NodeSpan], deferred: Mapping[int, int], max_order: int
) -> Mapping[int, int]:
    """Free pages of each node right after the hand-over: those of blocks that are not deferred.

    Kernel: mm/page_alloc.c and mm/mm_init.c, ``memblock_free_pages``, which passes over a block
        whose first page is at or above the node's first deferred one; 5.10 to 7.3.
    Ignores: KMSAN, which keeps blocks for its shadow.
    """
    free: dict[int, int] = {}
    for node, start, end in ranges:
        limit = deferred.get(node)
        for block in first_blocks(Span(start, end), max_order):
            if limit is None or block.pfn < limit:
                free[node] = free.get(node, 0) + (1 << block.order)
    return free


def vmalloc_table_pages(*, five_levels: bool, aligned: bool) -> tuple[int, ...]:
    """Pages that x86_64 takes for page tables of the vmalloc area right after the hand-over: one
    for each entry of the top level that the area touches; one more where it does not begin at one.

    The area has 32 TiB with four levels of tables, of which an entry maps 512 GiB, and 12800 TiB
    with five, of which one maps 256 TiB. Where its begin is random (``aligned`` false) both
    counts are possible.

    Kernel: arch/x86/mm/init_64.c, ``preallocate_vmalloc_pages``; 5.10 and 6.1.
    Ignores: nothing known.
    """
    entries = 12800 // 256 if five_levels else 32 * 1024 // 512
    return (entries,) if aligned else (entries, entries + 1)
