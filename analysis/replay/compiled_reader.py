"""From a window's events to steps, compiled for the events there are many of.

``analysis.replay.requests.RequestReader`` is the text to read; ``_read`` does the same to the same
events, and both are held against each other by property tests. Events that stand for themselves
and are rare (daemons, thresholds, isolation of pageblocks …) go through that reader here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.model.compiled.layout import MOVE_ORDER, MOVE_PFN, Number, compiled, wide
from analysis.model.compiled.sources import version_with
from analysis.model.eras import Era
from analysis.replay import step as step_module
from analysis.replay import timeline as timeline_module
from analysis.replay.requests import MOVABLE, RequestReader
from analysis.replay.step import Kind, Step
from analysis.replay.step_arrays import LISTS, STEP, ArraySteps, join_steps, pack_steps
from analysis.replay.timeline import (
    EVENT_CODES,
    PageAddresses,
    compactions_of,
    contexts_of,
    neighbours,
)

_VERSION = version_with(__file__, step_module.__file__, timeline_module.__file__)

_COMPILED = (
    "mm_page_alloc",
    "mm_page_free",
    "mm_page_free_batched",
    "mm_page_alloc_zone_locked",
    "mm_page_pcpu_drain",
    "mm_page_alloc_extfrag",
    "mm_lru_insertion",
    "isolate_free_page",
    "isolate_free_page_return",
    "free_one_page",
    "split_large_buddy",
    "putback_isolated_page",
    "alloc_pages_bulk",
    "alloc_pages_bulk_return",
    "free_prepared_range",
    "drain_zone_pages",
    "drain_pages_zone",
    "decay_pcp_high",
    "alloc_pages",
    "get_page_from_freelist",
    "compaction_free",
)
"""Events that are read here: all that depend on one another, and those there are many of."""
_STEP_EVENTS = (
    "mm_page_alloc",
    "mm_page_free",
    "mm_page_pcpu_drain",
    "mm_lru_insertion",
    "isolate_free_page",
    "free_one_page",
    "split_large_buddy",
    "putback_isolated_page",
    "alloc_pages_bulk",
    "free_prepared_range",
    "drain_zone_pages",
    "drain_pages_zone",
    "decay_pcp_high",
)
"""Those that may make a step each."""
_POINTERS = ("compaction_free", "isolate_free_page", "putback_isolated_page", "free_prepared_range")
"""Events whose first field is the address of a struct page."""
_NOBODY = -1
_MOST_NODES = 1 << 15
"""More than there can be."""

_ALLOC, _FREE_EVENT = EVENT_CODES["mm_page_alloc"], EVENT_CODES["mm_page_free"]
_BATCHED = EVENT_CODES["mm_page_free_batched"]
_LOCKED_EVENT = EVENT_CODES["mm_page_alloc_zone_locked"]
_DRAIN_EVENT, _EXTFRAG = EVENT_CODES["mm_page_pcpu_drain"], EVENT_CODES["mm_page_alloc_extfrag"]
_LRU = EVENT_CODES["mm_lru_insertion"]
_ISOLATE_EVENT = EVENT_CODES["isolate_free_page"]
_ISOLATE_RETURN = EVENT_CODES["isolate_free_page_return"]
_FREE_ONE, _SPLIT = EVENT_CODES["free_one_page"], EVENT_CODES["split_large_buddy"]
_PUT_BACK_EVENT = EVENT_CODES["putback_isolated_page"]
_BULK_EVENT = EVENT_CODES["alloc_pages_bulk"]
_BULK_RETURN = EVENT_CODES["alloc_pages_bulk_return"]
_COMPACTS, _COMPACTED = EVENT_CODES["mm_compaction_begin"], EVENT_CODES["mm_compaction_end"]
_KEEPS = EVENT_CODES["compaction_free"]
_RANGE = EVENT_CODES["free_prepared_range"]
_DRAIN_BATCH_EVENT = EVENT_CODES["drain_zone_pages"]
_DRAIN_ALL_EVENT, _DECAY_EVENT = EVENT_CODES["drain_pages_zone"], EVENT_CODES["decay_pcp_high"]
_ASKED, _FLAGS_EVENT = EVENT_CODES["alloc_pages"], EVENT_CODES["get_page_from_freelist"]

_ALLOCATE, _CAPTURED, _BULK = int(Kind.ALLOCATE), int(Kind.CAPTURED), int(Kind.BULK)
_FREE, _FREE_DIRECT, _FREE_RANGE = int(Kind.FREE), int(Kind.FREE_DIRECT), int(Kind.FREE_RANGE)
_ISOLATE, _PUT_BACK, _ON_LRU = int(Kind.ISOLATE), int(Kind.PUT_BACK), int(Kind.ON_LRU)
_DRAIN_ALL, _DRAIN_BATCH, _DECAY = int(Kind.DRAIN_ALL), int(Kind.DRAIN_BATCH), int(Kind.DECAY)
_UNKNOWN_DRAIN, _MERGED = int(Kind.UNKNOWN_DRAIN), int(Kind.MERGED)
_DRAIN_REST = int(Kind.DRAIN_REST)

# A list under way: first and last node in the pool, and how many; three numbers of each.
_LOCKED, _DRAINED, _BORROWED, _PIECES, _CAPTURES = (3 * number for number in range(len(LISTS)))
_LIST_WORDS = 3 * len(LISTS)

# A context: its two lists, then what it has under way (a step, or -1).
_OF_LOCKED, _OF_BORROWED = 0, 3
_LOCKED_AT, _LOCKED_ON, _OPEN, _BULK_OPEN, _ISOLATING = 6, 7, 8, 9, 10
_ASKED_NODE, _ASKED_FLAGS, _INSERTED, _COMPACTING = 11, 12, 13, 14
_CONTEXT_WORDS = 15

# Of a page: the free announced (a step), the step that gave it back last, and when, when it left,
# the CPU to whose lists it came last, the bulk request that took it if it came late enough, and the
# free that was announced before its task moved, where to, and the counter there.
_ANNOUNCED, _RETURNED, _RETURNED_AT, _LEFT, _LISTED_ON, _AWAITED = 0, 1, 2, 3, 4, 5
_MOVED, _MOVED_TO, _MOVED_AT = 6, 7, 8
_PAGE_WORDS = 9

# How much of the arrays is used.
_STEPS, _BLOCKS = 0, 1


@compiled
def _append(lists: Any, at: int, pool: Any, used: Any, block: int) -> None:
    """Puts a block at the end of the list at ``lists[at]``."""
    node = used[_BLOCKS]
    used[_BLOCKS] += 1
    pool[2 * node], pool[2 * node + 1] = block, _NOBODY
    if lists[at + 2]:
        pool[2 * lists[at + 1] + 1] = node
    else:
        lists[at] = node
    lists[at + 1] = node
    lists[at + 2] += 1


@compiled
def _move(lists: Any, at: int, source: Any, source_at: int) -> None:
    """Hands a whole list over; the source is empty then."""
    for word in range(3):
        lists[at + word] = source[source_at + word]
    source[source_at + 2] = 0


@compiled
def _ends_with(lists: Any, at: int, pool: Any, block: int) -> bool:
    return bool(lists[at + 2] and pool[2 * lists[at + 1]] == block)


@compiled
def _pages_of(lists: Any, at: int, pool: Any) -> Number:
    """How many pages a list of blocks is."""
    pages, node = 0, lists[at]
    for _ in range(lists[at + 2]):
        pages += 1 << (pool[2 * node] & MOVE_ORDER)
        node = pool[2 * node + 1]
    return pages


@compiled
def _put(lists: Any, at: int, pool: Any, used: Any, block: int) -> None:
    """As ``_append``; replaces a block of the same page."""
    node = lists[at]
    for _ in range(lists[at + 2]):
        if pool[2 * node] >> MOVE_PFN == block >> MOVE_PFN:
            pool[2 * node] = block
            return
        node = pool[2 * node + 1]
    _append(lists, at, pool, used, block)


@compiled
def _step(steps: Any, step_rows: Any, used: Any, row: Any, number: int, kind: int) -> Number:
    """A new step of an event."""
    step = used[_STEPS]
    used[_STEPS] += 1
    step_rows[step] = number
    made = steps[step]
    made["kind"] = kind
    made["effect"] = made["event"] = row["counter"]
    made["cpu"], made["pid"], made["level"] = row["cpu"], row["pid"], row["level"]
    made["pfn"] = made["migratetype"] = made["node"] = made["alloc_flags"] = made["zone"] = -1
    return step


@compiled
def _drains(steps: Any, step: int) -> bool:
    """Whether blocks may come back from per-cpu lists because of a step."""
    if step < 0:
        return False
    kind = wide(steps[step]["kind"])
    return bool(
        kind in (_FREE, _FREE_RANGE, _FREE_DIRECT)
        or kind in (_DRAIN_ALL, _DRAIN_BATCH, _DECAY, _DRAIN_REST, _UNKNOWN_DRAIN)
    )


@compiled
def _settle(steps: Any, of_pages: Any, of_page: int, cpu: int) -> None:
    """A page is found on a CPU's lists: its free may have come to them after its task moved."""
    step = of_pages[of_page + _MOVED]
    of_pages[of_page + _MOVED] = -1
    if step >= 0 and of_pages[of_page + _MOVED_TO] == cpu:
        steps[step]["cpu"], steps[step]["effect"] = cpu, of_pages[of_page + _MOVED_AT]


@compiled
def _gives_up(steps: Any, step: int) -> bool:
    """Whether a step gives no more back once its task is on another CPU."""
    return bool(step >= 0 and wide(steps[step]["kind"]) in (_FREE, _DRAIN_REST))


@compiled
def _note_returned(of_pages: Any, page: int, pages: int, step: int, counter: int) -> None:
    if 0 <= page < pages:
        of_pages[page * _PAGE_WORDS + _RETURNED] = step
        of_pages[page * _PAGE_WORDS + _RETURNED_AT] = counter


@compiled
def _captured_from(
    steps: Any, of_pages: Any, pages: int, page: int, order: int, pid: int
) -> Number:
    """The page of the block that this task gave back just now and that grew into this; or -1."""
    best, found = -1, -1
    for one in range(max(page, 0), min(page + (1 << order), pages)):
        at = one * _PAGE_WORDS
        if of_pages[at + _RETURNED] >= 0 and of_pages[at + _RETURNED_AT] > best:
            best, found = of_pages[at + _RETURNED_AT], one
    if found < 0 or wide(steps[of_pages[found * _PAGE_WORDS + _RETURNED]]["pid"]) != pid:
        return -1
    if 0 <= page < pages and best < of_pages[page * _PAGE_WORDS + _LEFT]:
        return -1
    return found


@compiled
def _take_locked(
    steps: Any, lists: Any, pool: Any, used: Any, contexts: Any, at: int, block: int, row: Any
) -> None:
    """A block left the zone's lists for a context."""
    bulk = contexts[at + _BULK_OPEN]
    if bulk >= 0:
        if not lists[bulk * _LIST_WORDS + _LOCKED + 2]:
            steps[bulk]["effect"], steps[bulk]["cpu"] = row["counter"], row["cpu"]
        _append(lists, bulk * _LIST_WORDS + _LOCKED, pool, used, block)
        return
    if not contexts[at + _OF_LOCKED + 2]:
        contexts[at + _LOCKED_AT], contexts[at + _LOCKED_ON] = row["counter"], wide(row["cpu"])
    _append(contexts, at + _OF_LOCKED, pool, used, block)


@compiled
def _take_range(
    lists: Any, pool: Any, used: Any, step: int, first: int, count: int, huge_order: int
) -> None:
    """The blocks as which a range of pages is freed."""
    pfn = first
    while pfn < first + count:
        order = 10
        while order > 0 and (pfn & ((1 << order) - 1) or pfn + (1 << order) > first + count):
            order -= 1
        if order <= 3 or order == huge_order:
            block = pfn << MOVE_PFN | order
            _append(lists, step * _LIST_WORDS + _PIECES, pool, used, block)
        pfn += 1 << order


@compiled
def _read(
    rows: Any,
    firsts: Any,
    context_of: Any,
    previous: Any,
    skipped: Any,
    sizes: Any,
    steps: Any,
    step_rows: Any,
    lists: Any,
    pool: Any,
    used: Any,
    contexts: Any,
    of_pages: Any,
    ran_on: Any,
    zone_starts: Any,
    locked_by: Any,
    bulk_on: Any,
    freed_meanwhile: Any,
) -> None:
    first_pfn, pages, huge_order = sizes[0], sizes[1], sizes[2]
    claims, in_batches = sizes[3], sizes[4]
    for number in range(len(rows)):
        row = rows[number]
        ran = ran_on[row["cpu"]]
        ran_on[row["cpu"]] = context_of[number]
        code, counter = wide(row["code"]), row["counter"]
        had = -1
        if code in (_LOCKED_EVENT, _EXTFRAG, _DRAIN_EVENT, _SPLIT):
            zone = 0
            while zone + 1 < len(locked_by) and firsts[number] >= zone_starts[zone]:
                zone += 1
            had = locked_by[zone]
            locked_by[zone] = context_of[number]
        before = previous[number]
        if before >= 0 and rows[before]["cpu"] != row["cpu"]:
            step = contexts[context_of[number] * _CONTEXT_WORDS + _OPEN]
            draining = bool(rows[before]["code"] == _DRAIN_EVENT)
            if in_batches and draining and _gives_up(steps, step):
                given = _pages_of(lists, step * _LIST_WORDS + _DRAINED, pool)
                steps[step]["stop_after"] = given
            elif not (in_batches and draining) and step >= 0 and steps[step]["kind"] == _FREE:
                made, moved = steps[step], steps[step]["pfn"] - first_pfn
                now = made["event"] == made["effect"] == rows[before]["counter"]
                if now and 0 <= moved < pages:
                    moved *= _PAGE_WORDS
                    returned = of_pages[moved + _RETURNED] >= 0
                    if returned and of_pages[moved + _RETURNED_AT] < wide(made["event"]):
                        returned = False
                    if of_pages[moved + _ANNOUNCED] == step and not returned:
                        of_pages[moved + _MOVED] = step
                        of_pages[moved + _MOVED_TO] = wide(row["cpu"])
                        of_pages[moved + _MOVED_AT] = counter
        if code in (_COMPACTS, _COMPACTED):
            contexts[context_of[number] * _CONTEXT_WORDS + _COMPACTING] = code == _COMPACTS
        if skipped[code]:
            continue
        a, b, c = firsts[number], row["b"], row["c"]
        page = a - first_pfn
        inside = 0 <= page < pages
        of_page = page * _PAGE_WORDS
        at = context_of[number] * _CONTEXT_WORDS
        if code == _KEEPS:
            continue
        if code == _LRU:
            step = contexts[at + _INSERTED] = _step(steps, step_rows, used, row, number, _ON_LRU)
            steps[step]["pfn"] = a
            continue
        if code == _ASKED:
            contexts[at + _ASKED_NODE] = a if 0 <= a < _MOST_NODES else -1
            continue
        if code == _FLAGS_EVENT:
            contexts[at + _ASKED_FLAGS] = a
            continue
        if code == _PUT_BACK_EVENT:
            made = steps[_step(steps, step_rows, used, row, number, _PUT_BACK)]
            made["pfn"], made["order"], made["migratetype"] = a, b, c
            continue
        if code == _ALLOC:
            node, flags = contexts[at + _ASKED_NODE], contexts[at + _ASKED_FLAGS]
            contexts[at + _ASKED_NODE] = contexts[at + _ASKED_FLAGS] = -1
            if a < 0:
                continue
            bulk = contexts[at + _BULK_OPEN]
            source, source_at = contexts, at + _OF_LOCKED
            locked_at, locked_on = contexts[at + _LOCKED_AT], contexts[at + _LOCKED_ON]
            if bulk >= 0 and lists[bulk * _LIST_WORDS + _LOCKED + 2]:
                source, source_at = lists, bulk * _LIST_WORDS + _LOCKED
                locked_at, locked_on = steps[bulk]["effect"], wide(steps[bulk]["cpu"])
            kind, from_page = _ALLOCATE, -1
            if not source[source_at + 2] and b > 0:
                from_page = _captured_from(steps, of_pages, pages, page, b, wide(row["pid"]))
                if from_page >= 0:
                    kind = _CAPTURED
                    giver = of_pages[from_page * _PAGE_WORDS + _RETURNED]
                    block = (from_page + first_pfn) << MOVE_PFN | b
                    _put(lists, giver * _LIST_WORDS + _CAPTURES, pool, used, block)
            step = _step(steps, step_rows, used, row, number, kind)
            made = steps[step]
            made["pfn"], made["order"], made["gfp"] = a, b, c & 0xFFFFFFFF
            made["migratetype"], made["node"], made["alloc_flags"] = row["d"], node, flags
            if source[source_at + 2]:
                _move(lists, step * _LIST_WORDS + _LOCKED, source, source_at)
                _move(lists, step * _LIST_WORDS + _BORROWED, contexts, at + _OF_BORROWED)
                made["effect"], made["cpu"] = locked_at, locked_on
                contexts[at + _OF_LOCKED + 2] = 0
            elif before >= 0 and rows[before]["cpu"] != row["cpu"]:
                earlier = rows[before]
                made["count"] = 1
                if inside and of_pages[of_page + _LISTED_ON] == earlier["cpu"]:
                    made["effect"], made["cpu"] = earlier["counter"], earlier["cpu"]
            if inside and not lists[step * _LIST_WORDS + _LOCKED + 2]:
                _settle(steps, of_pages, of_page, wide(made["cpu"]))
            if bulk >= 0:
                steps[bulk]["attempts"] += 1
            contexts[at + _OPEN] = -1
            if inside:
                of_pages[of_page + _ANNOUNCED] = -1
                awaiting = of_pages[of_page + _AWAITED]
                if awaiting >= 0:
                    steps[awaiting]["effect"] = steps[awaiting]["event"]
                of_pages[of_page + _AWAITED] = -1
        elif code == _FREE_EVENT:
            if before >= 0 and rows[before]["code"] == _KEEPS and firsts[before] == a:
                continue
            compacting = contexts[at + _COMPACTING] == 1
            if before >= 0 and rows[before]["code"] == _LRU and compacting:
                steps[contexts[at + _INSERTED]]["order"] = b
            if inside:
                of_pages[of_page + _AWAITED] = of_pages[of_page + _MOVED] = -1
                if bulk_on[row["cpu"]] not in (-1, contexts[at + _BULK_OPEN]):
                    freed_meanwhile[row["cpu"]] = of_page
            direct = b > 3 and b != huge_order
            kind = _FREE_DIRECT if direct else _FREE
            step = _step(steps, step_rows, used, row, number, kind)
            steps[step]["pfn"], steps[step]["order"] = a, b
            contexts[at + _OPEN] = step
            if inside:
                of_pages[of_page + _ANNOUNCED] = step
                of_pages[of_page + _LISTED_ON] = wide(row["cpu"])
            if direct:
                _note_returned(of_pages, page, pages, step, counter)
        elif code == _BATCHED:
            step = of_pages[of_page + _ANNOUNCED] if inside else -1
            if step >= 0:
                of_pages[of_page + _ANNOUNCED] = -1
                of_pages[of_page + _LISTED_ON] = wide(row["cpu"])
                steps[step]["effect"], steps[step]["cpu"] = counter, row["cpu"]
                contexts[at + _OPEN] = step
        elif code == _DRAIN_EVENT:
            step = contexts[at + _OPEN]
            if not _drains(steps, step):
                step = _step(steps, step_rows, used, row, number, _UNKNOWN_DRAIN)
                contexts[at + _OPEN] = step
            if not lists[step * _LIST_WORDS + _DRAINED + 2]:
                steps[step]["effect"], steps[step]["cpu"] = counter, row["cpu"]
            elif ran != context_of[number] or had != context_of[number]:
                kind = wide(steps[step]["kind"])
                if kind in (_DRAIN_ALL, _DECAY, _DRAIN_REST) or (in_batches and kind == _FREE):
                    given = _pages_of(lists, step * _LIST_WORDS + _DRAINED, pool)
                    steps[step]["stop_after"] = given
                    step = _step(steps, step_rows, used, row, number, _DRAIN_REST)
                    contexts[at + _OPEN] = step
            _append(lists, step * _LIST_WORDS + _DRAINED, pool, used, a << MOVE_PFN | b)
            if inside:
                owner = wide(row["cpu"])
                if wide(steps[step]["kind"]) in (_DRAIN_ALL, _DRAIN_BATCH, _DECAY):
                    owner = steps[step]["count"]
                _settle(steps, of_pages, of_page, owner)
            _note_returned(of_pages, page, pages, step, counter)
        elif code in (_LOCKED_EVENT, _EXTFRAG):
            block = a << MOVE_PFN | b
            if code == _EXTFRAG:
                bulk, open_step = contexts[at + _BULK_OPEN], contexts[at + _OPEN]
                taken, taken_at = contexts, at + _OF_LOCKED
                borrowed, borrowed_at = contexts, at + _OF_BORROWED
                if bulk >= 0:
                    taken, taken_at = lists, bulk * _LIST_WORDS + _LOCKED
                    borrowed, borrowed_at = lists, bulk * _LIST_WORDS + _BORROWED
                seen = _ends_with(taken, taken_at, pool, block)
                alone = open_step >= 0 and b == c and bulk < 0 and not taken[taken_at + 2]
                given = of_pages[of_page + _RETURNED] if inside else -1
                if claims and not seen and alone and given == open_step:
                    continue  # a captured block of another type: it is on no list
                _append(borrowed, borrowed_at, pool, used, a << MOVE_PFN)
                if not claims or seen:
                    continue
            if inside:
                of_pages[of_page + _LEFT] = counter
                of_pages[of_page + _LISTED_ON] = wide(row["cpu"])
            _take_locked(steps, lists, pool, used, contexts, at, block, row)
        elif code in (_FREE_ONE, _SPLIT):
            step = of_pages[of_page + _ANNOUNCED] if inside else -1
            if step < 0 or wide(steps[step]["order"]) != b:
                step = _step(steps, step_rows, used, row, number, _FREE_DIRECT)
                steps[step]["pfn"], steps[step]["order"] = a, b
                if inside:
                    of_pages[of_page + _ANNOUNCED] = step
            made = steps[step]
            made["kind"], made["effect"], made["cpu"] = _FREE_DIRECT, counter, row["cpu"]
            made["count"] = c
            _note_returned(of_pages, page, pages, step, counter)
        elif code == _ISOLATE_EVENT:
            step = _step(steps, step_rows, used, row, number, _MERGED)
            steps[step]["pfn"], steps[step]["order"] = a, b
            contexts[at + _ISOLATING] = step
        elif code == _ISOLATE_RETURN:
            step = contexts[at + _ISOLATING]
            if step >= 0 and a:
                steps[step]["kind"] = _ISOLATE
                page = steps[step]["pfn"] - first_pfn
                if 0 <= page < pages:
                    of_pages[page * _PAGE_WORDS + _LEFT] = steps[step]["event"]
            contexts[at + _ISOLATING] = -1
        elif code == _BULK_EVENT:
            step = _step(steps, step_rows, used, row, number, _BULK)
            made = steps[step]
            made["gfp"], made["node"], made["count"] = a & 0xFFFFFFFF, b, c
            contexts[at + _BULK_OPEN] = bulk_on[row["cpu"]] = step
        elif code == _BULK_RETURN:
            bulk = contexts[at + _BULK_OPEN]
            if bulk >= 0:
                made = steps[bulk]
                freed = freed_meanwhile[row["cpu"]]
                if not lists[bulk * _LIST_WORDS + _LOCKED + 2]:
                    made["effect"] = counter
                    if freed >= 0 and bulk_on[row["cpu"]] == bulk:
                        of_pages[freed + _AWAITED] = bulk
                freed_meanwhile[row["cpu"]] = bulk_on[row["cpu"]] = -1
                made["order"] = made["count"]
                made["count"] = a - wide(made["attempts"])
                contexts[at + _BULK_OPEN] = contexts[at + _OPEN] = -1
        elif code == _RANGE:
            step = _step(steps, step_rows, used, row, number, _FREE_RANGE)
            steps[step]["pfn"] = a
            _take_range(lists, pool, used, step, a, b, huge_order)
            for one in range(max(page, 0), min(page + b, pages)):
                announced = of_pages[one * _PAGE_WORDS + _ANNOUNCED]
                if announced >= 0:
                    steps[announced]["kind"] = _MERGED
                    of_pages[one * _PAGE_WORDS + _ANNOUNCED] = -1
            contexts[at + _OPEN] = step
        else:
            kind = _DECAY
            if code == _DRAIN_BATCH_EVENT:
                kind = _DRAIN_BATCH
            elif code == _DRAIN_ALL_EVENT:
                kind = _DRAIN_ALL
            step = _step(steps, step_rows, used, row, number, kind)
            steps[step]["pointer"] = row["a"]
            steps[step]["count"] = b if code == _DRAIN_ALL_EVENT else wide(row["cpu"])
            contexts[at + _OPEN] = step


@compiled
def _flatten(steps: Any, chosen: Any, lists: Any, pool: Any, blocks: Any, rows: Any) -> Number:
    """Copies the chosen steps to ``rows`` and their lists, one after the other, to ``blocks``."""
    used = 0
    for number in range(len(chosen)):
        step = chosen[number]
        rows[number] = steps[step]
        row = rows[number]
        row["blocks"] = used
        at = step * _LIST_WORDS
        row["locked"], row["drained"] = lists[at + _LOCKED + 2], lists[at + _DRAINED + 2]
        row["borrowed"], row["pieces"] = lists[at + _BORROWED + 2], lists[at + _PIECES + 2]
        row["captured"] = lists[at + _CAPTURES + 2]
        for which in range(0, _LIST_WORDS, 3):
            node = lists[at + which]
            for _ in range(lists[at + which + 2]):
                blocks[used] = pool[2 * node]
                node = pool[2 * node + 1]
                used += 1
    return used


def _make(version: int) -> tuple[Callable[..., int], Callable[..., int]]:
    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def read(
        rows: Any,
        firsts: Any,
        context_of: Any,
        previous: Any,
        skipped: Any,
        sizes: Any,
        steps: Any,
        step_rows: Any,
        lists: Any,
        pool: Any,
        used: Any,
        contexts: Any,
        of_pages: Any,
        ran_on: Any,
        zone_starts: Any,
        locked_by: Any,
        bulk_on: Any,
        freed_meanwhile: Any,
    ) -> Number:
        if not version:
            return 1
        _read(
            rows, firsts, context_of, previous, skipped, sizes, steps, step_rows, lists, pool, used,
            contexts, of_pages, ran_on, zone_starts, locked_by, bulk_on, freed_meanwhile,
        )  # fmt: skip
        return 0

    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def flatten(steps: Any, chosen: Any, lists: Any, pool: Any, blocks: Any, rows: Any) -> Number:
        return _flatten(steps, chosen, lists, pool, blocks, rows) if version else -1

    return cast("tuple[Callable[..., int], Callable[..., int]]", (read, flatten))


@cache
def _compiled_reader() -> tuple[Callable[..., int], Callable[..., int]]:
    return _make(_VERSION)


def read_steps(
    rows: NDArray[np.void],
    addresses: PageAddresses,
    *,
    pfns: range,
    huge_order: int | None,
    era: Era,
    zone_starts: Sequence[int] = (),
) -> ArraySteps:
    """All steps of a timeline (``analysis.replay.requests.timeline``), by effect.

    ``pfns``: those that any zone spans, or more. ``zone_starts``: see ``RequestReader``.
    """
    skipped = np.array([name not in _COMPILED for name in EVENT_CODES], np.bool_)
    read, flatten = _compiled_reader()
    firsts = _first_fields(rows, addresses)
    context_of = contexts_of(rows)
    found = neighbours(rows, context_of)
    counts = np.bincount(rows["code"], minlength=len(EVENT_CODES))
    most_steps = int(counts[[EVENT_CODES[name] for name in _STEP_EVENTS]].sum())
    steps = np.zeros(most_steps, STEP)
    step_rows = np.zeros(most_steps, np.int64)
    lists = np.zeros(most_steps * _LIST_WORDS, np.int64)
    pool = np.zeros(2 * _most_blocks(rows, counts), np.int64)
    used = np.zeros(2, np.int64)
    contexts = np.full((int(context_of.max(initial=0)) + 1, _CONTEXT_WORDS), -1, np.int64)
    contexts[:, :_LOCKED_AT] = 0
    of_pages = np.full(len(pfns) * _PAGE_WORDS, -1, np.int64)
    ran_on = np.full(int(rows["cpu"].max(initial=0)) + 1, -1, np.int64)
    locked_by = np.full(len(zone_starts) + 1, -1, np.int64)
    huge = -1 if huge_order is None else huge_order
    flags = era.claims_then_steals, era.drains_in_batches
    sizes = np.array([pfns.start, len(pfns), huge, *flags], np.int64)
    read(
        rows, firsts, context_of, found.previous, skipped, sizes, steps, step_rows, lists, pool,
        used, contexts.reshape(-1), of_pages, ran_on, np.array(zone_starts, np.int64), locked_by,
        ran_on.copy(), ran_on.copy(),
    )  # fmt: skip
    made = int(used[_STEPS])
    steps["after"][:made] = found.after[step_rows[:made]]
    steps["before"][:made] = found.before[step_rows[:made]]
    chosen = np.flatnonzero(steps["kind"][:made] != Kind.MERGED)
    chosen = chosen[np.argsort(steps["effect"][chosen], kind="stable")]
    blocks = np.zeros(int(used[_BLOCKS]), np.int64)
    sorted_steps = np.zeros(len(chosen), STEP)
    kept = int(flatten(steps, chosen, lists, pool, blocks, sorted_steps))
    all_steps = ArraySteps(rows=sorted_steps, blocks=blocks[:kept])
    if opened := _open_lists(all_steps, compactions_of(rows)):
        all_steps = join_steps(pack_steps(opened), all_steps)
    if not skipped[np.flatnonzero(counts)].any():
        return all_steps
    reader = RequestReader(addresses, huge_order=huge_order, era=era)
    rare = pack_steps(reader.read(rows[skipped[rows["code"]]]))
    at = np.searchsorted(rows["counter"], rare.rows["event"])
    rare.rows["after"], rare.rows["before"] = found.after[at], found.before[at]
    return join_steps(all_steps, rare)


def _open_lists(found: ArraySteps, compactions: list[tuple[int, int, int]]) -> list[Step]:
    """See ``RequestReader``: movable lists used while compaction runs."""
    rows = found.rows
    used = np.isin(rows["kind"], (_ALLOCATE, _BULK)) & (
        (rows["borrowed"] > 0) | ((rows["locked"] > 0) & (rows["migratetype"] == MOVABLE))
    )
    opened: list[Step] = []
    for begin, end, zone in compactions:
        for row in rows[used & (rows["effect"] > begin) & (rows["effect"] < end)]:
            at = int(row["effect"])
            step = Step(
                Kind.COMPACTION, at, at, int(row["cpu"]), int(row["pid"]), int(row["level"])
            )
            step.pfn = zone
            opened.append(step)
    return opened


def _first_fields(rows: NDArray[np.void], addresses: PageAddresses) -> NDArray[np.int64]:
    """The first field of every event; pages instead of addresses."""
    firsts: NDArray[np.uint64] = rows["a"].copy()
    for name in _POINTERS:
        there = rows["code"] == EVENT_CODES[name]
        offsets = firsts[there] - np.uint64(addresses.vmemmap_base)
        firsts[there] = offsets // np.uint64(addresses.struct_page_bytes)
    return firsts.view(np.int64)


def _most_blocks(rows: NDArray[np.void], counts: NDArray[np.int64]) -> int:
    """How many blocks all steps together can have."""
    ranges = rows["b"][rows["code"] == EVENT_CODES["free_prepared_range"]]
    pieces = int((ranges // 512 + 32).sum())
    once = ("mm_page_alloc_zone_locked", "mm_page_pcpu_drain", "mm_page_alloc")
    events = sum(int(counts[EVENT_CODES[name]]) for name in once)
    return 1 + events + 2 * int(counts[EVENT_CODES["mm_page_alloc_extfrag"]]) + pieces
