"""What every page is at a moment, one number each: free in a block of some order, or what for."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError
from analysis.memory.frames import movable_by_driver
from analysis.memory.geometry import Geometry
from analysis.memory.state import FreeState
from analysis.replay.operation import EVENTS, Op
from analysis.trace import EventStream


class PageUse(IntEnum):
    """What a page is that is on no free list."""

    NONE = 0
    """No such page: a hole, or outside every zone."""
    RESERVED = 1
    """Never given to the allocator: the kernel's image, its memory map, firmware's memory."""
    UNMOVABLE = 2
    """In use, asked for as unmovable; most memory that the kernel takes for itself."""
    RECLAIMABLE = 3
    """In use, asked for as reclaimable: caches that shrink on demand."""
    MOVABLE = 4
    """In use, asked for as movable: on an LRU list, or compaction moved something there."""
    OFF_LISTS = 5
    """Left the free lists and not handed out by an event: on a per-cpu list, or taken in bulk."""
    IN_USE = 6
    """In use, whatever for."""


FREE = 16
"""``FREE + order``: the page lies in a free block of that order."""

_ISOLATED = EVENTS.index("isolate_free_page")


def free_codes(head: NDArray[np.int8]) -> NDArray[np.uint8]:
    """``FREE + order`` of every page in a free block, 0 elsewhere, from ``FreeState.head``."""
    codes = np.zeros(len(head), np.uint8)
    at = np.flatnonzero(head)
    order = head[at].astype(np.int64) - 1
    codes[_pages(at, order)] = np.repeat((FREE + order).astype(np.uint8), 1 << order)
    return codes


def use_in_sample(sample: MemorySample, state: FreeState, geometry: Geometry) -> NDArray[np.uint8]:
    """``PageUse`` of every page as the first sample of a window tells it.

    Pages on LRU lists and movable driver pages are movable; the type of its pageblock tells of any
    other. Tail pages of a compound page carry no flags: pages without any, behind a head, count
    as what the head is, no further than the head's alignment goes.

    Raises:
        BundleError: the sample has page flags of pages that no zone spans.

    Ignores: what a tail page that was never given flags belongs to, beyond that rule.
    """
    types = [str(name).lower() for name in sample.meta["migratetypes"]]
    use_of_type = np.full(len(types) + 1, PageUse.UNMOVABLE, np.uint8)
    for number, name in enumerate(types):
        if name == "reclaimable":
            use_of_type[number] = PageUse.RECLAIMABLE
    use = np.repeat(use_of_type[state.block_type], 1 << geometry.pageblock_order)
    flags = np.zeros(geometry.pages, np.uint32)
    driver = np.zeros(geometry.pages, np.bool_)
    known = np.zeros(geometry.pages, np.bool_)
    drivers = movable_by_driver(sample)
    offset = 0
    for frames in sample.frame_ranges:
        first, count = int(frames["start_pfn"]) - geometry.first_pfn, int(frames["pages"])
        if first < 0 or first + count > geometry.pages:
            raise BundleError(f"memory sample {sample.label}: flags of pages outside every zone")
        flags[first : first + count] = sample.frame_flags[offset : offset + count]
        driver[first : first + count] = drivers[offset : offset + count]
        known[first : first + count] = True
        offset += count
    bits = sample.meta["page_flag_bits"]
    movable = _flagged(flags, bits, "lru") | driver
    heads = _flagged(flags, bits, "head")
    tails = (flags & _named_bits(bits)) == 0
    tails &= known & ~state.free & ~state.on_pcp & ~driver
    movable |= _tails_of(heads & movable, tails)
    use[movable] = PageUse.MOVABLE
    use[_flagged(flags, bits, "reserved")] = PageUse.RESERVED
    use[state.on_pcp] = PageUse.OFF_LISTS
    if len(sample.frame_ranges):
        use[~known] = PageUse.NONE
    use[geometry.zone_of < 0] = PageUse.NONE
    return use


def _flagged(flags: NDArray[np.uint32], bits: dict[str, int], name: str) -> NDArray[np.bool_]:
    if name not in bits:
        return np.zeros(len(flags), np.bool_)
    return np.asarray(flags >> np.uint32(bits[name]) & 1 == 1)


def _named_bits(bits: dict[str, int]) -> np.uint32:
    mask = 0
    for bit in bits.values():
        mask |= 1 << bit
    return np.uint32(mask & 0xFFFFFFFF)


def _tails_of(heads: NDArray[np.bool_], tails: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tails right behind one of the heads, as far as its alignment allows."""
    found = np.zeros(len(heads), np.bool_)
    for head in np.flatnonzero(heads).tolist():
        end = min(head + (head & -head or len(heads)), len(heads))
        run = tails[head + 1 : end]
        length = len(run) if run.all() else int(run.argmin())
        found[head + 1 : head + 1 + length] = True
    return found


class UseTracker:
    """``PageUse`` of every page, carried through the operations of a window.

    A page handed out is what the request's migratetype says. What compaction takes off the free
    lists it moves movable pages into.

    Kernel: mm/page_alloc.c, ``trace_mm_page_alloc`` in ``__alloc_pages``: tells the migratetype
        asked for; mm/compaction.c, ``isolate_freepages_block``; 6.1 to 7.3.
    """

    def __init__(self, use: NDArray[np.uint8], stream: EventStream, first_pfn: int) -> None:
        self.use = use
        self._first_pfn = first_pfn
        self._counters = np.zeros(0, np.int64)
        self._types = np.zeros(0, np.int64)
        if "mm_page_alloc" in stream:
            rows = stream["mm_page_alloc"]
            self._counters = rows["counter"].astype(np.int64)
            self._types = rows["migratetype"].astype(np.int64)

    def apply(self, records: NDArray[np.void]) -> None:
        """Operations (``OPERATION``) that follow those applied before."""
        taken = (records["op"] == Op.TAKE) | (records["op"] == Op.FALLBACK)
        given = ~taken & (records["op"] != Op.ALLOCATE) & (records["op"] != Op.SPLIT)
        given &= (records["op"] != Op.ISOLATE) & (records["op"] != Op.UNISOLATE)
        allocated = records["op"] == Op.ALLOCATE
        use = np.full(len(records), PageUse.OFF_LISTS, np.uint8)
        use[taken & (records["event"] == _ISOLATED)] = PageUse.MOVABLE
        use[allocated] = self._asked_for(records["counter"][allocated])
        kept = taken | given | allocated
        records, use = records[kept], use[kept]
        order = records["order"].astype(np.int64)
        index = records["pfn"] - self._first_pfn
        inside = (order >= 0) & (index >= 0) & (index + (1 << order.clip(0)) <= len(self.use))
        index, order, use = index[inside], order[inside], use[inside]
        # Where a page comes more than once the last value stays.
        self.use[_pages(index, order)] = np.repeat(use, 1 << order)

    def _asked_for(self, counters: NDArray[np.int64]) -> NDArray[np.uint8]:
        if not len(self._counters):
            return np.full(len(counters), PageUse.IN_USE, np.uint8)
        row = np.searchsorted(self._counters, counters).clip(0, len(self._counters) - 1)
        # MIGRATE_UNMOVABLE, MIGRATE_MOVABLE and MIGRATE_RECLAIMABLE are 0, 1 and 2 everywhere.
        by_type = np.array([PageUse.UNMOVABLE, PageUse.MOVABLE, PageUse.RECLAIMABLE], np.uint8)
        return np.where(
            (self._counters[row] == counters) & (self._types[row] < 3) & (self._types[row] >= 0),
            by_type[self._types[row].clip(0, 2)],
            np.uint8(PageUse.IN_USE),
        )


def _pages(first: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of all pages of blocks, block after block."""
    size = np.left_shift(np.int64(1), order)
    ends = np.cumsum(size)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - size, size)
    return np.asarray(np.repeat(first, size) + within, np.int64)
