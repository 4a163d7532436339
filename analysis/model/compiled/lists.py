"""Linked lists of free blocks and of per-cpu pages. Twin of ``analysis.model.freelist``."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.model.compiled.layout import (
    BLOCK_FREE,
    BLOCK_TYPE,
    BLOCK_WORDS,
    BLOCKS_AT,
    COUNT,
    CPUS,
    END,
    FREE_PAGES,
    HUGE_ORDER,
    LIST,
    LIST_ORDER,
    LIST_ZONE,
    NEXT,
    NOTES,
    PAGEBLOCK_ORDER,
    PAGES,
    PCP_LIST,
    PCP_LISTS,
    PCP_NEXT,
    PCP_PREV,
    PCP_TYPE,
    PCP_WORDS,
    PCPS_AT,
    PREV,
    ROW,
    SEEN_AT,
    SEEN_SHIFT,
    START,
    ZONE_SEEN_AT,
    ZONE_WORDS,
    ZONES,
    ZONES_AT,
    Number,
    compiled,
)

LOW_ORDER_LISTS = 12
"""Per-cpu lists of the orders 0 to 3."""


@compiled
def zone_at(zone: int) -> Number:
    """Where a zone's words begin."""
    return ZONES_AT + zone * ZONE_WORDS


@compiled
def zone_of(m: Any, page: int) -> Number:
    """The first zone that spans a page, or -1."""
    for zone in range(m[ZONES]):
        at = ZONES_AT + zone * ZONE_WORDS
        if m[at + START] <= page < m[at + END]:
            return zone
    return -1


@compiled
def spans(m: Any, zone: int, page: int) -> bool:
    at = ZONES_AT + zone * ZONE_WORDS
    return bool(m[at + START] <= page < m[at + END])


@compiled
def head(m: Any, zone: int, order: int, migratetype: int) -> Number:
    """First page of a free list's first block, or -1."""
    top = m[PAGES] + (zone << LIST_ZONE | order << LIST_ORDER | migratetype)
    first = m[top * ROW + NEXT]
    return first if first != top else -1


@compiled
def block_order(m: Any, zone: int, page: int) -> Number:
    """Order of the zone's free block that begins at this very page, or -1."""
    listed = m[page * ROW + LIST]
    if listed < 0 or listed >> LIST_ZONE != zone:
        return -1
    return listed >> LIST_ORDER & 31


@compiled
def block_type(m: Any, page: int) -> Number:
    """Migratetype of the list that a free block is on."""
    return m[page * ROW + LIST] & 7


@compiled
def add(m: Any, zone: int, page: int, order: int, migratetype: int, to_tail: int) -> None:
    """Puts a block, on no list so far, at the tail or the head of its list."""
    listed = zone << LIST_ZONE | order << LIST_ORDER | migratetype
    top = m[PAGES] + listed
    if to_tail:
        before = m[top * ROW + PREV]
        after = top
    else:
        before = top
        after = m[top * ROW + NEXT]
    at = page * ROW
    m[at + NEXT] = after
    m[at + PREV] = before
    m[at + LIST] = listed
    m[before * ROW + NEXT] = page
    m[after * ROW + PREV] = page
    m[ZONES_AT + zone * ZONE_WORDS + FREE_PAGES] += 1 << order
    pageblock_order = m[PAGEBLOCK_ORDER]
    if order < pageblock_order:
        m[m[BLOCKS_AT] + (page >> pageblock_order) * BLOCK_WORDS + BLOCK_FREE] += 1 << order


@compiled
def remove(m: Any, page: int) -> None:
    """Takes a free block off its list."""
    at = page * ROW
    before, after = m[at + PREV], m[at + NEXT]
    m[before * ROW + NEXT] = after
    m[after * ROW + PREV] = before
    listed = m[at + LIST]
    m[at + LIST] = -1
    zone, order = listed >> LIST_ZONE, listed >> LIST_ORDER & 31
    m[ZONES_AT + zone * ZONE_WORDS + FREE_PAGES] -= 1 << order
    pageblock_order = m[PAGEBLOCK_ORDER]
    if order < pageblock_order:
        m[m[BLOCKS_AT] + (page >> pageblock_order) * BLOCK_WORDS + BLOCK_FREE] -= 1 << order


@compiled
def seen_at(m: Any, zone: int, order: int) -> Number:
    """Where it is noted which blocks were seen on a zone's movable list of an order: how many
    they were, how many nobody has taken since, and which they were."""
    at = ZONES_AT + zone * ZONE_WORDS
    pages = m[at + END] - m[at + START]
    begin = m[SEEN_AT] + m[at + ZONE_SEEN_AT]
    for smaller in range(order):
        begin += seen_room(pages, smaller)
    return begin


@compiled
def seen_room(pages: int, order: int) -> Number:
    """Room for a list of blocks of an order in a zone of so many pages."""
    return (pages >> order) + 3


@compiled
def was_seen(m: Any, page: int, order: int) -> bool:
    """Whether compaction saw a block on the movable list of an order."""
    return bool(m[page * ROW + NOTES] >> (SEEN_SHIFT + order) & 1)


@compiled
def see_list(m: Any, zone: int, order: int, migratetype: int) -> bool:
    """Notes which blocks are on a list; not if there are fewer than two."""
    top = m[PAGES] + (zone << LIST_ZONE | order << LIST_ORDER | migratetype)
    if m[top * ROW + NEXT] == m[top * ROW + PREV]:
        return False
    bit = 1 << (SEEN_SHIFT + order)
    begin = seen_at(m, zone, order)
    for at in range(begin + 2, begin + 2 + m[begin]):
        m[m[at] * ROW + NOTES] &= ~bit
    found = 0
    page = m[top * ROW + NEXT]
    while page != top:
        m[begin + 2 + found] = page
        found += 1
        m[page * ROW + NOTES] |= bit
        page = m[page * ROW + NEXT]
    m[begin] = m[begin + 1] = found
    return True


@compiled
def unsee(m: Any, zone: int, page: int, order: int) -> bool:
    """Notes that a block seen was taken; whether more than one is left."""
    m[page * ROW + NOTES] &= ~(1 << (SEEN_SHIFT + order))
    left = seen_at(m, zone, order) + 1
    m[left] -= 1
    return bool(m[left] > 1)


@compiled
def rotate(m: Any, first: int, order: int) -> None:
    """Turns a list so that a block comes first of those seen; others keep their place."""
    top = m[PAGES] + m[first * ROW + LIST]
    count, turning, at = 0, 0, 0
    page = m[top * ROW + NEXT]
    while page != top:
        if page == first:
            at = turning
        turning += was_seen(m, page, order)
        count += 1
        page = m[page * ROW + NEXT]
    pages = np.empty(count, np.int64)
    seen = np.empty(turning, np.int64)
    count, turning = 0, 0
    page = m[top * ROW + NEXT]
    while page != top:
        pages[count] = page
        if was_seen(m, page, order):
            seen[turning] = page
            turning += 1
        count += 1
        page = m[page * ROW + NEXT]
    before = top
    for number in range(count):
        page = pages[number]
        if was_seen(m, page, order):
            page = seen[at]
            at = at + 1 if at + 1 < turning else 0
        m[before * ROW + NEXT] = page
        m[page * ROW + PREV] = before
        before = page
    m[before * ROW + NEXT] = top
    m[top * ROW + PREV] = before


@compiled
def pageblock_type(m: Any, page: int) -> Number:
    return m[m[BLOCKS_AT] + (page >> m[PAGEBLOCK_ORDER]) * BLOCK_WORDS + BLOCK_TYPE]


@compiled
def set_pageblock_type(m: Any, page: int, order: int, migratetype: int) -> None:
    """Sets the type of the pageblock, or of all pageblocks, of ``2**order`` pages."""
    pageblock_order = m[PAGEBLOCK_ORDER]
    at = m[BLOCKS_AT] + (page >> pageblock_order) * BLOCK_WORDS + BLOCK_TYPE
    for block in range(1 << max(0, order - pageblock_order)):
        m[at + block * BLOCK_WORDS] = migratetype


@compiled
def pcp_at(m: Any, zone: int, cpu: int) -> Number:
    """Where the words of a processor's lists begin."""
    return m[PCPS_AT] + (zone * m[CPUS] + cpu) * PCP_WORDS


@compiled
def pcp_list(m: Any, zone: int, cpu: int, pindex: int) -> Number:
    return (zone * m[CPUS] + cpu) << PCP_LISTS | pindex


@compiled
def pindex_order(m: Any, pindex: int) -> Number:
    if pindex >= LOW_ORDER_LISTS:
        return m[HUGE_ORDER]
    return pindex // 3


@compiled
def pcp_head(m: Any, listed: int) -> Number:
    top = m[PAGES] + listed
    first = m[top * ROW + PCP_NEXT]
    return first if first != top else -1


@compiled
def pcp_add(m: Any, listed: int, page: int, migratetype: int, to_tail: int) -> None:
    """Puts a block at an end of a per-cpu list; the list's count is the caller's."""
    at = page * ROW
    if m[at + PCP_LIST] >= 0:
        pcp_remove(m, page)
    top = m[PAGES] + listed
    if to_tail:
        before = m[top * ROW + PCP_PREV]
        after = top
    else:
        before = top
        after = m[top * ROW + PCP_NEXT]
    m[at + PCP_NEXT] = after
    m[at + PCP_PREV] = before
    m[at + PCP_LIST] = listed
    m[at + PCP_TYPE] = migratetype
    m[before * ROW + PCP_NEXT] = page
    m[after * ROW + PCP_PREV] = page


@compiled
def pcp_remove(m: Any, page: int) -> None:
    """Takes a block off its per-cpu list; the list's count is the caller's."""
    at = page * ROW
    before, after = m[at + PCP_PREV], m[at + PCP_NEXT]
    m[before * ROW + PCP_NEXT] = after
    m[after * ROW + PCP_PREV] = before
    m[at + PCP_LIST] = -1


@compiled
def forget(m: Any, page: int) -> Number:
    """Takes a block off whatever per-cpu list has it, and counts; 1 if one did."""
    listed = m[page * ROW + PCP_LIST]
    if listed < 0:
        return 0
    pcp_remove(m, page)
    pcp = m[PCPS_AT] + (listed >> PCP_LISTS) * PCP_WORDS
    m[pcp + COUNT] -= 1 << pindex_order(m, listed & 15)
    return 1
