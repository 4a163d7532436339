"""The loop of prediction, compiled: steps over the compiled allocator while both agree.

``analysis.replay.prediction`` is the text to read. This loop does for every step what it does, as
long as the kernel did the same, and stops where there is something to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any, cast

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.model.allocator.gfp import Gfp
from analysis.model.compiled import actions, allocator, lists, pcp, zone
from analysis.model.compiled.layout import (
    AWAKE_AT,
    BORROWED,
    CPU,
    CPUS,
    FAULT,
    FIRST_PFN,
    FREED_SHIFT,
    HANDED_MASK,
    HANDED_SHIFT,
    HEADS_AT,
    HEADS_BORROWED,
    HEADS_TAKEN,
    LOST_NOTE,
    MOST_HEADS,
    MOVE_DRAINED,
    MOVE_ORDER,
    MOVE_PFN,
    MOVES,
    MOVES_AT,
    NODES,
    NOTES,
    PAGES,
    PCP_LIST,
    ROTATED,
    ROTATIONS,
    ROW,
    ZONE_ASKED,
    ZONE_WORDS,
    ZONES,
    ZONES_AT,
    Memory,
    Number,
    compiled,
    wide,
)
from analysis.model.compiled.sources import version_with
from analysis.model.compiled.zone import ISOLATE, MOVABLE, RECLAIMABLE, UNMOVABLE
from analysis.replay import step as step_module
from analysis.replay.step import Kind

# Words of a run: what was counted, why it stopped.
REQUESTS, EXACT, AMBIGUOUS, GIVEN, TURNED, BULK_PAGES, FREES = 0, 1, 2, 3, 4, 5, 6
REFILLS, DRAINS = 7, 8
"""Those that were the kernel's."""
FREED_ON_PCP, FREED_FREE, DRAINED_FREE, NO_CAUSE = 9, 10, 11, 12
NOT_ISOLATED, NOT_CARVED, PUT_BACK_FREE, CAPTURED_FREE = 13, 14, 15, 16
AT, ANSWER, WAS_GIVEN = 17, 18, 19
"""The step at which it stopped; the page chosen (or -1), pages got or number of the block that is
to be freed; whether compaction's work, or a page's node, was taken from the kernel."""
RUN_WORDS = 20

UNEXPLAINED = {
    FREED_ON_PCP: "freed page is on a per-cpu list",
    FREED_FREE: "freed page is free",
    DRAINED_FREE: "drained page is free",
    NO_CAUSE: "drain without a cause",
    NOT_ISOLATED: "isolated block is not free as such",
    NOT_CARVED: "page taken is not free",
    PUT_BACK_FREE: "block put back is free",
    CAPTURED_FREE: "captured block is free",
}

LATE_WORDS = 4
"""Of a free put off: counter by which it is over at the latest; CPU of the interrupt that it was
put off for, or -1; pid, level."""


_VERSION = version_with(__file__, step_module.__file__)


class Stop(IntEnum):
    """Why the loop stopped at a step."""

    END = 0
    CHOICE = 1
    """The page chosen, or what was fetched for it, is not the kernel's."""
    BULK = 2
    """The same of a bulk request."""
    DRAINED = 3
    """What came back from per-cpu lists is not what did in the kernel; all else is done."""
    OVERFULL = 4
    """A block is to be freed, and it would overfill a list that did not overflow in the kernel."""
    STEP = 5
    """Nothing was done of this step."""


_END, _CHOICE, _BULK = int(Stop.END), int(Stop.CHOICE), int(Stop.BULK)
_DRAINED, _OVERFULL, _STEP = int(Stop.DRAINED), int(Stop.OVERFULL), int(Stop.STEP)
_ALLOCATE, _BULK_STEP, _FREE = int(Kind.ALLOCATE), int(Kind.BULK), int(Kind.FREE)
_FREE_DIRECT, _FREE_RANGE = int(Kind.FREE_DIRECT), int(Kind.FREE_RANGE)
_ISOLATE, _PUT_BACK = int(Kind.ISOLATE), int(Kind.PUT_BACK)
_DRAIN_ALL, _DRAIN_BATCH, _DECAY = int(Kind.DRAIN_ALL), int(Kind.DRAIN_BATCH), int(Kind.DECAY)
_FOLD, _ON_LRU, _UNKNOWN_DRAIN = int(Kind.FOLD), int(Kind.ON_LRU), int(Kind.UNKNOWN_DRAIN)
_CAPTURED, _COMPACTION = int(Kind.CAPTURED), int(Kind.COMPACTION)
_KSWAPD_WAKE, _KSWAPD_SLEEP = int(Kind.KSWAPD_WAKE), int(Kind.KSWAPD_SLEEP)
_GFP_MOVABLE, _GFP_RECLAIMABLE = int(Gfp.MOVABLE), int(Gfp.RECLAIMABLE)


@compiled
def _hand_out(m: Any, page: int, order: int) -> None:
    m[page * ROW + NOTES] = m[page * ROW + NOTES] & ~HANDED_MASK | (order + 1) << HANDED_SHIFT


@compiled
def _take_back(m: Any, page: int, order: int) -> None:
    """Nobody holds any of these pages now."""
    for one in range(page, page + (1 << order)):
        m[one * ROW + NOTES] &= ~HANDED_MASK


@compiled
def _handed(m: Any, page: int) -> Number:
    """The order of the block handed out here, plus one."""
    return (m[page * ROW + NOTES] & HANDED_MASK) >> HANDED_SHIFT


@compiled
def _same_moves(m: Any, blocks: Any, first: int, count: int, kind: int) -> bool:
    """Whether the model's moves were all of a kind, and the kernel's."""
    if m[MOVES] != count:
        return False
    at = m[MOVES_AT]
    for number in range(count):
        block = blocks[first + number]
        move = block >> MOVE_PFN << MOVE_PFN | kind | block & MOVE_ORDER
        if m[at + number] != move:
            return False
    return True


@compiled
def _clear_moves(m: Any) -> None:
    if m[MOVES]:
        zone.clear_moves(m)


@compiled
def _show_heads(m: Any, blocks: Any, row: Any) -> None:
    """Tells which heads the kernel found, for lists that compaction may have turned."""
    at, first = m[HEADS_AT], row["blocks"]
    locked = min(wide(row["locked"]), MOST_HEADS)
    borrowed = min(wide(row["borrowed"]), MOST_HEADS - locked)
    borrowed_at = first + wide(row["locked"]) + wide(row["drained"])
    m[HEADS_TAKEN], m[HEADS_BORROWED] = locked, borrowed
    for number in range(locked):
        m[at + number] = (blocks[first + number] >> MOVE_PFN) - m[FIRST_PFN]
    for number in range(borrowed):
        m[at + locked + number] = (blocks[borrowed_at + number] >> MOVE_PFN) - m[FIRST_PFN]
    for number in range(m[ZONES]):
        m[ZONES_AT + number * ZONE_WORDS + BORROWED] = 0


@compiled
def _rotations(m: Any) -> Number:
    found = 0
    for number in range(m[ZONES]):
        found += m[ZONES_AT + number * ZONE_WORDS + ROTATIONS]
    return found


@compiled
def _gfp_type(gfp: int) -> Number:
    if gfp & _GFP_MOVABLE:
        return MOVABLE
    return RECLAIMABLE if gfp & _GFP_RECLAIMABLE else UNMOVABLE


@compiled
def _announce_captures(m: Any, blocks: Any, first: int, count: int) -> None:
    for number in range(first, first + count):
        page = (blocks[number] >> MOVE_PFN) - m[FIRST_PFN]
        if 0 <= page < m[PAGES]:
            actions.capture(m, page, blocks[number] & MOVE_ORDER)


@compiled
def _free_piece(m: Any, run: Any, cpu: int, pfn: int, order: int, number: int, check: int) -> bool:
    """A block comes to a per-cpu list; False, and nothing noted, if that may be too early."""
    page = pfn - m[FIRST_PFN]
    at = -1
    held = 0
    if 0 <= page < m[PAGES]:
        held = _handed(m, page)
        at = lists.zone_of(m, page)
    if at < 0:
        run[FREED_FREE] += 1
        return True
    if m[page * ROW + PCP_LIST] >= 0:
        _take_back(m, page, order)
        m[page * ROW + NOTES] &= ~LOST_NOTE
        run[FREED_ON_PCP] += 1
        return True
    if (order or held != 1) and actions.take_out(m, cpu, page, order):
        run[FREED_FREE] += 1
    if check and lists.pageblock_type(m, page) != ISOLATE and pcp.overfills(m, at, cpu, order):
        return False
    _take_back(m, page, order)
    notes = m[page * ROW + NOTES] & ((1 << FREED_SHIFT) - 1) & ~LOST_NOTE
    m[page * ROW + NOTES] = notes | (number + 1) << FREED_SHIFT
    if not allocator.free(m, cpu, page, order) or m[FAULT]:
        m[FAULT] = 0
        run[FREED_FREE] += 1
    return True


@compiled
def _late_over(late: Any, count: int, effect: int, cpu: int, pid: int, level: int) -> bool:
    """Whether a free that came late may be over by now."""
    for number in range(count):
        at = number * LATE_WORDS
        interrupting = pid == late[at + 2] and level > late[at + 3]
        if late[at] <= effect or (cpu == late[at + 1] and not interrupting):
            return True
    return False


@compiled
def _drain(m: Any, run: Any, kind: int, cpu: int, at: int, owner: int) -> None:
    m[ZONES_AT + at * ZONE_WORDS + CPU] = cpu
    if kind == _DRAIN_ALL:
        pcp.drain_all(m, at, owner)
    elif kind == _DRAIN_BATCH:
        pcp.drain_batch(m, at, owner)
    else:
        pcp.decay(m, at, owner)
    if m[FAULT]:
        m[FAULT] = 0
        run[DRAINED_FREE] += 1


@compiled
def _isolate(m: Any, run: Any, cpu: int, page: int, order: int) -> None:
    if not allocator.isolate_free(m, cpu, page, order):
        run[NOT_ISOLATED] += 1
        if not actions.carve(m, cpu, page, order):
            run[NOT_CARVED] += 1
            actions.take_out(m, cpu, page, order)


@compiled
def run_steps(
    m: Any,
    rows: Any,
    blocks: Any,
    types: Any,
    cpu_nodes: Any,
    early: Any,
    late: Any,
    late_count: int,
    run: Any,
) -> Number:
    """Does steps from ``run[AT]`` on."""
    first_pfn, pages = m[FIRST_PFN], m[PAGES]
    for number in range(run[AT], len(rows)):
        row = rows[number]
        kind = wide(row["kind"])
        cpu = wide(row["cpu"])
        order = wide(row["order"])
        page = row["pfn"] - first_pfn
        inside = 0 <= page < pages
        at = row["blocks"]
        locked, drained = wide(row["locked"]), wide(row["drained"])
        run[AT] = number
        if late_count:
            level = wide(row["level"])
            if _late_over(late, late_count, row["effect"], cpu, wide(row["pid"]), level):
                return _STEP
        if kind == _ALLOCATE:
            if not inside or (m[page * ROW + NOTES] & LOST_NOTE and not early[number]):
                return _STEP
            alone = locked == 1 and blocks[at] == (row["pfn"] << MOVE_PFN | order)
            if alone and pcp.pcp_allowed(m, order) and not early[number]:
                return _STEP
            run[REQUESTS] += 1
            _hand_out(m, page, order)
            if early[number]:
                actions.take_out(m, cpu, page, order)
                run[AMBIGUOUS] += 1
                continue
            node = wide(row["node"])
            if node < 0:
                node = cpu_nodes[cpu]
            given = 0
            rotations = -1
            if m[ROTATED]:
                _show_heads(m, blocks, row)
                rotations = _rotations(m)
            migratetype = types[row["migratetype"]]
            flags = wide(row["alloc_flags"])
            m[ZONE_ASKED] = lists.zone_of(m, page)
            chosen = allocator.allocate(m, cpu, node, order, row["gfp"], migratetype, flags)
            m[ZONE_ASKED] = -1
            if locked and rotations >= 0 and _rotations(m) > rotations:
                given = 1
            if chosen != page or not _same_moves(m, blocks, at, locked, 0):
                run[ANSWER], run[WAS_GIVEN] = chosen, given
                return _CHOICE
            if locked:
                run[REFILLS] += 1
            if given:
                run[TURNED] += 1
                run[GIVEN] += 1
            else:
                run[AMBIGUOUS if row["count"] and not locked else EXACT] += 1
            _clear_moves(m)
        elif kind in (_FREE, _FREE_RANGE):
            if row["stop_after"]:
                return _STEP
            run[FREES] += 1
            captured = wide(row["captured"])
            pieces = wide(row["pieces"])
            if captured:
                begin = at + locked + drained + wide(row["borrowed"]) + pieces
                _announce_captures(m, blocks, begin, captured)
            check = 1 if drained == 0 else 0
            if kind == _FREE:
                if not _free_piece(m, run, cpu, row["pfn"], order, number, check):
                    run[ANSWER] = 0
                    return _OVERFULL
            else:
                begin = at + locked + drained + wide(row["borrowed"])
                for piece in range(pieces):
                    block = blocks[begin + piece]
                    pfn, size = block >> MOVE_PFN, block & MOVE_ORDER
                    if not _free_piece(m, run, cpu, pfn, size, number, check):
                        run[ANSWER] = piece
                        return _OVERFULL
            if not _same_moves(m, blocks, at + locked, drained, MOVE_DRAINED):
                return _DRAINED
            run[DRAINS] += drained > 0
            _clear_moves(m)
        elif kind == _ON_LRU:
            if not inside or lists.zone_of(m, page) < 0:
                return _STEP
            held = _handed(m, page)
            zone.set_movable(m, page, held - 1 if held else order, 1)
        elif kind == _FREE_DIRECT:
            if not inside:
                return _STEP
            run[FREES] += 1
            held = _handed(m, page)
            _take_back(m, page, order)
            if (order or held != 1) and actions.take_out(m, cpu, page, order):
                run[FREED_FREE] += 1
            captured = -1
            begin = at + locked + drained + wide(row["borrowed"]) + wide(row["pieces"])
            for block in blocks[begin : begin + wide(row["captured"])]:
                if block >> MOVE_PFN == row["pfn"]:
                    captured = block & MOVE_ORDER
            if not allocator.free_direct(m, cpu, page, order, captured):
                run[FREED_FREE] += 1
            if not _same_moves(m, blocks, at + locked, drained, MOVE_DRAINED):
                return _DRAINED
            run[DRAINS] += drained > 0
            _clear_moves(m)
        elif kind in (_DRAIN_ALL, _DRAIN_BATCH, _DECAY):
            owner = row["count"]
            if row["stop_after"]:
                return _STEP
            if row["zone"] >= 0:
                if owner < 0 or owner >= m[CPUS]:
                    return _STEP
                begin = at + locked + drained + wide(row["borrowed"]) + wide(row["pieces"])
                _announce_captures(m, blocks, begin, wide(row["captured"]))
                _drain(m, run, kind, cpu, wide(row["zone"]), owner)
            if not _same_moves(m, blocks, at + locked, drained, MOVE_DRAINED):
                return _DRAINED
            run[DRAINS] += drained > 0
            _clear_moves(m)
        elif kind == _BULK_STEP:
            if row["count"] > 0:
                node = wide(row["node"])
                if node < 0:
                    node = cpu_nodes[cpu]
                if m[ROTATED]:
                    _show_heads(m, blocks, row)
                gfp = row["gfp"]
                got = allocator.allocate_bulk(m, cpu, node, gfp, _gfp_type(gfp), row["count"])
                if got != row["count"] or not _same_moves(m, blocks, at, locked, 0):
                    run[ANSWER] = got
                    return _BULK
                run[BULK_PAGES] += got
                run[REFILLS] += locked > 0
                _clear_moves(m)
        elif kind == _CAPTURED:
            if not inside:
                return _STEP
            run[GIVEN] += 1
            _hand_out(m, page, order)
            run[CAPTURED_FREE] += actions.take_out(m, cpu, page, order)
        elif kind == _ISOLATE:
            if not inside:
                return _STEP
            _isolate(m, run, cpu, page, order)
        elif kind == _PUT_BACK:
            if not inside:
                return _STEP
            _take_back(m, page, order)
            run[PUT_BACK_FREE] += actions.take_out(m, cpu, page, order)
            if not allocator.put_back(m, cpu, page, order, types[row["migratetype"]]):
                run[PUT_BACK_FREE] += 1
        elif kind == _FOLD:
            allocator.fold(m, cpu)
        elif kind == _UNKNOWN_DRAIN:
            run[NO_CAUSE] += 1
            if not _same_moves(m, blocks, at + locked, drained, MOVE_DRAINED):
                return _DRAINED
        elif kind in (_KSWAPD_WAKE, _KSWAPD_SLEEP):
            node = wide(row["node"])
            if 0 <= node < m[NODES]:
                m[m[AWAKE_AT] + node] = kind == _KSWAPD_WAKE
        elif kind == _COMPACTION:
            if not inside:
                return _STEP
            zone.may_be_turned(m, lists.zone_of(m, page))
        else:
            return _STEP
    run[AT] = len(rows)
    return _END


Words = NDArray[np.int64]
Run = Callable[
    [Memory, NDArray[np.void], Words, Words, Words, NDArray[np.bool_], Words, int, Words], int
]


def _make(version: int) -> Run:
    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def run(
        m: Any,
        rows: Any,
        blocks: Any,
        types: Any,
        cpu_nodes: Any,
        early: Any,
        late: Any,
        late_count: int,
        words: Any,
    ) -> Number:
        if not version:
            return -1
        return run_steps(m, rows, blocks, types, cpu_nodes, early, late, late_count, words)

    return cast(Run, run)


@cache
def runner() -> Run:
    """The compiled loop; compiles on its first call, unless an earlier process has."""
    return _make(_VERSION)
