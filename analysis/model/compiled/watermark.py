"""Whether a zone may give a block away. Twin of ``analysis.model.allocator.watermark``."""

from __future__ import annotations

from typing import Any

from analysis.model.allocator.gfp import RESERVES, WMARK_MASK, Alloc, Gfp
from analysis.model.compiled.layout import (
    BOOST,
    BOOST_WAIVED_FOR_HIGH,
    HIGHATOMIC_COUNTS_FREE,
    MAX_ORDER,
    NR_FREE_HIGHATOMIC,
    NR_RESERVED_HIGHATOMIC,
    RESERVE,
    WATERMARK,
    ZONE_WORDS,
    ZONES_AT,
    Number,
    compiled,
)
from analysis.model.compiled.lists import head
from analysis.model.compiled.zone import CMA, HIGHATOMIC, RECLAIMABLE, cma_seen, free_seen

ALLOC_CMA, ALLOC_MIN_RESERVE = int(Alloc.CMA), int(Alloc.MIN_RESERVE)
ALLOC_NON_BLOCK, ALLOC_OOM = int(Alloc.NON_BLOCK), int(Alloc.OOM)
HIGHATOMIC_OR_OOM = int(Alloc.HIGHATOMIC | Alloc.OOM)
GFP_ATOMIC = int(Gfp.ATOMIC)


@compiled
def unusable_pages(m: Any, zone: int, order: int, alloc_flags: int) -> Number:
    pages = (1 << order) - 1
    at = ZONES_AT + zone * ZONE_WORDS
    if not alloc_flags & RESERVES:
        if m[HIGHATOMIC_COUNTS_FREE]:
            pages += m[at + NR_FREE_HIGHATOMIC]
        else:
            pages += m[at + NR_RESERVED_HIGHATOMIC]
    if not alloc_flags & ALLOC_CMA:
        pages += cma_seen(m, zone)
    return pages


@compiled
def watermark_ok(
    m: Any, zone: int, order: int, mark: int, highest_zone: int, alloc_flags: int, free_pages: int
) -> bool:
    left = free_pages - unusable_pages(m, zone, order, alloc_flags)
    floor = mark
    if alloc_flags & RESERVES:
        if alloc_flags & ALLOC_MIN_RESERVE:
            floor -= floor // 2
            if alloc_flags & ALLOC_NON_BLOCK:
                floor -= floor // 4
        if alloc_flags & ALLOC_OOM:
            floor -= floor // 2
    if left <= floor + m[ZONES_AT + zone * ZONE_WORDS + RESERVE + highest_zone]:
        return False
    if order == 0:
        return True
    for larger in range(order, m[MAX_ORDER] + 1):
        for migratetype in range(RECLAIMABLE + 1):
            if head(m, zone, larger, migratetype) >= 0:
                return True
        if alloc_flags & ALLOC_CMA and head(m, zone, larger, CMA) >= 0:
            return True
        if alloc_flags & HIGHATOMIC_OR_OOM and head(m, zone, larger, HIGHATOMIC) >= 0:
            return True
    return False


@compiled
def watermark_fast(
    m: Any, zone: int, order: int, mark: int, highest_zone: int, alloc_flags: int, gfp: int
) -> bool:
    at = ZONES_AT + zone * ZONE_WORDS
    free_pages = free_seen(m, zone)
    if order == 0:
        usable = free_pages - min(free_pages, unusable_pages(m, zone, 0, alloc_flags))
        if usable > mark + m[at + RESERVE + highest_zone]:
            return True
    if watermark_ok(m, zone, order, mark, highest_zone, alloc_flags, free_pages):
        return True
    waived = alloc_flags & ALLOC_MIN_RESERVE if m[BOOST_WAIVED_FOR_HIGH] else gfp & GFP_ATOMIC
    if order == 0 and waived and m[at + BOOST] and not alloc_flags & WMARK_MASK:
        least = m[at + WATERMARK]
        return watermark_ok(m, zone, 0, least, highest_zone, alloc_flags, free_pages)
    return False
