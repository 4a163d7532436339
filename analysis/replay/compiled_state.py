"""The compiled allocator as ``ModelState``, and what prediction notes of its pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from analysis.model.allocator.allocator import Choice, Request
from analysis.model.allocator.gfp import Gfp, gfp_zone
from analysis.model.allocator.pcp import Excess
from analysis.model.compiled import layout as at
from analysis.model.compiled.actions import Action, performer
from analysis.model.compiled.allocator import OTHER_ZONE
from analysis.model.compiled.layout import Memory
from analysis.model.freelist import Migratetype
from analysis.model.stat_threshold import normal_threshold, pressure_threshold
from analysis.replay.model_state import Block, free_count_later

_LOW_ORDER_LISTS, _COSTLY_ORDER, _PCP_TYPES = 12, 3, 3


class CompiledState:
    """An allocator in ``Memory``; pages go by pfn here as in every ``ModelState``."""

    def __init__(self, memory: Memory, cpu_nodes: Mapping[int, int]) -> None:
        self.memory = memory
        self.cpu_nodes = dict(cpu_nodes)
        huge_order = int(memory[at.HUGE_ORDER])
        self.huge_order = None if huge_order < 0 else huge_order
        self._zones = [at.ZONES_AT + n * at.ZONE_WORDS for n in range(int(memory[at.ZONES]))]
        self.zone_nodes = tuple(int(memory[zone + at.NODE]) for zone in self._zones)
        self._first_pfn = int(memory[at.FIRST_PFN])
        self._spans = [
            tuple(int(memory[zone + word]) + self._first_pfn for word in (at.START, at.END))
            for zone in self._zones
        ]
        self._perform = performer()

    @property
    def rotations(self) -> int:
        return sum(int(self.memory[zone + at.ROTATIONS]) for zone in self._zones)

    def zone_of(self, pfn: int) -> int:
        for zone, (start, end) in enumerate(self._spans):
            if start <= pfn < end:
                return zone
        raise ValueError(f"page {pfn:#x} is in no zone")

    def pindex(self, migratetype: Migratetype, order: int) -> int:
        if order > _COSTLY_ORDER:
            several = int(self.memory[at.PINDEXES]) > _LOW_ORDER_LISTS + 1
            return _LOW_ORDER_LISTS + (several and migratetype is Migratetype.MOVABLE)
        return _PCP_TYPES * order + migratetype

    def pageblock_migratetype(self, pfn: int) -> Migratetype:
        m = self.memory
        block = self._page(pfn) >> int(m[at.PAGEBLOCK_ORDER])
        return Migratetype(int(m[int(m[at.BLOCKS_AT]) + block * at.BLOCK_WORDS + at.BLOCK_TYPE]))

    def moves(self) -> tuple[list[Block], list[Block]]:
        m = self.memory
        first, count = int(m[at.MOVES_AT]), int(m[at.MOVES])
        locked: list[Block] = []
        drained: list[Block] = []
        for move in m[first : first + count].tolist():
            side = drained if move & at.MOVE_DRAINED else locked
            side.append((move >> at.MOVE_PFN, move & at.MOVE_ORDER))
        self._do(Action.CLEAR_MOVES)
        for side in (locked, drained):
            if len(side) > 1:
                side.sort(key=lambda block: self.zone_of(block[0]))
        return locked, drained

    def show_heads(self, locked: Sequence[Block], borrowed: Sequence[int]) -> None:
        m = self.memory
        if not m[at.ROTATED]:
            return
        pfns = [*(pfn for pfn, _ in locked), *borrowed]
        assert len(pfns) <= at.MOST_HEADS, f"{len(pfns)} heads told at once"
        m[at.HEADS_TAKEN], m[at.HEADS_BORROWED] = len(locked), len(borrowed)
        for number, pfn in enumerate(pfns, int(m[at.HEADS_AT])):
            m[number] = pfn - self._first_pfn
        self._do(Action.SHOW_HEADS)

    def allocate(self, request: Request) -> Choice | None:
        return self._allocate(Action.ALLOCATE, request, request.zone)

    def allocate_from(self, request: Request, zone: int) -> Choice | None:
        return self._allocate(Action.ALLOCATE_FROM, request, zone)

    def _allocate(self, action: Action, request: Request, zone: int | None) -> Choice | None:
        m = self.memory
        m[at.PCP_LOCKED], m[at.ZONE_ASKED] = request.pcp_locked, -1 if zone is None else zone
        page = self._do(
            action,
            request.cpu,
            request.node,
            request.order,
            request.gfp,
            request.migratetype,
            -1 if request.alloc_flags is None else request.alloc_flags,
        )
        m[at.PCP_LOCKED], m[at.ZONE_ASKED] = 0, -1
        return self.choice(page)

    def choice(self, page: int) -> Choice | None:
        """The choice that was just made: its page, by index, or what ``allocate`` says besides."""
        if page == -1:
            return None
        return Choice(
            pfn=-1 if page == OTHER_ZONE else page + self._first_pfn,
            zone=int(self.memory[at.CHOSEN_ZONE]),
            attempt=int(self.memory[at.CHOSEN_ATTEMPT]),
        )

    def allocate_bulk(self, request: Request, wanted: int) -> int:
        return self._do(
            Action.ALLOCATE_BULK,
            request.cpu,
            request.node,
            request.gfp,
            request.migratetype,
            wanted,
        )

    def free(self, cpu: int, pfn: int, order: int, stop_after: int = 0) -> Excess | None:
        return self._stopping(stop_after, Action.FREE, cpu, self._page(pfn), order)

    def free_direct(self, cpu: int, pfn: int, order: int, captured_order: int | None) -> None:
        captured = -1 if captured_order is None else captured_order
        self._must(Action.FREE_DIRECT, cpu, self._page(pfn), order, captured)

    def isolate_free(self, cpu: int, pfn: int, order: int) -> bool:
        return bool(self._do(Action.ISOLATE_FREE, cpu, self._page(pfn), order))

    def put_back(self, cpu: int, pfn: int, order: int, migratetype: Migratetype) -> None:
        self._must(Action.PUT_BACK, cpu, self._page(pfn), order, migratetype)

    def drain_all(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None:
        return self._stopping(stop_after, Action.DRAIN_ALL, cpu, zone, owner)

    def drain_batch(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> None:
        self._stopping(stop_after, Action.DRAIN_BATCH, cpu, zone, owner)

    def decay(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None:
        return self._stopping(stop_after, Action.DECAY, cpu, zone, owner)

    def give_rest(
        self, cpu: int, zone: int, owner: int, rest: Excess, stop_after: int
    ) -> Excess | None:
        return self._stopping(
            stop_after, Action.GIVE_REST, cpu, zone, owner, rest.pages, rest.pindex
        )

    def fold(self, cpu: int) -> None:
        self._do(Action.FOLD, cpu)

    def unreserve_highatomic(self, *, force: bool) -> bool:
        return any(
            self.memory[words + at.NR_RESERVED_HIGHATOMIC]
            and self._do(Action.UNRESERVE, zone, Migratetype.MOVABLE, force)
            for zone, words in enumerate(self._zones)
        )

    def mark_movable(self, pfn: int, order: int) -> None:
        self._do(Action.MARK_MOVABLE, self._page(pfn), order)

    def may_be_turned(self, pfn: int) -> None:
        self._do(Action.MAY_BE_TURNED, self.zone_of(pfn))

    def set_threshold(self, zone: int, page_shift: int, *, under_pressure: bool) -> None:
        m, words = self.memory, self._zones[zone]
        cpus = len(self.cpu_nodes)
        if under_pressure:
            low, least = int(m[words + at.WATERMARK + 1]), int(m[words + at.WATERMARK])
            threshold = pressure_threshold(low, least, cpus)
        else:
            threshold = normal_threshold(int(m[words + at.MANAGED]), cpus, page_shift)
        self._do(Action.SET_THRESHOLD, zone, threshold)

    def set_kswapd(self, node: int, *, awake: bool) -> None:
        if node < self.memory[at.NODES]:
            self.memory[int(self.memory[at.AWAKE_AT]) + node] = awake

    def count_isolated(self, pfn: int, pageblocks: int) -> None:
        action = Action.ISOLATE_PAGEBLOCK if pageblocks > 0 else Action.UNISOLATE_PAGEBLOCK
        self._do(action, self.zone_of(pfn), self._page(pfn))

    def capture(self, pfn: int, order: int) -> None:
        self._do(Action.CAPTURE, self._page(pfn), order)

    def begin_balance(self, zone: int) -> int:
        words = self._zones[zone]
        self.memory[words + at.RECLAIM_ACTIVE] = 1
        return int(self.memory[words + at.BOOST])

    def end_balance(self, zone: int, boost: int) -> None:
        words = self._zones[zone]
        self.memory[words + at.BOOST] -= min(int(self.memory[words + at.BOOST]), boost)
        self.memory[words + at.RECLAIM_ACTIVE] = 0

    def overfills(self, zone: int, cpu: int, order: int) -> bool:
        return bool(self._do(Action.OVERFILLS, zone, cpu, order))

    def save(self) -> object:
        return self.memory.copy()

    def restore(self, saved: object) -> None:
        self.memory[:] = cast(Memory, saved)

    def uses_pcp(self, zone: int, cpu: int, pindex: int) -> bool:
        m = self.memory
        top = int(m[at.PAGES]) + self._list(zone, cpu, pindex)
        filled = int(m[top * at.ROW + at.PCP_NEXT]) != top
        return filled or bool(self._do(Action.FETCHES_MORE, zone, cpu, pindex))

    def on_pcp(self, pfn: int) -> bool:
        return bool(self.memory[self._page(pfn) * at.ROW + at.PCP_LIST] >= 0)

    def listed(self, zone: int, cpu: int, pindex: int, pfn: int) -> bool:
        there = self.memory[self._page(pfn) * at.ROW + at.PCP_LIST]
        return bool(there == self._list(zone, cpu, pindex))

    def above(self, zone: int, cpu: int, pindex: int, pfn: int) -> list[int]:
        m = self.memory
        top = int(m[at.PAGES]) + self._list(zone, cpu, pindex)
        last = self._page(pfn)
        found: list[int] = []
        page = int(m[top * at.ROW + at.PCP_NEXT])
        while page not in (top, last):
            found.append(page + self._first_pfn)
            page = int(m[page * at.ROW + at.PCP_NEXT])
        return found

    def candidates(self, request: Request) -> list[int]:
        m = self.memory
        first = int(m[at.ZONELISTS_AT])
        first += (2 * request.node + bool(request.gfp & Gfp.THISNODE)) * at.ZONELIST_WORDS
        zones = m[first + 1 : first + 1 + int(m[first])].tolist()
        highest = gfp_zone(request.gfp)
        return [zone for zone in zones if m[self._zones[zone] + at.ZONE_TYPE] <= highest]

    def drop_boost(self, zone: int) -> None:
        self.memory[self._zones[zone] + at.BOOST] = 0

    def count_free_later(self, zone: int, cpu: int, pages: int) -> None:
        m = self.memory
        lists = int(m[at.PCPS_AT]) + (zone * int(m[at.CPUS]) + cpu) * at.PCP_WORDS
        at_count = lists + at.FREE_COUNT
        m[at_count] = free_count_later(int(m[at_count]), pages)

    def push(
        self, zone: int, cpu: int, pindex: int, pfn: int, kind: Migratetype, *, to_tail: bool
    ) -> None:
        self._do(Action.PUSH, zone, cpu, pindex, self._page(pfn), kind, to_tail)

    def forget(self, pfn: int) -> bool:
        return bool(self._do(Action.FORGET, self._page(pfn)))

    def give_back(self, cpu: int, pfn: int, order: int) -> None:
        self._must(Action.GIVE_BACK, cpu, self._page(pfn), order)

    def carve(self, cpu: int, pfn: int, order: int) -> bool:
        return bool(self._do(Action.CARVE, cpu, self._page(pfn), order))

    def take_out(self, cpu: int, pfn: int, order: int) -> bool:
        return bool(self._do(Action.TAKE_OUT, cpu, self._page(pfn), order))

    def _page(self, pfn: int) -> int:
        """Raises ValueError when no zone spans the page."""
        self.zone_of(pfn)
        return pfn - self._first_pfn

    def _list(self, zone: int, cpu: int, pindex: int) -> int:
        return (zone * int(self.memory[at.CPUS]) + cpu) << at.PCP_LISTS | pindex

    def _do(self, action: Action, *numbers: int) -> int:
        a, b, c, d, e, f = (*map(int, numbers), *([0] * (6 - len(numbers))))
        return int(self._perform(self.memory, int(action), a, b, c, d, e, f))

    def _stopping(self, pages: int, action: Action, *numbers: int) -> Excess | None:
        """Does it, and what is left after so many pages were given back."""
        m = self.memory
        m[at.STOP_AFTER] = pages
        try:
            self._must(action, *numbers)
            if not m[at.REST_PAGES]:
                return None
            return Excess(pages=int(m[at.REST_PAGES]), pindex=int(m[at.REST_PINDEX]))
        finally:
            m[at.STOP_AFTER] = m[at.REST_PAGES] = 0

    def _must(self, action: Action, *numbers: int) -> None:
        done = self._do(action, *numbers)
        fault = self.memory[at.FAULT]
        self.memory[at.FAULT] = 0
        if fault or not done:
            raise ValueError(f"{action.name.lower()} {numbers}: the pages are free")


class MemoryNotes:
    """``PageNotes`` within the pages' rows."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._first_pfn = int(memory[at.FIRST_PFN])

    def hand_out(self, pfn: int, order: int) -> None:
        self._set(pfn, at.HANDED_MASK, (order + 1) << at.HANDED_SHIFT)

    def take_back(self, pfn: int, order: int) -> None:
        for page in range(pfn, pfn + (1 << order)):
            self._set(page, at.HANDED_MASK, 0)

    def order(self, pfn: int) -> int:
        return max(self._handed(pfn) - 1, 0)

    def is_held(self, pfn: int) -> bool:
        return self._handed(pfn) == 1

    def note_free(self, pfn: int, step: int) -> None:
        self._set(pfn, -1 << at.FREED_SHIFT, (step + 1) << at.FREED_SHIFT)

    def last_free(self, pfn: int) -> int:
        return (self._get(pfn) >> at.FREED_SHIFT) - 1

    def lose(self, pfn: int) -> None:
        self._set(pfn, at.LOST_NOTE, at.LOST_NOTE)

    def is_lost(self, pfn: int) -> bool:
        return bool(self._get(pfn) & at.LOST_NOTE)

    def find(self, pfn: int) -> None:
        self._set(pfn, at.LOST_NOTE, 0)

    def forget_frees(self) -> None:
        end = at.ROWS_AT + int(self._memory[at.PAGES]) * at.ROW
        self._memory[at.NOTES : end : at.ROW] &= (1 << at.FREED_SHIFT) - 1

    def _handed(self, pfn: int) -> int:
        return (self._get(pfn) & at.HANDED_MASK) >> at.HANDED_SHIFT

    def _index(self, pfn: int) -> int | None:
        page = pfn - self._first_pfn
        return page * at.ROW + at.NOTES if 0 <= page < self._memory[at.PAGES] else None

    def _get(self, pfn: int) -> int:
        index = self._index(pfn)
        return 0 if index is None else int(self._memory[index])

    def _set(self, pfn: int, mask: int, value: int) -> None:
        index = self._index(pfn)
        if index is not None:
            self._memory[index] = int(self._memory[index]) & ~mask | value
