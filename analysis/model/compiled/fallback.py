"""What happens when a type has no block left. Twin of ``analysis.model.allocator.fallback``."""

from __future__ import annotations

from typing import Any

from analysis.model.allocator.fallback import Mode
from analysis.model.allocator.gfp import Alloc
from analysis.model.compiled.layout import (
    BLOCK_FREE,
    BLOCK_MOVABLE,
    BOOST,
    BOOST_FACTOR,
    BOOSTED,
    BORROWED,
    CLAIMS_THEN_STEALS,
    EXTFRAGS,
    HEADS_AT,
    HEADS_BORROWED,
    HEADS_TAKEN,
    LIST,
    MANAGED,
    MAX_ORDER,
    MODE,
    NEXT,
    PAGEBLOCK_ORDER,
    PAGES,
    ROTATED,
    ROW,
    WATERMARK,
    ZONE_WORDS,
    ZONES_AT,
    Number,
    compiled,
)
from analysis.model.compiled.lists import (
    block_order,
    block_type,
    head,
    pageblock_type,
    remove,
    set_pageblock_type,
    spans,
    was_seen,
)
from analysis.model.compiled.zone import (
    CMA,
    HIGHATOMIC,
    MOVABLE,
    RECLAIMABLE,
    UNMOVABLE,
    account,
    block_words,
    cma_seen,
    expand,
    free_seen,
    movable_between,
    move_block,
    move_pageblock,
    note_locked,
    pageblock_start,
    take_smallest,
    turn,
    turned_for_borrowing,
)

NORMAL_MODE, CMA_MODE = int(Mode.NORMAL), int(Mode.CMA)
CLAIM_MODE, STEAL_MODE = int(Mode.CLAIM), int(Mode.STEAL)
ALLOC_CMA, ALLOC_KSWAPD = int(Alloc.CMA), int(Alloc.KSWAPD)
ALLOC_NOFRAGMENT = int(Alloc.NOFRAGMENT)
RESERVE_FLAGS = int(Alloc.HIGHATOMIC | Alloc.OOM | Alloc.NON_BLOCK)

FOUND_TYPE = 3
"""A block found is given as page << FOUND_TYPE | type of its list."""


@compiled
def rmqueue(m: Any, zone: int, order: int, migratetype: int, alloc_flags: int) -> Number:
    """Takes a block from the zone's lists: page << ``FOUND_TYPE`` | type, or -1.

    What a bulk remembers is the word ``MODE``; the caller resets it.
    """
    cma = alloc_flags & ALLOC_CMA
    if cma and cma_seen(m, zone) > free_seen(m, zone) // 2:
        page = take_smallest(m, zone, order, CMA)
        if page >= 0:
            return page << FOUND_TYPE | CMA
    if m[CLAIMS_THEN_STEALS]:
        return _rmqueue_by_mode(m, zone, order, migratetype, alloc_flags)
    while True:
        page = take_smallest(m, zone, order, migratetype)
        if page >= 0:
            return page << FOUND_TYPE | migratetype
        if cma:
            page = take_smallest(m, zone, order, CMA)
            if page >= 0:
                return page << FOUND_TYPE | CMA
        if not _fall_back(m, zone, order, migratetype, alloc_flags):
            return -1


@compiled
def _rmqueue_by_mode(m: Any, zone: int, order: int, migratetype: int, alloc_flags: int) -> Number:
    if m[MODE] <= NORMAL_MODE:
        page = take_smallest(m, zone, order, migratetype)
        if page >= 0:
            return page << FOUND_TYPE | migratetype
    if m[MODE] <= CMA_MODE and alloc_flags & ALLOC_CMA:
        page = take_smallest(m, zone, order, CMA)
        if page >= 0:
            m[MODE] = CMA_MODE
            return page << FOUND_TYPE | CMA
    if m[MODE] <= CLAIM_MODE:
        page = _claim(m, zone, order, migratetype, alloc_flags)
        if page >= 0:
            m[MODE] = NORMAL_MODE
            return page << FOUND_TYPE | migratetype
    if not alloc_flags & ALLOC_NOFRAGMENT:
        stolen = _steal(m, zone, order, migratetype)
        if stolen >= 0:
            m[MODE] = STEAL_MODE
            return stolen
    return -1


@compiled
def lendable(m: Any, zone: int, order: int, migratetype: int) -> Number:
    """The head of the first list of this very order that another type could lend from, or -1."""
    if migratetype > RECLAIMABLE:
        return -1
    first = RECLAIMABLE if migratetype != RECLAIMABLE else UNMOVABLE
    page = head(m, zone, order, first)
    if page >= 0:
        return page
    return head(m, zone, order, UNMOVABLE if migratetype == MOVABLE else MOVABLE)


@compiled
def takes_whole_pageblock(m: Any, order: int, migratetype: int) -> bool:
    return bool(order >= m[PAGEBLOCK_ORDER] // 2 or migratetype in (RECLAIMABLE, UNMOVABLE))


@compiled
def boost_watermark(m: Any, zone: int, alloc_flags: int) -> None:
    at = ZONES_AT + zone * ZONE_WORDS
    pageblock_pages = 1 << m[PAGEBLOCK_ORDER]
    if not m[at + BOOST_FACTOR] or pageblock_pages * 4 > m[at + MANAGED]:
        return
    largest = m[at + WATERMARK + 2] * m[at + BOOST_FACTOR] // 10000
    if not largest:
        return
    largest = max(pageblock_pages, largest)
    m[at + BOOST] = min(m[at + BOOST] + pageblock_pages, largest)
    if alloc_flags & ALLOC_KSWAPD:
        m[at + BOOSTED] = 1


@compiled
def _lowest_order(m: Any, order: int, alloc_flags: int) -> Number:
    if alloc_flags & ALLOC_NOFRAGMENT:
        return max(order, m[PAGEBLOCK_ORDER])
    return order


@compiled
def can_give(m: Any, zone: int, order: int, migratetype: int, alloc_flags: int) -> bool:
    """Whether ``rmqueue``, or a look into the high-atomic reserve, would find a block; changes
    nothing."""
    reserve = alloc_flags & RESERVE_FLAGS
    lowest = _lowest_order(m, order, alloc_flags)
    for larger in range(order, m[MAX_ORDER] + 1):
        if head(m, zone, larger, migratetype) >= 0:
            return True
        if alloc_flags & ALLOC_CMA and head(m, zone, larger, CMA) >= 0:
            return True
        if reserve and head(m, zone, larger, HIGHATOMIC) >= 0:
            return True
        if larger >= lowest and lendable(m, zone, larger, migratetype) >= 0:
            return True
    return False


@compiled
def _turned(m: Any, zone: int, page: int) -> Number:
    """The block to borrow, after turning its list where compaction may have."""
    if not m[ROTATED]:
        return page
    return turned_for_borrowing(m, zone, page)


@compiled
def _alike_pages(
    m: Any, migratetype: int, lender: int, free_pages: int, movable_pages: int
) -> Number:
    if migratetype == MOVABLE:
        return movable_pages
    if lender == MOVABLE:
        return (1 << m[PAGEBLOCK_ORDER]) - (free_pages + movable_pages)
    return 0


@compiled
def _fall_back(m: Any, zone: int, order: int, migratetype: int, alloc_flags: int) -> bool:
    """Moves a block of another type, with or without its pageblock, to this type's lists."""
    lowest = _lowest_order(m, order, alloc_flags)
    page = -1
    for larger in range(m[MAX_ORDER], lowest - 1, -1):
        page = lendable(m, zone, larger, migratetype)
        if page < 0:
            continue
        if (
            not takes_whole_pageblock(m, larger, migratetype)
            and migratetype == MOVABLE
            and larger > order
        ):
            for fit in range(order, m[MAX_ORDER] + 1):
                page = lendable(m, zone, fit, migratetype)
                if page >= 0:
                    break
        break
    if page < 0:
        return False
    page = _turned(m, zone, page)
    at = ZONES_AT + zone * ZONE_WORDS
    m[at + BORROWED] += 1
    m[at + EXTFRAGS] += 1
    lender = pageblock_type(m, page)
    if lender == HIGHATOMIC:
        move_block(m, zone, page, migratetype)
        return True
    larger = block_order(m, zone, page)
    if larger >= m[PAGEBLOCK_ORDER]:
        set_pageblock_type(m, page, larger, migratetype)
        move_block(m, zone, page, migratetype)
        return True
    boost_watermark(m, zone, alloc_flags)
    if not takes_whole_pageblock(m, larger, migratetype):
        move_block(m, zone, page, migratetype)
        return True
    start = pageblock_start(m, page)
    end = start + (1 << m[PAGEBLOCK_ORDER])
    movable_pages = 0
    if spans(m, zone, end - 1):
        movable_pages = movable_between(m, start if spans(m, zone, start) else page, end)
    free_pages = move_pageblock(m, zone, page, migratetype)
    if not free_pages:
        move_block(m, zone, page, migratetype)
        return True
    alike = _alike_pages(m, migratetype, lender, free_pages, movable_pages)
    if free_pages + alike >= 1 << (m[PAGEBLOCK_ORDER] - 1):
        set_pageblock_type(m, page, 0, migratetype)
    return True


@compiled
def _claim(m: Any, zone: int, order: int, migratetype: int, alloc_flags: int) -> Number:
    """Takes over whole pageblocks of another type, the largest block's first; a page or -1."""
    lowest = _lowest_order(m, order, alloc_flags)
    for larger in range(m[MAX_ORDER], lowest - 1, -1):
        page = lendable(m, zone, larger, migratetype)
        if page < 0:
            continue
        if not takes_whole_pageblock(m, larger, migratetype):
            break
        if m[ROTATED]:
            page = _turned_to_claim(m, zone, page, larger, migratetype)
        taken = _claim_block(m, zone, page, larger, order, migratetype, alloc_flags)
        if taken >= 0:
            at = ZONES_AT + zone * ZONE_WORDS
            m[at + BORROWED] += 1
            m[at + EXTFRAGS] += 1
            return taken
    return -1


@compiled
def _claimable(m: Any, zone: int, page: int, migratetype: int) -> bool:
    """Whether the pageblock of a block smaller than it can be claimed."""
    lender = pageblock_type(m, page)
    start = pageblock_start(m, page)
    end = start + (1 << m[PAGEBLOCK_ORDER])
    if lender == HIGHATOMIC or not (spans(m, zone, start) and spans(m, zone, end - 1)):
        return False
    block = block_words(m, page)
    free_pages = m[block + BLOCK_FREE]
    alike = _alike_pages(m, migratetype, lender, free_pages, m[block + BLOCK_MOVABLE])
    return bool(free_pages + alike >= 1 << (m[PAGEBLOCK_ORDER] - 1))


@compiled
def _turned_to_claim(m: Any, zone: int, page: int, order: int, migratetype: int) -> Number:
    """The block whose pageblock to claim, after turning its list where compaction may have."""
    borrowed = m[ZONES_AT + zone * ZONE_WORDS + BORROWED]
    if borrowed >= m[HEADS_BORROWED]:
        return page
    taken = m[m[HEADS_AT] + m[HEADS_TAKEN] + borrowed]
    if order >= m[PAGEBLOCK_ORDER]:
        return turn(m, zone, page, taken)
    start, listed = pageblock_start(m, taken), m[page * ROW + LIST]
    for other in range(max(start, 0), min(start + (1 << m[PAGEBLOCK_ORDER]), m[PAGES])):
        if m[other * ROW + LIST] == listed and was_seen(m, other, order):
            return turn(m, zone, page, other)
    if pageblock_start(m, page) != start and _claimable(m, zone, page, migratetype):
        top = m[PAGES] + listed
        other = m[page * ROW + NEXT]
        while other != top:
            if was_seen(m, other, order) and not _claimable(m, zone, other, migratetype):
                return turn(m, zone, page, other)
            other = m[other * ROW + NEXT]
    return page


@compiled
def _claim_block(
    m: Any, zone: int, page: int, larger: int, order: int, migratetype: int, alloc_flags: int
) -> Number:
    pageblock_order = m[PAGEBLOCK_ORDER]
    lender = pageblock_type(m, page)
    if lender == HIGHATOMIC:
        return -1
    if larger >= pageblock_order:
        remove(m, page)
        account(m, zone, -(1 << larger), lender)
        set_pageblock_type(m, page, larger, migratetype)
        expand(m, zone, page, larger, order, migratetype)
        account(m, zone, (1 << larger) - (1 << order), migratetype)
        note_locked(m, zone, page, order)
        return page
    boost_watermark(m, zone, alloc_flags)
    if not _claimable(m, zone, page, migratetype):
        return -1
    move_pageblock(m, zone, page, migratetype)
    return take_smallest(m, zone, order, migratetype)


@compiled
def _steal(m: Any, zone: int, order: int, migratetype: int) -> Number:
    """Takes the smallest sufficient block of another type; as ``rmqueue``."""
    for larger in range(order, m[MAX_ORDER] + 1):
        page = lendable(m, zone, larger, migratetype)
        if page < 0:
            continue
        page = _turned(m, zone, page)
        lender = block_type(m, page)
        at = ZONES_AT + zone * ZONE_WORDS
        m[at + BORROWED] += 1
        remove(m, page)
        expand(m, zone, page, larger, order, lender)
        account(m, zone, -(1 << order), lender)
        note_locked(m, zone, page, order)
        m[at + EXTFRAGS] += 1
        return page << FOUND_TYPE | lender
    return -1
