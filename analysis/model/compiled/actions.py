"""Single steps of the compiled allocator for callers in Python, behind one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any, cast

import numba

from analysis.model.compiled import allocator, isolation, lists, pcp, zone
from analysis.model.compiled.layout import (
    BORROWED,
    CAPTURE_MASK,
    CAPTURE_SHIFT,
    CAPTURES,
    CPU,
    MAX_ORDER,
    NOTES,
    PCP_LIST,
    ROW,
    ZONE_WORDS,
    ZONES,
    ZONES_AT,
    Memory,
    Number,
    compiled,
)
from analysis.model.compiled.sources import VERSION


class Action(IntEnum):
    """What to do, with up to six numbers to say how; pages are indices."""

    ALLOCATE = 0
    """cpu, node, order, gfp, migratetype, alloc_flags or -1 → page or -1."""
    ALLOCATE_BULK = 1
    """cpu, node, gfp, migratetype, wanted → pages got."""
    FREE = 2
    """cpu, page, order → 0 if it cannot be; so do all that follow and give back."""
    FREE_DIRECT = 3
    """cpu, page, order, captured order or -1."""
    ISOLATE_FREE = 4
    """cpu, page, order → 0 if it is no such block."""
    PUT_BACK = 5
    """cpu, page, order, migratetype."""
    GIVE_BACK = 6
    """cpu, page, order."""
    DRAIN_ALL = 7
    """cpu, zone, owner."""
    DRAIN_BATCH = 8
    """cpu, zone, owner."""
    DECAY = 9
    """cpu, zone, owner."""
    FOLD = 10
    """cpu."""
    UNRESERVE = 11
    """zone, migratetype, force → 1 if a pageblock was."""
    MARK_MOVABLE = 12
    """page, order."""
    MAY_BE_TURNED = 13
    """zone."""
    SET_THRESHOLD = 14
    """zone, pages."""
    CAPTURE = 15
    """page, order."""
    OVERFILLS = 16
    """zone, cpu, order → 0 or 1."""
    PUSH = 17
    """zone, cpu, pindex, page, migratetype, to tail."""
    FORGET = 18
    """page → 1 if a per-cpu list had it."""
    CARVE = 19
    """cpu, page, order → 1 if it was free."""
    CLEAR_MOVES = 20
    SHOW_HEADS = 21
    """New heads were told."""
    ISOLATE_PAGEBLOCK = 22
    """zone, page."""
    UNISOLATE_PAGEBLOCK = 23
    """zone, page."""
    TAKE_OUT = 24
    """cpu, page, order → 1 if any of the pages was on a list."""
    GIVE_REST = 25
    """cpu, zone, owner, pages, pindex."""
    FETCHES_MORE = 26
    """zone, cpu, pindex → 0 or 1."""
    ALLOCATE_FROM = 27
    """As ``ALLOCATE``."""


_ALLOCATE, _ALLOCATE_BULK = int(Action.ALLOCATE), int(Action.ALLOCATE_BULK)
_FREE, _FREE_DIRECT = int(Action.FREE), int(Action.FREE_DIRECT)
_ISOLATE_FREE, _PUT_BACK, _GIVE_BACK = (
    int(Action.ISOLATE_FREE),
    int(Action.PUT_BACK),
    int(Action.GIVE_BACK),
)
_DRAIN_ALL, _DRAIN_BATCH, _DECAY = (
    int(Action.DRAIN_ALL),
    int(Action.DRAIN_BATCH),
    int(Action.DECAY),
)
_FOLD, _UNRESERVE, _MARK_MOVABLE = int(Action.FOLD), int(Action.UNRESERVE), int(Action.MARK_MOVABLE)
_MAY_BE_TURNED, _SET_THRESHOLD = int(Action.MAY_BE_TURNED), int(Action.SET_THRESHOLD)
_CAPTURE, _OVERFILLS, _PUSH = int(Action.CAPTURE), int(Action.OVERFILLS), int(Action.PUSH)
_FORGET, _CARVE, _CLEAR_MOVES = int(Action.FORGET), int(Action.CARVE), int(Action.CLEAR_MOVES)
_SHOW_HEADS, _ISOLATE_PAGEBLOCK = int(Action.SHOW_HEADS), int(Action.ISOLATE_PAGEBLOCK)
_FETCHES_MORE, _ALLOCATE_FROM = int(Action.FETCHES_MORE), int(Action.ALLOCATE_FROM)
_UNISOLATE_PAGEBLOCK, _GIVE_REST = int(Action.UNISOLATE_PAGEBLOCK), int(Action.GIVE_REST)


@compiled
def act_for(m: Any, page: int, cpu: int) -> Number:
    """The page's zone, where the processor acts from now on; -1 if there is none."""
    found = lists.zone_of(m, page)
    if found >= 0:
        m[ZONES_AT + found * ZONE_WORDS + CPU] = cpu
    return found


@compiled
def give_back(m: Any, cpu: int, page: int, order: int) -> Number:
    at = act_for(m, page, cpu)
    return 0 if at < 0 else zone.give_back(m, at, page, order, -1, -1, -1)


@compiled
def carve(m: Any, cpu: int, page: int, order: int) -> Number:
    """Cuts a block out of the zone's lists; 0 if it is not free there."""
    at = act_for(m, page, cpu)
    if at < 0:
        return 0
    for larger in range(order, m[MAX_ORDER] + 1):
        start = page & ~((1 << larger) - 1)
        if lists.block_order(m, at, start) != larger:
            continue
        kind = lists.block_type(m, start)
        lists.remove(m, start)
        zone.account(m, at, -(1 << order), kind)
        while larger > order:
            larger -= 1
            high = start + (1 << larger)
            if page < high:
                lists.add(m, at, high, larger, kind, 0)
            else:
                lists.add(m, at, start, larger, kind, 0)
                start = high
        return 1
    return 0


@compiled
def take_out(m: Any, cpu: int, page: int, order: int) -> Number:
    """Takes pages off all lists, and blocks that share pages with them off per-cpu lists; 1 if
    there were any."""
    at = act_for(m, page, cpu)
    if at < 0:
        return 0
    found, end = 0, page + (1 << order)
    for larger in range(m[MAX_ORDER] + 1):
        start = page & ~((1 << larger) - 1)
        listed = m[start * ROW + PCP_LIST]
        if listed >= 0 and start + (1 << lists.pindex_order(m, listed & 15)) > page:
            found |= lists.forget(m, start)
    for one in range(page + 1, end):
        if m[one * ROW + PCP_LIST] >= 0:
            found |= lists.forget(m, one)
    if carve(m, cpu, page, order):
        return 1
    for one in range(page, end):
        if zone.is_free(m, at, one, 0):
            found |= carve(m, cpu, one, 0)
    return found


@compiled
def push(m: Any, at: int, cpu: int, pindex: int, page: int, migratetype: int, to_tail: int) -> None:
    """Puts a block on a per-cpu list, off the one that it is on."""
    lists.forget(m, page)
    lists.pcp_add(m, lists.pcp_list(m, at, cpu, pindex), page, migratetype, to_tail)
    m[lists.pcp_at(m, at, cpu)] += 1 << lists.pindex_order(m, pindex)


@compiled
def capture(m: Any, page: int, order: int) -> None:
    """Compaction will take what this block becomes when it comes back."""
    notes = m[page * ROW + NOTES]
    if not notes & CAPTURE_MASK:
        m[CAPTURES] += 1
    m[page * ROW + NOTES] = notes & ~CAPTURE_MASK | (order + 1) << CAPTURE_SHIFT


@compiled
def forget_borrowed(m: Any) -> None:
    """Begins to count borrowed blocks anew."""
    for number in range(m[ZONES]):
        m[ZONES_AT + number * ZONE_WORDS + BORROWED] = 0


@compiled
def perform(m: Any, action: int, a: int, b: int, c: int, d: int, e: int, f: int) -> Number:
    if action == _ALLOCATE:
        return allocator.allocate(m, a, b, c, d, e, f)
    if action == _ALLOCATE_BULK:
        return allocator.allocate_bulk(m, a, b, c, d, e)
    if action == _FREE:
        return allocator.free(m, a, b, c)
    if action == _FREE_DIRECT:
        return allocator.free_direct(m, a, b, c, d)
    if action == _ISOLATE_FREE:
        return allocator.isolate_free(m, a, b, c)
    if action == _PUT_BACK:
        return allocator.put_back(m, a, b, c, d)
    if action == _GIVE_BACK:
        return give_back(m, a, b, c)
    if action in (_DRAIN_ALL, _DRAIN_BATCH, _DECAY):
        m[ZONES_AT + b * ZONE_WORDS + CPU] = a
        if action == _DRAIN_ALL:
            pcp.drain_all(m, b, c)
        elif action == _DRAIN_BATCH:
            pcp.drain_batch(m, b, c)
        else:
            pcp.decay(m, b, c)
        return 1
    if action == _GIVE_REST:
        m[ZONES_AT + b * ZONE_WORDS + CPU] = a
        pcp.give_rest(m, b, c, d, e)
        return 1
    if action == _ALLOCATE_FROM:
        return allocator.allocate_from(m, a, b, c, d, e, f)
    if action == _FETCHES_MORE:
        return 1 if pcp.fetches_more(m, a, b, lists.pindex_order(m, c)) else 0
    if action == _FOLD:
        allocator.fold(m, a)
    elif action == _UNRESERVE:
        return allocator.unreserve_highatomic(m, a, b, c)
    elif action == _MARK_MOVABLE:
        zone.set_movable(m, a, b, 1)
    elif action == _MAY_BE_TURNED:
        zone.may_be_turned(m, a)
    elif action == _SET_THRESHOLD:
        allocator.set_threshold(m, a, b)
    elif action == _CAPTURE:
        capture(m, a, b)
    elif action == _OVERFILLS:
        return 1 if pcp.overfills(m, a, b, c) else 0
    elif action == _PUSH:
        push(m, a, b, c, d, e, f)
    elif action == _FORGET:
        return lists.forget(m, a)
    elif action == _CARVE:
        return carve(m, a, b, c)
    elif action == _CLEAR_MOVES:
        zone.clear_moves(m)
    elif action == _SHOW_HEADS:
        forget_borrowed(m)
    elif action == _ISOLATE_PAGEBLOCK:
        isolation.isolate_pageblock(m, a, b)
    elif action == _UNISOLATE_PAGEBLOCK:
        isolation.unisolate_pageblock(m, a, b)
    else:
        return take_out(m, a, b, c)
    return 0


Perform = Callable[[Memory, int, int, int, int, int, int, int], int]


def _make(version: int) -> Perform:
    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def perform_action(
        m: Any, action: int, a: int, b: int, c: int, d: int, e: int, f: int
    ) -> Number:
        return perform(m, action, a, b, c, d, e, f) if version else -1

    return cast(Perform, perform_action)


@cache
def performer() -> Perform:
    """The compiled function; compiles on its first call, unless an earlier process has."""
    return _make(VERSION)
