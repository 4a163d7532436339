"""The per-cpu lists: refill, free, drain. Twin of ``analysis.model.allocator.pcp``."""

from __future__ import annotations

from typing import Any

from analysis.model.allocator.gfp import ZONE_MOVABLE, Alloc
from analysis.model.allocator.pcp import (
    COSTLY_ORDER,
    DECAYING,
    DRAINING_ALL,
    FREE_HIGH_BATCH,
    LOW_ORDER_LISTS,
    PCP_TYPES,
    PREV_FREE_HIGH_ORDER,
)
from analysis.model.compiled.fallback import FOUND_TYPE, rmqueue
from analysis.model.compiled.layout import (
    ACCOUNTS_EACH_BLOCK,
    ALLOC_FACTOR,
    BATCH,
    BATCH_SCALE,
    BELOW_HIGH,
    COUNT,
    DRAINS_IN_BATCHES,
    FAULT,
    FLAGS,
    FREE_COUNT,
    FREE_FACTOR,
    HIGH,
    HIGH_MAX,
    HIGH_MIN,
    HIGH_ORDER_DRAIN_WAITS,
    HIGHATOMIC_SKIPS_REFILL,
    HUGE_ORDER,
    ISOLATED,
    MODE,
    PAGES,
    PCP_PREV,
    PCP_REMEMBERS_TYPE,
    PCP_TUNES_ITSELF,
    PCP_TYPE,
    PINDEXES,
    RECLAIM_ACTIVE,
    REST_PAGES,
    REST_PINDEX,
    ROW,
    STOP_AFTER,
    ZONE_WORDS,
    ZONES_AT,
    Number,
    compiled,
)
from analysis.model.compiled.lists import (
    pageblock_type,
    pcp_add,
    pcp_at,
    pcp_head,
    pcp_list,
    pcp_remove,
    pindex_order,
)
from analysis.model.compiled.watermark import watermark_ok
from analysis.model.compiled.zone import (
    CMA,
    MOVABLE,
    count,
    free_seen,
    give_back,
    note_drained,
    watermark,
)

ALLOC_HIGHATOMIC = int(Alloc.HIGHATOMIC)


@compiled
def pcp_allowed(m: Any, order: int) -> bool:
    return bool(order <= COSTLY_ORDER or order == m[HUGE_ORDER])


@compiled
def clamp(value: int, low: int, high: int) -> Number:
    if value >= high:
        return high
    return max(value, low)


@compiled
def pindex_of(m: Any, migratetype: int, order: int) -> Number:
    if order > COSTLY_ORDER:
        huge_lists = m[PINDEXES] - LOW_ORDER_LISTS
        return LOW_ORDER_LISTS + (1 if migratetype == MOVABLE and huge_lists > 1 else 0)
    return PCP_TYPES * order + migratetype


@compiled
def take(m: Any, zone: int, cpu: int, order: int, migratetype: int, alloc_flags: int) -> Number:
    """Takes the head of a list, filling the list first when it is empty; a page or -1."""
    pcp = pcp_at(m, zone, cpu)
    if m[PCP_TUNES_ITSELF]:
        m[pcp + FREE_COUNT] >>= 1
    else:
        m[pcp + FREE_FACTOR] >>= 1
    return take_one(m, zone, cpu, order, migratetype, alloc_flags)


@compiled
def take_one(m: Any, zone: int, cpu: int, order: int, migratetype: int, alloc_flags: int) -> Number:
    pcp = pcp_at(m, zone, cpu)
    listed = pcp_list(m, zone, cpu, pindex_of(m, migratetype, order))
    page = pcp_head(m, listed)
    if page < 0:
        blocks = _refill_blocks(m, zone, pcp, order)
        if m[HIGHATOMIC_SKIPS_REFILL] and alloc_flags & ALLOC_HIGHATOMIC:
            return -1
        _refill(m, zone, pcp, listed, blocks, order, migratetype, alloc_flags)
        page = pcp_head(m, listed)
        if page < 0:
            return -1
    pcp_remove(m, page)
    m[pcp + COUNT] -= 1 << order
    return page


@compiled
def _refill_blocks(m: Any, zone: int, pcp: int, order: int) -> Number:
    batch = m[pcp + BATCH]
    if not m[PCP_TUNES_ITSELF]:
        return max(batch >> order, 2) if batch > 1 else batch
    high_min, high_max = m[pcp + HIGH_MIN], m[pcp + HIGH_MAX]
    high = clamp(m[pcp + HIGH], high_min, high_max)
    m[pcp + HIGH] = high
    if high < batch:
        return 1
    blocks = batch if order else batch << m[pcp + ALLOC_FACTOR]
    if high_min != high_max and not m[ZONES_AT + zone * ZONE_WORDS + BELOW_HIGH]:
        high = min(high + blocks, high_max)
        m[pcp + HIGH] = high
    if order == 0:
        most = max(high - m[pcp + COUNT] - batch, batch)
        if blocks <= most and m[pcp + ALLOC_FACTOR] < m[BATCH_SCALE]:
            m[pcp + ALLOC_FACTOR] += 1
        blocks = min(blocks, most)
    return max(blocks >> order, 2) if blocks > 1 else blocks


@compiled
def _refill(
    m: Any,
    zone: int,
    pcp: int,
    listed: int,
    blocks: int,
    order: int,
    migratetype: int,
    alloc_flags: int,
) -> None:
    accounts = m[ACCOUNTS_EACH_BLOCK]
    m[MODE] = 0
    fetched = 0
    for _ in range(blocks):
        found = rmqueue(m, zone, order, migratetype, alloc_flags)
        if found < 0:
            break
        source = found & ((1 << FOUND_TYPE) - 1)
        pcp_add(m, listed, found >> FOUND_TYPE, source, 1)
        fetched += 1
        if source == CMA and not accounts:
            count(m, zone, 1, -(1 << order))
    m[pcp + COUNT] += fetched << order
    if not accounts:
        count(m, zone, 0, -(fetched << order))


@compiled
def fetches_more(m: Any, zone: int, cpu: int, order: int) -> bool:
    """Whether a refill would ask for more than one block; changes nothing."""
    pcp = pcp_at(m, zone, cpu)
    high, factor = m[pcp + HIGH], m[pcp + ALLOC_FACTOR]
    more = _refill_blocks(m, zone, pcp, order) > 1
    m[pcp + HIGH], m[pcp + ALLOC_FACTOR] = high, factor
    return bool(more)


@compiled
def put(m: Any, zone: int, cpu: int, page: int, order: int) -> None:
    """A freed block comes to the head of its list; too many are given back to the zone."""
    pcp = pcp_at(m, zone, cpu)
    source = pageblock_type(m, page)
    pindex = pindex_of(m, source if source < PCP_TYPES else MOVABLE, order)
    pcp_add(m, pcp_list(m, zone, cpu, pindex), page, source, 0)
    m[pcp + COUNT] += 1 << order
    if m[PCP_TUNES_ITSELF]:
        _put_tuned(m, zone, cpu, pcp, pindex, order)
        return
    free_high = bool(m[pcp + FREE_FACTOR] and 0 < order <= COSTLY_ORDER)
    high = _high_by_factor(m, zone, pcp, free_high)
    if m[pcp + COUNT] >= high:
        excess = _excess_by_factor(m, pcp, high, free_high)
        drain(m, zone, cpu, excess, pindex)


@compiled
def overfills(m: Any, zone: int, cpu: int, order: int) -> bool:
    """Whether ``put`` of a block would give pages back to the zone; changes nothing."""
    pcp = pcp_at(m, zone, cpu)
    if not m[PCP_TUNES_ITSELF]:
        free_high = bool(m[pcp + FREE_FACTOR] and 0 < order <= COSTLY_ORDER)
        high = _high_by_factor(m, zone, pcp, free_high)
        if m[pcp + COUNT] + (1 << order) < high:
            return False
        kept_factor = m[pcp + FREE_FACTOR]
        m[pcp + COUNT] += 1 << order
        excess = _excess_by_factor(m, pcp, high, free_high)
        m[pcp + COUNT] -= 1 << order
        m[pcp + FREE_FACTOR] = kept_factor
        return bool(excess > 0)
    kept_high, kept_count = m[pcp + HIGH], m[pcp + FREE_COUNT]
    kept_flags, kept_factor = m[pcp + FLAGS], m[pcp + ALLOC_FACTOR]
    m[pcp + COUNT] += 1 << order
    free_high = _count_tuned_free(m, pcp, order)
    high = _tuned_high(m, zone, pcp, free_high)
    over = bool(m[pcp + COUNT] >= high and _tuned_excess(m, pcp, high, free_high) > 0)
    m[pcp + COUNT] -= 1 << order
    m[pcp + HIGH], m[pcp + FREE_COUNT] = kept_high, kept_count
    m[pcp + FLAGS], m[pcp + ALLOC_FACTOR] = kept_flags, kept_factor
    return over


@compiled
def _high_by_factor(m: Any, zone: int, pcp: int, free_high: bool) -> Number:
    high = m[pcp + HIGH]
    if not high or free_high:
        return 0
    if m[ZONES_AT + zone * ZONE_WORDS + RECLAIM_ACTIVE]:
        return min(m[pcp + BATCH] << 2, high)
    return high


@compiled
def _excess_by_factor(m: Any, pcp: int, high: int, free_high: bool) -> Number:
    batch = m[pcp + BATCH]
    if free_high:
        return m[pcp + COUNT]
    if high < batch:
        return 1
    most = high - batch
    pages = batch << m[pcp + FREE_FACTOR]
    if pages < most and m[pcp + FREE_FACTOR] < m[BATCH_SCALE]:
        m[pcp + FREE_FACTOR] += 1
    return clamp(pages, batch, most)


@compiled
def _count_tuned_free(m: Any, pcp: int, order: int) -> bool:
    batch = m[pcp + BATCH]
    m[pcp + ALLOC_FACTOR] >>= 1
    free_high = False
    if 0 < order <= COSTLY_ORDER:
        enough = batch
        if m[HIGH_ORDER_DRAIN_WAITS]:
            enough += m[pcp + HIGH_MIN] // 2
        flags = m[pcp + FLAGS]
        free_high = bool(
            m[pcp + FREE_COUNT] >= enough
            and flags & PREV_FREE_HIGH_ORDER
            and (not flags & FREE_HIGH_BATCH or m[pcp + COUNT] >= batch)
        )
        m[pcp + FLAGS] |= PREV_FREE_HIGH_ORDER
    else:
        m[pcp + FLAGS] &= ~PREV_FREE_HIGH_ORDER
    if m[pcp + FREE_COUNT] < batch << m[BATCH_SCALE]:
        m[pcp + FREE_COUNT] += 1 << order
    return free_high


@compiled
def _put_tuned(m: Any, zone: int, cpu: int, pcp: int, pindex: int, order: int) -> None:
    free_high = _count_tuned_free(m, pcp, order)
    high = _tuned_high(m, zone, pcp, free_high)
    if m[pcp + COUNT] < high:
        return
    _give_excess(m, zone, cpu, _tuned_excess(m, pcp, high, free_high), pindex)


@compiled
def give_rest(m: Any, zone: int, cpu: int, pages: int, pindex: int) -> None:
    """Goes on with what was left."""
    if pindex == DRAINING_ALL:
        drain_all(m, zone, cpu)
    elif pindex == DECAYING:
        _decay(m, zone, cpu, pages)
    else:
        _give_excess(m, zone, cpu, pages, pindex)


@compiled
def _stops(m: Any, given: int, left: int, pindex: int) -> bool:
    """Whether it is time to stop, and then notes what is left: see ``STOP_AFTER``."""
    if not m[STOP_AFTER] or given < m[STOP_AFTER] or left <= 0 or m[FAULT]:
        return False
    m[REST_PAGES], m[REST_PINDEX] = left, pindex
    return True


@compiled
def _give_excess(m: Any, zone: int, cpu: int, excess: int, pindex: int) -> None:
    pcp = pcp_at(m, zone, cpu)
    if m[DRAINS_IN_BATCHES]:
        given = 0
        while excess > 0 and m[pcp + COUNT] > 0 and not m[FAULT]:
            part, before = min(excess, m[pcp + BATCH]), m[pcp + COUNT]
            drain(m, zone, cpu, part, pindex)
            excess -= part
            given += before - m[pcp + COUNT]
            if m[pcp + COUNT] > 0 and _stops(m, given, excess, pindex):
                return
    else:
        drain(m, zone, cpu, excess, pindex)
    at = ZONES_AT + zone * ZONE_WORDS
    if m[at + BELOW_HIGH] and not m[FAULT]:
        mark, free_pages = watermark(m, zone, 2), free_seen(m, zone)
        if watermark_ok(m, zone, 0, mark, ZONE_MOVABLE, 0, free_pages):
            m[at + BELOW_HIGH] = 0


@compiled
def _tuned_high(m: Any, zone: int, pcp: int, free_high: bool) -> Number:
    at = ZONES_AT + zone * ZONE_WORDS
    batch, free_count = m[pcp + BATCH], m[pcp + FREE_COUNT]
    high_min, high_max = m[pcp + HIGH_MIN], m[pcp + HIGH_MAX]
    high = clamp(m[pcp + HIGH], high_min, high_max)
    m[pcp + HIGH] = high
    if not high:
        return 0
    if free_high:
        m[pcp + HIGH] = max(high - (batch << m[BATCH_SCALE]), high_min)
        return 0
    if m[at + RECLAIM_ACTIVE]:
        m[pcp + HIGH] = max(high - max(free_count, batch), high_min)
        return min(batch << 2, m[pcp + HIGH])
    if high_min == high_max:
        return high
    if m[at + BELOW_HIGH]:
        m[pcp + HIGH] = max(high - max(free_count, batch), high_min)
        return max(m[pcp + COUNT], high_min)
    if m[pcp + COUNT] >= high:
        needed = free_count + batch
        if m[pcp + HIGH] < needed:
            m[pcp + HIGH] = clamp(needed, high_min, high_max)
    return high


@compiled
def _tuned_excess(m: Any, pcp: int, high: int, free_high: bool) -> Number:
    batch = m[pcp + BATCH]
    if free_high:
        return min(m[pcp + COUNT], batch << m[BATCH_SCALE])
    if high < batch:
        return 1
    return clamp(m[pcp + FREE_COUNT], batch, high - batch)


@compiled
def drain(m: Any, zone: int, cpu: int, pages: int, pindex: int) -> None:
    """Gives back at least so many pages, from the tails, list after list from ``pindex`` on."""
    pcp = pcp_at(m, zone, cpu)
    lists = m[PINDEXES]
    pages = min(pages, m[pcp + COUNT])
    remembered = m[PCP_REMEMBERS_TYPE] and not m[ZONES_AT + zone * ZONE_WORDS + ISOLATED]
    pindex -= 1
    while pages > 0:
        empty = 0
        while True:
            pindex = (pindex + 1) % lists
            top = m[PAGES] + pcp_list(m, zone, cpu, pindex)
            if m[top * ROW + PCP_PREV] != top:
                break
            empty += 1
            if empty > lists:
                m[FAULT] = 1  # the count is wrong: there is nothing left
                return
        order = pindex_order(m, pindex)
        while pages > 0:
            page = m[top * ROW + PCP_PREV]
            if page == top:
                break
            source = m[page * ROW + PCP_TYPE]
            pcp_remove(m, page)
            pages -= 1 << order
            m[pcp + COUNT] -= 1 << order
            if not give_back(m, zone, page, order, source if remembered else -1, -1, -1):
                m[FAULT] = 1
                return
            note_drained(m, page, order)


@compiled
def drain_all(m: Any, zone: int, cpu: int) -> None:
    pcp = pcp_at(m, zone, cpu)
    given = 0
    while m[pcp + COUNT] > 0 and not m[FAULT]:
        most, before = m[pcp + BATCH] << m[BATCH_SCALE], m[pcp + COUNT]
        drain(m, zone, cpu, min(m[pcp + COUNT], most), 0)
        given += before - m[pcp + COUNT]
        if _stops(m, given, m[pcp + COUNT], DRAINING_ALL):
            return


@compiled
def drain_batch(m: Any, zone: int, cpu: int) -> None:
    pcp = pcp_at(m, zone, cpu)
    drain(m, zone, cpu, min(m[pcp + COUNT], m[pcp + BATCH]), 0)


@compiled
def decay(m: Any, zone: int, cpu: int) -> None:
    pcp = pcp_at(m, zone, cpu)
    if m[pcp + HIGH] > m[pcp + HIGH_MIN]:
        m[pcp + HIGH] = max(
            m[pcp + COUNT] - (m[pcp + BATCH] << m[BATCH_SCALE]),
            m[pcp + HIGH] - (m[pcp + HIGH] >> 3),
            m[pcp + HIGH_MIN],
        )
    _decay(m, zone, cpu, m[pcp + COUNT] - m[pcp + HIGH])


@compiled
def _decay(m: Any, zone: int, cpu: int, left: int) -> None:
    pcp = pcp_at(m, zone, cpu)
    given = 0
    while left > 0 and not m[FAULT]:
        part, before = min(left, m[pcp + BATCH]), m[pcp + COUNT]
        drain(m, zone, cpu, part, 0)
        left -= part
        given += before - m[pcp + COUNT]
        if _stops(m, given, left, DECAYING):
            return
