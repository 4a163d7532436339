"""Whether a zone may give a block away: the checks at the time of the request."""

from __future__ import annotations

from analysis.model.allocator.gfp import RESERVES, WMARK_MASK, Alloc, Gfp
from analysis.model.allocator.zone import Zone
from analysis.model.freelist import Migratetype

_ORDINARY = (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)


def unusable_pages(zone: Zone, order: int, alloc_flags: int) -> int:
    """Free pages that do not count for this request.

    Kernel: mm/page_alloc.c, ``__zone_watermark_unusable_free``; 6.1 leaves out all pages of the
        high-atomic reserve, 6.12 to 7.3 the free ones.
    Ignores: unaccepted memory of confidential guests.
    """
    pages = (1 << order) - 1
    if not alloc_flags & RESERVES:
        if zone.era.highatomic_counts_free:
            pages += zone.nr_free_highatomic
        else:
            pages += zone.nr_reserved_highatomic
    if not alloc_flags & Alloc.CMA:
        pages += zone.nr_free_cma.seen()
    return pages


def watermark_ok(
    zone: Zone, order: int, mark: int, highest_zone: int, alloc_flags: int, free_pages: int
) -> bool:
    """Enough pages above the mark, and a block of the order on a list the request may use.

    Kernel: mm/page_alloc.c, ``__zone_watermark_ok``; 6.1 to 7.3.
    Ignores: nothing known.
    """
    left = free_pages - unusable_pages(zone, order, alloc_flags)
    floor = mark
    if alloc_flags & RESERVES:
        if alloc_flags & Alloc.MIN_RESERVE:
            floor -= floor // 2
            if alloc_flags & Alloc.NON_BLOCK:
                floor -= floor // 4
        if alloc_flags & Alloc.OOM:
            floor -= floor // 2
    if left <= floor + zone.lowmem_reserve[highest_zone]:
        return False
    if order == 0:
        return True
    types = list(_ORDINARY)
    if alloc_flags & Alloc.CMA:
        types.append(Migratetype.CMA)
    if alloc_flags & (Alloc.HIGHATOMIC | Alloc.OOM):
        types.append(Migratetype.HIGHATOMIC)
    return any(
        zone.free.head(larger, migratetype) is not None
        for larger in range(order, zone.free.max_order + 1)
        for migratetype in types
    )


def watermark_fast(
    zone: Zone, order: int, mark: int, highest_zone: int, alloc_flags: int, gfp: int
) -> bool:
    """The check of every attempt to allocate.

    Kernel: mm/page_alloc.c, ``zone_watermark_fast``; 6.1 to 7.3. Its short cut for single pages
        is a stricter form of the full check for requests without a right to reserves, but decides
        for those with one.
    Ignores: nothing known.
    """
    free_pages = zone.nr_free.seen()
    if order == 0:
        usable = free_pages - min(free_pages, unusable_pages(zone, 0, alloc_flags))
        if usable > mark + zone.lowmem_reserve[highest_zone]:
            return True
    if watermark_ok(zone, order, mark, highest_zone, alloc_flags, free_pages):
        return True
    waived = alloc_flags & Alloc.MIN_RESERVE if zone.era.boost_waived_for_high else gfp & Gfp.ATOMIC
    if order == 0 and waived and zone.watermark_boost and not alloc_flags & WMARK_MASK:
        return watermark_ok(zone, 0, zone.watermarks[0], highest_zone, alloc_flags, free_pages)
    return False
