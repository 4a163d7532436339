"""The replay itself, compiled: operations applied to dense arrays, one after the other.

``analysis.replay.plain`` does the same over sets and dictionaries, to be read first; the two are
held against each other by property tests.

Kernel: mm/page_alloc.c, ``expand`` and ``__free_one_page``; 6.1 to 7.3.
Ignores: guard pages (CONFIG_DEBUG_PAGEALLOC).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.replay.ledger import Kind
from analysis.replay.operation import LARGEST_FREE, Op

UNKNOWN, FREE, OUT, HELD = 0, 1, 2, 3
"""Status of a page: not seen since the window began (so somebody's); on the free lists; taken
from them or freed (on a per-cpu list, isolated, or in somebody's hand); handed out."""

# Enumerations as the plain numbers that compiled code knows.
_TAKE, _GIVE, _ALLOCATE = int(Op.TAKE), int(Op.GIVE), int(Op.ALLOCATE)
_FREE_OP, _FREE_AND_GIVE = int(Op.FREE), int(Op.FREE_AND_GIVE)
_FALLBACK, _SPLIT, _GIVE_OR_SPLIT = int(Op.FALLBACK), int(Op.SPLIT), int(Op.GIVE_OR_SPLIT)
_ISOLATE, _UNISOLATE = int(Op.ISOLATE), int(Op.UNISOLATE)
_TAKEN_NOT_FREE, _GIVEN_FREE = int(Kind.TAKEN_NOT_FREE), int(Kind.GIVEN_FREE)
_GIVEN_ALLOCATED, _ALLOCATED_FREE = int(Kind.GIVEN_ALLOCATED), int(Kind.ALLOCATED_FREE)
_ALLOCATED_TWICE, _FREED_FREE = int(Kind.ALLOCATED_TWICE), int(Kind.FREED_FREE)
_IMPOSSIBLE, _CAPTURED = int(Kind.IMPOSSIBLE), int(Kind.CAPTURED)
_FREED_UNSEEN, _FREED_UNHANDED = int(Kind.FREED_UNSEEN), int(Kind.FREED_UNHANDED)
_ALLOCATED_UNSEEN = int(Kind.ALLOCATED_UNSEEN)

CAPTURE_SEARCH = 1 << 20
"""How many operations are looked back over for the free that compaction captured."""

_F = TypeVar("_F")


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


class Arrays(NamedTuple):
    """The state of replay; changed in place. Page indices are those of a ``Geometry``."""

    first_pfn: int
    max_order: int
    pageblock_order: int
    pcp_types: int
    """Migratetypes below this one merge with each other."""
    largest_give: int
    """A block above this order returns in pieces of it."""
    isolate: int
    """Number of the migratetype Isolate; -1: this kernel has none."""
    retypes: bool
    """The migratetype told with an event is that of the pageblock at that moment."""
    zone_of: NDArray[np.int8]
    status: NDArray[np.uint8]
    head: NDArray[np.int8]
    """Order + 1 at the first page of a free block, else 0."""
    block_type: NDArray[np.int8]
    """Migratetype of every pageblock."""
    true_type: NDArray[np.int8]
    """The same, but what an isolated pageblock was before."""
    nr_free: NDArray[np.int64]
    """Free blocks by zone and order."""
    last_taken: NDArray[np.int64]
    """Page index of the TAKE that was the last operation of a CPU, by CPU; else -1."""
    counts: NDArray[np.int64]
    """Ledger: events by kind."""
    entries: NDArray[np.void]
    """Ledger: the first events, ``ENTRY``."""
    used: NDArray[np.int64]
    """Ledger: ``used[0]`` entries are filled; ``used[1 + kind]`` of that kind."""
    listed: int
    """Ledger: at most so many entries of a kind."""


@_compiled
def _note(a: Any, ops: Any, at: int, kind: int) -> None:
    a.counts[kind] += 1
    if a.used[1 + kind] < a.listed and a.used[0] < len(a.entries):
        entry = a.entries[a.used[0]]
        entry["counter"] = ops[at]["counter"]
        entry["pfn"] = ops[at]["pfn"]
        entry["kind"] = kind
        entry["event"] = ops[at]["event"]
        entry["order"] = ops[at]["order"]
        entry["cpu"] = ops[at]["cpu"]
        entry["pid"] = ops[at]["pid"]
        a.used[0] += 1
        a.used[1 + kind] += 1


@_compiled
def _census(status: Any, page: int, order: int) -> int:
    """Which statuses the pages have: bit ``1 << status`` for each."""
    found = 0
    for at in range(page, page + (1 << order)):
        found |= 1 << status[at]
    return found


@_compiled
def _mark(status: Any, page: int, order: int, value: int) -> None:
    for at in range(page, page + (1 << order)):
        status[at] = value


@_compiled
def _carve(head: Any, nr_free: Any, zone: int, max_order: int, page: int, order: int) -> None:
    """Takes free pages off the lists: whole blocks, or the part of a larger one."""
    start, held = page, head[page] - 1
    if held < order:
        for above in range(order, max_order + 1):
            start = page & ~((1 << above) - 1)
            held = head[start] - 1
            if held >= above:
                break
        else:  # several smaller blocks, unmerged since their pageblocks differ
            at = page
            while at < page + (1 << order):
                piece = head[at] - 1
                head[at] = 0
                nr_free[zone, piece] -= 1
                at += 1 << piece
            return
    head[start] = 0
    nr_free[zone, held] -= 1
    while held > order:
        held -= 1
        half = start + (1 << held)
        if page < half:
            head[half] = held + 1
        else:
            head[start] = held + 1
            start = half
        nr_free[zone, held] += 1


@_compiled
def _merge(
    head: Any,
    zone_of: Any,
    block_type: Any,
    nr_free: Any,
    max_order: int,
    pageblock_order: int,
    pcp_types: int,
    page: int,
    order: int,
    migratetype: int,
) -> None:
    """Puts pages on the lists that are on none, merged as far as it goes."""
    zone = zone_of[page]
    while order < max_order:
        buddy = page ^ (1 << order)
        if head[buddy] != order + 1 or zone_of[buddy] != zone:
            break
        if order >= pageblock_order:
            other = block_type[buddy >> pageblock_order]
            if migratetype != other and (migratetype >= pcp_types or other >= pcp_types):
                break
        head[buddy] = 0
        nr_free[zone, order] -= 1
        page &= buddy
        order += 1
    head[page] = order + 1
    nr_free[zone, order] += 1


@_compiled
def _carve_free(a: Any, page: int, order: int) -> None:
    """Takes those of the pages off the lists that are on them."""
    zone = a.zone_of[page]
    for one in range(page, page + (1 << order)):
        if a.status[one] == FREE:
            _carve(a.head, a.nr_free, zone, a.max_order, one, 0)


@_compiled
def _give_piece(a: Any, page: int, order: int, migratetype: int) -> None:
    own = migratetype if migratetype >= 0 else a.block_type[page >> a.pageblock_order]
    _merge(
        a.head,
        a.zone_of,
        a.block_type,
        a.nr_free,
        a.max_order,
        a.pageblock_order,
        a.pcp_types,
        page,
        order,
        own,
    )


@_compiled
def _give_rest(a: Any, page: int, order: int) -> None:
    """Puts those of the pages on the lists that are not on them, one by one."""
    for one in range(page, page + (1 << order)):
        if a.status[one] != FREE:
            a.status[one] = FREE
            _give_piece(a, one, 0, -1)


@_compiled
def _retype(a: Any, block: int, migratetype: int) -> None:
    a.block_type[block] = migratetype
    if migratetype != a.isolate:
        a.true_type[block] = migratetype


@_compiled
def _split(a: Any, page: int, order: int) -> None:
    """Lists a free block anew, each pageblock for itself, as far as their types part them."""
    _carve(a.head, a.nr_free, a.zone_of[page], a.max_order, page, order)
    piece = min(order, a.pageblock_order)
    for one in range(page, page + (1 << order), 1 << piece):
        _give_piece(a, one, piece, -1)


@_compiled
def _give_large(a: Any, page: int, order: int, migratetype: int) -> None:
    """Returns a block of a pageblock or more: it may come in pieces and retype pageblocks."""
    end = page + (1 << order)
    piece = min(order, a.largest_give)
    if migratetype >= 0 and a.retypes and piece == order:
        for block in range(page >> a.pageblock_order, end >> a.pageblock_order):
            _retype(a, block, migratetype)
    for one in range(page, end, 1 << piece):
        _give_piece(a, one, piece, migratetype)


@_compiled
def _captured(a: Any, ops: Any, at: int, page: int, order: int) -> bool:
    """Whether the task that now gets these free pages freed the last of them, compacting."""
    end = page + (1 << order)
    for back in range(at - 1, max(0, at - CAPTURE_SEARCH) - 1, -1):
        op = ops[back]["op"]
        if op in (_GIVE, _FREE_AND_GIVE, _GIVE_OR_SPLIT):
            given, size = ops[back]["pfn"] - a.first_pfn, ops[back]["order"]
            if not _possible(a.zone_of, LARGEST_FREE, given, size):
                continue
            if given < end and given + (1 << size) > page:
                return bool(ops[back]["compacting"] and ops[back]["pid"] == ops[at]["pid"])
    return False


@_compiled
def _allocate_free(a: Any, ops: Any, at: int, page: int, order: int) -> None:
    """Handing out pages of which some are on the free lists."""
    all_free = _census(a.status, page, order) == 1 << FREE
    if all_free and order > 0 and _captured(a, ops, at, page, order):
        _note(a, ops, at, _CAPTURED)
    else:
        _note(a, ops, at, _ALLOCATED_FREE)
    _carve_free(a, page, order)


@_compiled
def _free_free(a: Any, ops: Any, at: int, page: int, order: int) -> None:
    """Freeing pages of which some are on the free lists."""
    _note(a, ops, at, _FREED_FREE)
    for one in range(page, page + (1 << order)):
        if a.status[one] != FREE:
            a.status[one] = OUT
    if ops[at]["op"] == _FREE_AND_GIVE:
        _give_rest(a, page, order)


@_compiled
def _possible(zone_of: Any, largest: int, page: int, order: int) -> bool:
    """Whether these are aligned pages of one zone, of an order there is."""
    if order < 0 or order > largest or page < 0 or page & ((1 << order) - 1):
        return False
    last = page + (1 << order) - 1
    if last >= len(zone_of) or zone_of[page] < 0:
        return False
    return bool(zone_of[page] == zone_of[last])


@_compiled
def _apply(a: Any, ops: Any, start: int, stop: int) -> None:
    # One function for the common cases: passing ``Arrays`` on costs more than what they do.
    status, zone_of, head, nr_free = a.status, a.zone_of, a.head, a.nr_free
    block_type, last_taken = a.block_type, a.last_taken
    max_order, pageblock_order, pcp_types = a.max_order, a.pageblock_order, a.pcp_types
    first_pfn, retypes = a.first_pfn, a.retypes
    for at in range(start, stop):
        op = ops[at]["op"]
        order = ops[at]["order"]
        page = ops[at]["pfn"] - first_pfn
        back = op in (_FREE_OP, _GIVE, _FREE_AND_GIVE, _GIVE_OR_SPLIT)
        if not _possible(zone_of, LARGEST_FREE if back else max_order, page, order):
            _note(a, ops, at, _IMPOSSIBLE)
            continue
        found = _census(status, page, order)
        if op == _ALLOCATE:
            if found & (1 << FREE):
                _allocate_free(a, ops, at, page, order)
            elif found & (1 << HELD):
                _note(a, ops, at, _ALLOCATED_TWICE)
            elif found & (1 << UNKNOWN):
                _note(a, ops, at, _ALLOCATED_UNSEEN)
            _mark(status, page, order, HELD)
            continue
        if op >= _SPLIT:
            if op in (_ISOLATE, _UNISOLATE):
                block = page >> pageblock_order
                block_type[block] = a.isolate if op == _ISOLATE else a.true_type[block]
                continue
            if found == 1 << FREE and (op == _SPLIT or order > pageblock_order):
                _split(a, page, order)
                continue
            if op == _SPLIT:
                continue
            op = _GIVE
        cpu = ops[at]["cpu"]
        if op in (_FREE_OP, _FREE_AND_GIVE):
            if op == _FREE_AND_GIVE:
                last_taken[cpu] = -1
            if found & (1 << FREE):
                _free_free(a, ops, at, page, order)
                continue
            if found & (1 << UNKNOWN):
                _note(a, ops, at, _FREED_UNSEEN)
            elif found & (1 << OUT):
                _note(a, ops, at, _FREED_UNHANDED)
            _mark(status, page, order, OUT)
            if op == _FREE_OP:
                continue
            found = 1 << OUT
        if op in (_GIVE, _FREE_AND_GIVE):
            last_taken[cpu] = -1
            if found & (1 << FREE):
                _note(a, ops, at, _GIVEN_FREE)
                _give_rest(a, page, order)
                continue
            if found & (1 << HELD):
                _note(a, ops, at, _GIVEN_ALLOCATED)
            _mark(status, page, order, FREE)
            own = ops[at]["migratetype"]
            if order >= pageblock_order:
                _give_large(a, page, order, own)
                continue
            if own < 0:
                own = block_type[page >> pageblock_order]
            elif retypes:
                _retype(a, page >> pageblock_order, own)
            _merge(
                head, zone_of, block_type, nr_free,
                max_order, pageblock_order, pcp_types,
                page, order, own,
            )  # fmt: skip
            continue
        last = last_taken[cpu]
        last_taken[cpu] = page if op == _TAKE else -1
        if found == 1 << FREE:
            if op == _TAKE or last != page:
                _carve(head, nr_free, zone_of[page], max_order, page, order)
                _mark(status, page, order, OUT)
        elif op == _TAKE:
            _note(a, ops, at, _TAKEN_NOT_FREE)
            _carve_free(a, page, order)
            _mark(status, page, order, OUT)


@_compiled
def apply(a: Any, ops: Any, start: int, stops: Any, series: Any) -> None:
    """Applies operations from ``start`` up to each of ``stops`` (``OPERATION``) to ``Arrays``.

    ``stops`` ascend; at each the free blocks by zone and order are copied to a row of ``series``.
    """
    for number in range(len(stops)):
        _apply(a, ops, start, stops[number])
        series[number] = a.nr_free
        start = stops[number]
