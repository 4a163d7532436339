"""One zone's lists and counters. Twin of ``analysis.model.allocator.zone`` and of the rules of
``analysis.model.buddy``."""

from __future__ import annotations

from typing import Any

from analysis.model.compiled.layout import (
    ACCOUNTS_EACH_BLOCK,
    BLOCK_MOVABLE,
    BLOCK_WORDS,
    BLOCKS_AT,
    BOOST,
    BORROWED,
    CAPTURE_MASK,
    CAPTURE_SHIFT,
    CAPTURES,
    CPU,
    CPUS,
    DIFFERENCE,
    FIRST_PFN,
    HEADS_AT,
    HEADS_BORROWED,
    HEADS_TAKEN,
    LIST,
    LIST_ORDER,
    LIST_ZONE,
    LOCKED,
    MAX_ORDER,
    MERGE_RETYPES,
    MERGES_RESERVED,
    MOVABLE_NOTE,
    MOVE_DRAINED,
    MOVE_PFN,
    MOVES,
    MOVES_AT,
    NOTES,
    NR_FREE,
    NR_FREE_CMA,
    NR_FREE_HIGHATOMIC,
    PAGEBLOCK_ORDER,
    PAGES,
    PCP_WORDS,
    PCPS_AT,
    ROTATED,
    ROTATIONS,
    ROW,
    THRESHOLD,
    TURNED,
    WATERMARK,
    ZONE_WORDS,
    ZONES,
    ZONES_AT,
    Number,
    compiled,
)
from analysis.model.compiled.lists import (
    add,
    block_order,
    block_type,
    head,
    pageblock_type,
    remove,
    rotate,
    see_list,
    set_pageblock_type,
    spans,
    unsee,
    was_seen,
)
from analysis.model.freelist import Migratetype

UNMOVABLE, MOVABLE = int(Migratetype.UNMOVABLE), int(Migratetype.MOVABLE)
RECLAIMABLE, HIGHATOMIC = int(Migratetype.RECLAIMABLE), int(Migratetype.HIGHATOMIC)
CMA, ISOLATE = int(Migratetype.CMA), int(Migratetype.ISOLATE)


@compiled
def count(m: Any, zone: int, item: int, pages: int) -> None:
    """Counts pages of ``NR_FREE`` (item 0) or ``NR_FREE_CMA`` (1) on the zone's processor."""
    at = ZONES_AT + zone * ZONE_WORDS
    pcp = m[PCPS_AT] + (zone * m[CPUS] + m[at + CPU]) * PCP_WORDS + item
    difference = m[pcp + DIFFERENCE] + pages
    if abs(difference) > m[pcp + THRESHOLD]:
        m[at + NR_FREE + item] += difference
        difference = 0
    m[pcp + DIFFERENCE] = difference


@compiled
def account(m: Any, zone: int, pages: int, migratetype: int) -> None:
    if migratetype == ISOLATE:
        return
    count(m, zone, 0, pages)
    if migratetype == CMA:
        count(m, zone, 1, pages)
    elif migratetype == HIGHATOMIC:
        m[ZONES_AT + zone * ZONE_WORDS + NR_FREE_HIGHATOMIC] += pages


@compiled
def free_seen(m: Any, zone: int) -> Number:
    return max(m[ZONES_AT + zone * ZONE_WORDS + NR_FREE], 0)


@compiled
def cma_seen(m: Any, zone: int) -> Number:
    return max(m[ZONES_AT + zone * ZONE_WORDS + NR_FREE_CMA], 0)


@compiled
def watermark(m: Any, zone: int, number: int) -> Number:
    at = ZONES_AT + zone * ZONE_WORDS
    return m[at + WATERMARK + number] + m[at + BOOST]


@compiled
def note_locked(m: Any, zone: int, page: int, order: int) -> None:
    """Notes that a block left the zone's lists."""
    m[m[MOVES_AT] + m[MOVES]] = (page + m[FIRST_PFN]) << MOVE_PFN | order
    m[MOVES] += 1
    m[ZONES_AT + zone * ZONE_WORDS + LOCKED] += 1


@compiled
def note_drained(m: Any, page: int, order: int) -> None:
    """Notes that a block came back from a per-cpu list."""
    move = (page + m[FIRST_PFN]) << MOVE_PFN | MOVE_DRAINED | order
    m[m[MOVES_AT] + m[MOVES]] = move
    m[MOVES] += 1


@compiled
def clear_moves(m: Any) -> None:
    if m[MOVES]:
        m[MOVES] = 0
        for zone in range(m[ZONES]):
            m[ZONES_AT + zone * ZONE_WORDS + LOCKED] = 0


@compiled
def expand(m: Any, zone: int, page: int, larger: int, order: int, migratetype: int) -> None:
    """Splits a block that is on no list down to ``order``; upper halves go to the heads."""
    for half in range(larger - 1, order - 1, -1):
        add(m, zone, page + (1 << half), half, migratetype, 0)


@compiled
def may_be_turned(m: Any, zone: int) -> None:
    """Compaction looks at the zone's movable lists: their order is open from now on."""
    at = ZONES_AT + zone * ZONE_WORDS + TURNED
    for order in range(m[MAX_ORDER] + 1):
        if see_list(m, zone, order, MOVABLE):
            m[ROTATED] += 1 - (m[at] >> order & 1)
            m[at] |= 1 << order


@compiled
def turn(m: Any, zone: int, page: int, other: int) -> Number:
    """The head of a list, after turning the list if the block that the kernel chose says so."""
    listed = m[page * ROW + LIST]
    order = listed >> LIST_ORDER & 31
    at = ZONES_AT + zone * ZONE_WORDS
    if listed & 7 != MOVABLE or not m[at + TURNED] >> order & 1 or not was_seen(m, page, order):
        return page
    if other < 0 or other >= m[PAGES] or m[other * ROW + LIST] != listed:
        return page
    if not was_seen(m, other, order):
        return page
    if other != page:
        rotate(m, other, order)
        m[at + ROTATIONS] += 1
    if not unsee(m, zone, other, order):
        m[at + TURNED] &= ~(1 << order)
        m[ROTATED] -= 1
    return other


@compiled
def turned_for_taking(m: Any, zone: int, page: int) -> Number:
    """The head of a list that is taken from, after turning the list if need be."""
    taken = m[ZONES_AT + zone * ZONE_WORDS + LOCKED]
    if taken >= m[HEADS_TAKEN]:
        return page
    return turn(m, zone, page, m[m[HEADS_AT] + taken])


@compiled
def turned_for_borrowing(m: Any, zone: int, page: int) -> Number:
    """The head of another type's list, after turning the list if need be."""
    borrowed = m[ZONES_AT + zone * ZONE_WORDS + BORROWED]
    if borrowed >= m[HEADS_BORROWED]:
        return page
    return turn(m, zone, page, m[m[HEADS_AT] + m[HEADS_TAKEN] + borrowed])


@compiled
def take_smallest(m: Any, zone: int, order: int, migratetype: int) -> Number:
    """Takes the head of the smallest sufficient list of a type; its first page, or -1."""
    for larger in range(order, m[MAX_ORDER] + 1):
        page = head(m, zone, larger, migratetype)
        if page >= 0:
            if m[ROTATED]:
                page = turned_for_taking(m, zone, page)
            remove(m, page)
            expand(m, zone, page, larger, order, migratetype)
            if m[ACCOUNTS_EACH_BLOCK]:
                account(m, zone, -(1 << order), migratetype)
            note_locked(m, zone, page, order)
            return page
    return -1


@compiled
def move_block(m: Any, zone: int, page: int, migratetype: int) -> None:
    """Moves a free block to the tail of another type's list."""
    order, old = block_order(m, zone, page), block_type(m, page)
    remove(m, page)
    add(m, zone, page, order, migratetype, 1)
    if m[ACCOUNTS_EACH_BLOCK]:
        account(m, zone, -(1 << order), old)
        account(m, zone, 1 << order, migratetype)


@compiled
def is_free(m: Any, zone: int, page: int, order: int) -> bool:
    for larger in range(m[MAX_ORDER] + 1):
        start = page & ~((1 << larger) - 1)
        held = block_order(m, zone, start)
        if held >= 0 and start + (1 << held) > page:
            return True
    inside = 0
    for one in range(page + 1, page + (1 << order)):
        inside += m[one * ROW + LIST] >= 0
    return inside > 0


@compiled
def _buddy(m: Any, zone: int, page: int, order: int) -> Number:
    """The free buddy of a block, or -1."""
    buddy = page ^ (1 << order)
    if buddy >= m[PAGES]:
        return -1
    listed = m[buddy * ROW + LIST]
    if listed >> LIST_ORDER != (zone << LIST_ZONE - LIST_ORDER | order):
        return -1
    return buddy


@compiled
def _may_merge(m: Any, one: int, other: int) -> bool:
    if m[MERGES_RESERVED]:
        return one != ISOLATE and other != ISOLATE
    return one <= RECLAIMABLE and other <= RECLAIMABLE


@compiled
def _merge_likely(m: Any, zone: int, page: int, order: int) -> Number:
    if order >= m[MAX_ORDER] - 1:
        return 0
    return 1 if _buddy(m, zone, page & ~(1 << order), order + 1) >= 0 else 0


@compiled
def give_back(
    m: Any, zone: int, page: int, order: int, migratetype: int, to_tail: int, captured: int
) -> Number:
    """A block comes back to the lists, and coalesces; 0 if it is free or no block of the zone.

    ``migratetype`` -1: the pageblock's. ``to_tail`` -1: as the kernel decides. ``captured``: the
    order at which compaction takes it, or -1.
    """
    if migratetype < 0:
        migratetype = pageblock_type(m, page)
    if m[CAPTURES] and m[page * ROW + NOTES] & CAPTURE_MASK:
        captured = ((m[page * ROW + NOTES] & CAPTURE_MASK) >> CAPTURE_SHIFT) - 1
        m[page * ROW + NOTES] &= ~CAPTURE_MASK
        m[CAPTURES] -= 1
    last = page + (1 << order) - 1
    if page & ((1 << order) - 1) or not (spans(m, zone, page) and spans(m, zone, last)):
        return 0
    if is_free(m, zone, page, order):
        return 0
    pages = 1 << order
    max_order, pageblock_order = m[MAX_ORDER], m[PAGEBLOCK_ORDER]
    listed = True
    while order < max_order:
        if order == captured:
            listed = False
            break
        buddy = _buddy(m, zone, page, order)
        if buddy < 0:
            break
        if order >= pageblock_order:
            other = pageblock_type(m, buddy)
            if other != migratetype:
                if not _may_merge(m, migratetype, other):
                    break
                if m[MERGE_RETYPES]:
                    set_pageblock_type(m, buddy, order, migratetype)
        remove(m, buddy)
        page &= ~(1 << order)
        order += 1
    if listed:
        if to_tail < 0:
            to_tail = _merge_likely(m, zone, page, order)
        add(m, zone, page, order, migratetype, to_tail)
    account(m, zone, pages, migratetype)
    if order == captured:
        account(m, zone, -(1 << order), migratetype)
    return 1


@compiled
def pageblock_start(m: Any, page: int) -> Number:
    return page & ~((1 << m[PAGEBLOCK_ORDER]) - 1)


@compiled
def block_words(m: Any, page: int) -> Number:
    """Where the words of a page's pageblock begin."""
    return m[BLOCKS_AT] + (page >> m[PAGEBLOCK_ORDER]) * BLOCK_WORDS


@compiled
def move_pageblock(m: Any, zone: int, page: int, migratetype: int) -> Number:
    """Moves the free blocks of a pageblock to another type; the pages moved, -1 for refused."""
    accounts = m[ACCOUNTS_EACH_BLOCK]
    start = pageblock_start(m, page)
    end = start + (1 << m[PAGEBLOCK_ORDER])
    if not spans(m, zone, end - 1):
        return -1 if accounts else 0
    if not spans(m, zone, start):
        if accounts:
            return -1
        start = page
    moved = 0
    while start < end:
        order = block_order(m, zone, start)
        if order < 0:
            start += 1
        else:
            move_block(m, zone, start, migratetype)
            moved += 1 << order
            start += 1 << order
    if accounts:
        set_pageblock_type(m, page, 0, migratetype)
    return moved


@compiled
def movable_between(m: Any, start: int, end: int) -> Number:
    found = 0
    for page in range(start, end):
        found += m[page * ROW + NOTES] & MOVABLE_NOTE
    return found


@compiled
def set_movable(m: Any, page: int, order: int, movable: int) -> None:
    """Notes whether compaction could move pages."""
    for one in range(page, page + (1 << order)):
        notes = m[one * ROW + NOTES]
        if notes & MOVABLE_NOTE != movable:
            m[one * ROW + NOTES] = notes ^ MOVABLE_NOTE
            m[block_words(m, one) + BLOCK_MOVABLE] += 2 * movable - 1
