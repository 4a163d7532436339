"""Taking a block of a type from a zone's lists, and what happens when that type has none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from analysis.model.allocator.gfp import Alloc
from analysis.model.allocator.policy import Steal
from analysis.model.allocator.zone import ListMove, Zone
from analysis.model.buddy import FALLBACKS, expand
from analysis.model.freelist import FreeBlock, Migratetype


class Mode(IntEnum):
    """Where the last block of a bulk was found. Kernel: ``enum rmqueue_mode``; 6.12 to 7.3."""

    NORMAL = 0
    CMA = 1
    CLAIM = 2
    STEAL = 3


@dataclass(slots=True)
class Memory:
    """What a bulk remembers from one block to the next."""

    mode: Mode = Mode.NORMAL


def rmqueue(
    zone: Zone, order: int, migratetype: Migratetype, alloc_flags: int, memory: Memory
) -> tuple[int, Migratetype] | None:
    """Takes a block from the zone's lists: first page and the type of the list, or None.

    Kernel: mm/page_alloc.c, ``__rmqueue``; 6.1 to 7.3.
    Ignores: the trace point that tells how the block was had (mm_page_alloc_zone_locked).
    """
    cma = bool(alloc_flags & Alloc.CMA)
    if cma and zone.nr_free_cma.seen() > zone.nr_free.seen() // 2:
        pfn = zone.take_smallest(order, Migratetype.CMA)
        if pfn is not None:
            return pfn, Migratetype.CMA
    if zone.era.claims_then_steals:
        return _rmqueue_by_mode(zone, order, migratetype, alloc_flags, memory)
    while True:
        pfn = zone.take_smallest(order, migratetype)
        if pfn is not None:
            return pfn, migratetype
        if cma:
            pfn = zone.take_smallest(order, Migratetype.CMA)
            if pfn is not None:
                return pfn, Migratetype.CMA
        if not _fall_back(zone, order, migratetype, alloc_flags):
            return None


def can_give(zone: Zone, order: int, migratetype: Migratetype, alloc_flags: int) -> bool:
    """Whether ``rmqueue``, or a look into the high-atomic reserve, would find a block; changes
    nothing.

    Kernel: mm/page_alloc.c, ``__rmqueue`` and ``unreserve_highatomic_pageblock``, as conditions;
        6.1 to 7.3.
    Ignores: what else the kernel would do on the way (boosts, claimed pageblocks).
    """
    kinds = [migratetype]
    if alloc_flags & Alloc.CMA:
        kinds.append(Migratetype.CMA)
    if alloc_flags & (Alloc.HIGHATOMIC | Alloc.OOM | Alloc.NON_BLOCK):
        kinds.append(Migratetype.HIGHATOMIC)
    lists = zone.free
    lowest = _lowest_order(zone, order, alloc_flags)
    return any(
        lists.head(larger, kind) is not None
        for larger in range(order, lists.max_order + 1)
        for kind in kinds
    ) or any(
        lendable(zone, larger, migratetype) is not None
        for larger in range(lowest, lists.max_order + 1)
    )


def _rmqueue_by_mode(
    zone: Zone, order: int, migratetype: Migratetype, alloc_flags: int, memory: Memory
) -> tuple[int, Migratetype] | None:
    if memory.mode <= Mode.NORMAL:
        pfn = zone.take_smallest(order, migratetype)
        if pfn is not None:
            return pfn, migratetype
    if memory.mode <= Mode.CMA and alloc_flags & Alloc.CMA:
        pfn = zone.take_smallest(order, Migratetype.CMA)
        if pfn is not None:
            memory.mode = Mode.CMA
            return pfn, Migratetype.CMA
    if memory.mode <= Mode.CLAIM:
        pfn = _claim(zone, order, migratetype, alloc_flags)
        if pfn is not None:
            memory.mode = Mode.NORMAL
            return pfn, migratetype
    if not alloc_flags & Alloc.NOFRAGMENT:
        stolen = _steal(zone, order, migratetype)
        if stolen is not None:
            memory.mode = Mode.STEAL
            return stolen
    return None


def lendable(zone: Zone, order: int, migratetype: Migratetype) -> FreeBlock | None:
    """The head of the first list of this very order that another type could lend from.

    Kernel: mm/page_alloc.c, ``find_suitable_fallback``; 6.1 to 7.3.
    Ignores: MIGRATE_CMA and MIGRATE_ISOLATE, which never lend through this path.
    """
    others = FALLBACKS.get(migratetype, ())
    for other in reversed(others) if zone.policy.fallback_reversed else others:
        block = zone.free.head(order, other)
        if block is not None:
            return block
    return None


def _turned(zone: Zone, block: FreeBlock) -> FreeBlock:
    """The block to borrow, after turning its list where compaction may have."""
    if not zone.rotated:
        return block
    return zone.turn(block, zone.heads_borrowed[zone.borrowed : zone.borrowed + 1])


def _turned_to_claim(zone: Zone, block: FreeBlock, migratetype: Migratetype) -> FreeBlock:
    """The block whose pageblock to claim, after turning its list where compaction may have.

    The trace tells the page that was taken in the end. Where its pageblock has a block as large as
    those looked at, and on their list, that one was found; where it has none, the one found was
    not to be had.

    Kernel: mm/page_alloc.c, ``__rmqueue_claim``, which traces the page last; 6.12 to 7.3.
    """
    order, lender = block.order, block.migratetype
    there = zone.rotated.get((order, lender))
    taken = zone.heads_borrowed[zone.borrowed : zone.borrowed + 1]
    if there is None or not taken:
        return block
    if order >= zone.free.pageblock_order:
        return zone.turn(block, taken)
    start = zone.pageblock_start(taken[0])
    for found in zone.free_blocks_between(start, start + (1 << zone.free.pageblock_order)):
        if found.pfn in there and (found.order, found.migratetype) == (order, lender):
            return zone.turn(block, (found.pfn,))
    if zone.pageblock_start(block.pfn) != start and _claimable(zone, block, migratetype):
        for pfn in zone.free.pfns(order, lender):
            other = FreeBlock(pfn=pfn, order=order, migratetype=lender)
            if pfn in there and not _claimable(zone, other, migratetype):
                return zone.turn(block, (pfn,))
    return block


def takes_whole_pageblock(zone: Zone, order: int, migratetype: Migratetype) -> bool:
    """Whether a fallback to a block of this order may take more of its pageblock.

    Kernel: mm/page_alloc.c, ``can_steal_fallback`` (6.1, 6.12), ``should_try_claim_block`` (7.2,
        7.3).
    Ignores: machines too small to group pages by mobility (page_group_by_mobility_disabled).
    """
    steal = zone.policy.steal
    if steal is not Steal.KERNEL:
        return steal is Steal.ALWAYS or order >= zone.free.pageblock_order
    return (
        order >= zone.free.pageblock_order // 2
        or migratetype is Migratetype.RECLAIMABLE
        or migratetype is Migratetype.UNMOVABLE
    )


def boost_watermark(zone: Zone, alloc_flags: int) -> None:
    """Raises the zone's watermarks after a fallback below a pageblock, so that kswapd works.

    Kernel: mm/page_alloc.c, ``boost_watermark``; 6.1 to 7.3.
    Ignores: nothing known.
    """
    pageblock_pages = 1 << zone.free.pageblock_order
    if not zone.boost_factor or pageblock_pages * 4 > zone.managed_pages:
        return
    largest = zone.watermarks[2] * zone.boost_factor // 10000
    if not largest:
        return
    largest = max(pageblock_pages, largest)
    zone.watermark_boost = min(zone.watermark_boost + pageblock_pages, largest)
    if alloc_flags & Alloc.KSWAPD:
        zone.boosted = True


def _lowest_order(zone: Zone, order: int, alloc_flags: int) -> int:
    if alloc_flags & Alloc.NOFRAGMENT:
        return max(order, zone.free.pageblock_order)
    return order


def _alike_pages(
    zone: Zone, migratetype: Migratetype, lender: Migratetype, free_pages: int, movable_pages: int
) -> int:
    """Allocated pages of a pageblock that suit the borrower.

    Kernel: ``steal_suitable_fallback`` (6.1), ``try_to_steal_block``, ``try_to_claim_block``.
    """
    if migratetype is Migratetype.MOVABLE:
        return movable_pages
    if lender is Migratetype.MOVABLE:
        return (1 << zone.free.pageblock_order) - (free_pages + movable_pages)
    return 0


def _mostly_alike(zone: Zone, pages: int) -> bool:
    """Whether so many free or suitable pages make a pageblock change its type."""
    return zone.policy.steal is Steal.ALWAYS or pages >= 1 << (zone.free.pageblock_order - 1)


def _fall_back(zone: Zone, order: int, migratetype: Migratetype, alloc_flags: int) -> bool:
    """Moves a block of another type, with or without its pageblock, to this type's lists.

    Kernel: mm/page_alloc.c, ``__rmqueue_fallback``; 6.1.
    """
    lists = zone.free
    lowest = _lowest_order(zone, order, alloc_flags)
    block: FreeBlock | None = None
    for larger in range(lists.max_order, lowest - 1, -1):
        block = lendable(zone, larger, migratetype)
        if block is None:
            continue
        if (
            not takes_whole_pageblock(zone, larger, migratetype)
            and (migratetype is Migratetype.MOVABLE or zone.policy.steal is Steal.NEVER)
            and larger > order
        ):
            # The rest of the pageblock stays with its owner: take the smallest block then.
            smaller = (
                lendable(zone, fit, migratetype) for fit in range(order, lists.max_order + 1)
            )
            block = next(found for found in smaller if found is not None)
        break
    if block is None:
        return False
    block = _turned(zone, block)
    zone.borrowed += 1
    _borrow(zone, block, migratetype, alloc_flags)
    zone.fell_back(block.pfn, order, block, migratetype)
    return True


def _borrow(zone: Zone, block: FreeBlock, migratetype: Migratetype, alloc_flags: int) -> None:
    """Kernel: mm/page_alloc.c, ``steal_suitable_fallback``; 6.1."""
    lists = zone.free
    lender = lists.pageblock_migratetype(block.pfn)
    if lender is Migratetype.HIGHATOMIC:
        zone.move_block(block, migratetype)
        return
    if block.order >= lists.pageblock_order:
        lists.set_pageblock_migratetype(block.pfn, block.order, migratetype)
        zone.move_block(block, migratetype)
        return
    boost_watermark(zone, alloc_flags)
    if not takes_whole_pageblock(zone, block.order, migratetype):
        zone.move_block(block, migratetype)
        return
    start = zone.pageblock_start(block.pfn)
    end = start + (1 << lists.pageblock_order)
    movable_pages = 0
    if lists.spans(end - 1):
        first = start if lists.spans(start) else block.pfn
        movable_pages = zone.movable_between(first, end)
    free_pages = zone.move_pageblock(block.pfn, migratetype)
    if not free_pages:
        zone.move_block(block, migratetype)
        return
    alike = _alike_pages(zone, migratetype, lender, free_pages, movable_pages)
    if _mostly_alike(zone, free_pages + alike):
        lists.set_pageblock_migratetype(block.pfn, 0, migratetype)


def _claim(zone: Zone, order: int, migratetype: Migratetype, alloc_flags: int) -> int | None:
    """Takes over whole pageblocks of another type, the largest block's first.

    Kernel: mm/page_alloc.c, ``__rmqueue_claim`` with ``try_to_steal_block`` (6.12) or
        ``try_to_claim_block`` (7.2, 7.3).
    """
    for larger in range(zone.free.max_order, _lowest_order(zone, order, alloc_flags) - 1, -1):
        block = lendable(zone, larger, migratetype)
        if block is None:
            continue
        if not takes_whole_pageblock(zone, larger, migratetype):
            break
        block = _turned_to_claim(zone, block, migratetype)
        pfn = _claim_block(zone, block, order, migratetype, alloc_flags)
        if pfn is not None:
            zone.borrowed += 1
            zone.fell_back(pfn, order, block, migratetype)
            return pfn
    return None


def _claimable(zone: Zone, block: FreeBlock, migratetype: Migratetype) -> bool:
    """Whether the pageblock of a block smaller than it can be claimed."""
    lists = zone.free
    lender = lists.pageblock_migratetype(block.pfn)
    if lender is Migratetype.HIGHATOMIC:
        return False
    start = zone.pageblock_start(block.pfn)
    end = start + (1 << lists.pageblock_order)
    if not (lists.spans(start) and lists.spans(end - 1)):
        return False
    free_pages = sum(1 << found.order for found in zone.free_blocks_between(start, end))
    movable_pages = zone.movable_between(start, end)
    alike = _alike_pages(zone, migratetype, lender, free_pages, movable_pages)
    return _mostly_alike(zone, free_pages + alike)


def _claim_block(
    zone: Zone, block: FreeBlock, order: int, migratetype: Migratetype, alloc_flags: int
) -> int | None:
    lists = zone.free
    lender = lists.pageblock_migratetype(block.pfn)
    if lender is Migratetype.HIGHATOMIC:
        return None
    if block.order >= lists.pageblock_order:
        lists.remove(block)
        zone.account(-(1 << block.order), lender)
        lists.set_pageblock_migratetype(block.pfn, block.order, migratetype)
        owned = FreeBlock(pfn=block.pfn, order=block.order, migratetype=migratetype)
        expand(lists, owned, order)
        zone.account((1 << block.order) - (1 << order), migratetype)
        zone.moves.append((ListMove.LOCKED, block.pfn, order))
        return block.pfn
    boost_watermark(zone, alloc_flags)
    if not _claimable(zone, block, migratetype):
        return None
    zone.move_pageblock(block.pfn, migratetype)
    return zone.take_smallest(order, migratetype)


def _steal(zone: Zone, order: int, migratetype: Migratetype) -> tuple[int, Migratetype] | None:
    """Takes the smallest sufficient block of another type, and leaves the rest where it is.

    Kernel: mm/page_alloc.c, ``__rmqueue_steal``; 6.12 to 7.3.
    """
    for larger in range(order, zone.free.max_order + 1):
        block = lendable(zone, larger, migratetype)
        if block is None:
            continue
        block = _turned(zone, block)
        zone.borrowed += 1
        zone.free.remove(block)
        expand(zone.free, block, order)
        zone.account(-(1 << order), block.migratetype)
        zone.moves.append((ListMove.LOCKED, block.pfn, order))
        zone.fell_back(block.pfn, order, block, migratetype)
        return block.pfn, block.migratetype
    return None
