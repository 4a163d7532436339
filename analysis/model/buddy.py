"""The buddy allocator's rules over one zone's free lists: split, coalesce, fall back."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.eras import Era
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists

FALLBACKS = {
    Migratetype.UNMOVABLE: (Migratetype.RECLAIMABLE, Migratetype.MOVABLE),
    Migratetype.MOVABLE: (Migratetype.RECLAIMABLE, Migratetype.UNMOVABLE),
    Migratetype.RECLAIMABLE: (Migratetype.UNMOVABLE, Migratetype.MOVABLE),
}
"""Where a type looks when its own lists are empty: ``fallbacks`` in mm/page_alloc.c, the same in
5.10, 6.1, 6.12 and 7.2. The other types have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """The kernel's choice depends on what the free lists do not show; nothing was changed."""

    reason: str


def expand(zone: ZoneFreeLists, block: FreeBlock, order: int) -> int:
    """Splits a block that is on no list down to ``order``; returns the first page of the rest.

    The upper halves go to the heads of their lists, the largest first.

    Kernel: mm/page_alloc.c, ``expand``; 5.10 to 7.2.
    Ignores: guard pages (CONFIG_DEBUG_PAGEALLOC).
    """
    for half in range(block.order - 1, order - 1, -1):
        upper = FreeBlock(pfn=block.pfn + (1 << half), order=half, migratetype=block.migratetype)
        zone.add(upper, to_tail=False)
    return block.pfn


def rmqueue_smallest(zone: ZoneFreeLists, order: int, migratetype: Migratetype) -> int | None:
    """Takes the head of the smallest sufficient list of this type; its first page, or None.

    Kernel: mm/page_alloc.c, ``__rmqueue_smallest``; 5.10 to 7.2.
    Ignores: lists of the per-cpu layer, which stand before this one.
    """
    for larger in range(order, zone.max_order + 1):
        block = zone.head(larger, migratetype)
        if block is not None:
            zone.remove(block)
            return expand(zone, block, order)
    return None


def find_fallback(zone: ZoneFreeLists, order: int, migratetype: Migratetype) -> FreeBlock | None:
    """The largest block, of at least ``order``, that another type could lend.

    Among types with a block of the same order the first of ``FALLBACKS`` wins.

    Kernel: mm/page_alloc.c, ``find_suitable_fallback`` and the descending loop of
        ``__rmqueue_fallback`` (``__rmqueue_claim`` in 7.2 and late 6.12); 5.10 to 7.2.
    Ignores: whether the block may be stolen, which the caller asks.
    """
    for larger in range(zone.max_order, order - 1, -1):
        for other in FALLBACKS.get(migratetype, ()):
            block = zone.head(larger, other)
            if block is not None:
                return block
    return None


def rmqueue(zone: ZoneFreeLists, order: int, migratetype: Migratetype) -> int | Ambiguous | None:
    """Takes ``2**order`` pages for ``migratetype``: the first page, or None when there are none.

    A borrowed block of at least a pageblock changes its pageblocks' type and its remainder stays
    with the borrower. Below a pageblock the kernel looks at how many pages of that pageblock are
    free or alike before it decides what moves: that answer is ``Ambiguous``, the lists unchanged.

    Kernel: mm/page_alloc.c, ``__rmqueue``, ``__rmqueue_fallback`` and ``steal_suitable_fallback``
        (``__rmqueue_claim`` and ``try_to_claim_block`` in 7.2); 5.10 to 7.2. ALLOC_NOFRAGMENT
        makes no difference here, since it only forbids borrowing below a pageblock.
    Ignores: CMA balancing (movable requests with CONFIG_CMA), the high-atomic reserve, orders
        above the pageblock order with ALLOC_NOFRAGMENT in 5.10; and that a movable request may
        borrow one small block alone, which could be told: it is called ambiguous too.
    """
    pfn = rmqueue_smallest(zone, order, migratetype)
    if pfn is not None:
        return pfn
    block = find_fallback(zone, order, migratetype)
    if block is None:
        return None
    if block.order < zone.pageblock_order:
        return Ambiguous(
            reason=f"no {migratetype.name.lower()} block of order {order} is left, and the largest "
            f"to borrow is a {block.migratetype.name.lower()} one of order {block.order}, below "
            f"the pageblock order {zone.pageblock_order}: what is borrowed with it depends on "
            f"the pageblock's content"
        )
    zone.remove(block)
    zone.set_pageblock_migratetype(block.pfn, block.order, migratetype)
    owned = FreeBlock(pfn=block.pfn, order=block.order, migratetype=migratetype)
    return expand(zone, owned, order)


def merge_likely(zone: ZoneFreeLists, block: FreeBlock) -> bool:
    """Whether the pair above this block could coalesce soon, which sends the block to the tail.

    Kernel: mm/page_alloc.c, ``buddy_merge_likely``; 5.10 to 7.2.
    Ignores: CONFIG_SHUFFLE_PAGE_ALLOCATOR, which tosses a coin at the largest order.
    """
    if block.order >= zone.max_order - 1:
        return False
    pair_pfn = block.pfn & ~(1 << block.order)
    return _free_buddy(zone, pair_pfn, block.order + 1) is not None


def free_one(
    zone: ZoneFreeLists,
    pfn: int,
    order: int,
    *,
    era: Era,
    migratetype: Migratetype | None = None,
    to_tail: bool | None = None,
    captured_order: int | None = None,
) -> FreeBlock:
    """Gives back ``2**order`` pages, coalescing as far as possible; the block that results.

    ``migratetype`` overrides the type of the pageblock, ``to_tail`` the end of the list at which
    the kernel would put the result. With ``captured_order`` a compaction under way takes the block
    as soon as it has grown to that order, and it lands on no list.

    Raises:
        ValueError: the pages are not aligned, not in the zone, or free already.

    Kernel: mm/page_alloc.c, ``__free_one_page``; 5.10 to 7.3, differing as ``Era`` says.
    Ignores: page reporting, guard pages (CONFIG_DEBUG_PAGEALLOC).
    """
    if pfn % (1 << order) or not (zone.spans(pfn) and zone.spans(pfn + (1 << order) - 1)):
        raise ValueError(f"page {pfn:#x} of order {order} is not an aligned block of the zone")
    if is_free(zone, pfn, order):
        raise ValueError(f"page {pfn:#x} of order {order} is free already, wholly or in part")

    if migratetype is None:
        migratetype = zone.pageblock_migratetype(pfn)
    while order < zone.max_order:
        if order == captured_order:
            return FreeBlock(pfn=pfn, order=order, migratetype=migratetype)
        buddy = _free_buddy(zone, pfn, order)
        if buddy is None:
            break
        if order >= zone.pageblock_order:
            buddy_type = zone.pageblock_migratetype(buddy.pfn)
            if buddy_type != migratetype:
                if not may_merge(migratetype, buddy_type, era):
                    break
                if era.merge_retypes:
                    zone.set_pageblock_migratetype(buddy.pfn, order, migratetype)
        zone.remove(buddy)
        pfn &= ~(1 << order)
        order += 1

    block = FreeBlock(pfn=pfn, order=order, migratetype=migratetype)
    zone.add(block, to_tail=merge_likely(zone, block) if to_tail is None else to_tail)
    return block


def may_merge(one: Migratetype, other: Migratetype, era: Era) -> bool:
    """Whether free buddies as large as a pageblock or larger become one block although their
    pageblocks are of different types.

    Kernel: mm/page_alloc.c, ``__free_one_page``; 5.10 to 7.3, differing as
        ``Era.merges_reserved`` says.
    Ignores: nothing known.
    """
    if era.merges_reserved:
        return Migratetype.ISOLATE not in (one, other)
    return one.mergeable and other.mergeable


def _free_buddy(zone: ZoneFreeLists, pfn: int, order: int) -> FreeBlock | None:
    buddy = zone.block_at(pfn ^ (1 << order))
    return buddy if buddy is not None and buddy.order == order else None


def is_free(zone: ZoneFreeLists, pfn: int, order: int) -> bool:
    """Whether any page of the range lies in a free block.

    Kernel: include/linux/page-flags.h, PageBuddy of the head page; 5.10 to 7.2.
    Ignores: pages on per-cpu lists, which are free to a user but not to the buddy.
    """
    for larger in range(zone.max_order + 1):
        block = zone.block_at(pfn & ~((1 << larger) - 1))
        if block is not None and block.pfn + (1 << block.order) > pfn:
            return True
    return any(zone.block_at(page) is not None for page in range(pfn + 1, pfn + (1 << order)))
