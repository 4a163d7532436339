"""From a window's events to what was asked of the allocator, in the order it took effect.

The events are those the kernel recorded; what it answered (which page, which blocks a refill
fetched or a drain gave back) is kept beside each request, for comparison alone.

Order. An event is recorded before or after its effect, outside the lock. What happens under a
zone's lock is recorded under it, so a request that touched a zone took effect at its first such
event; one that did not touched only its own CPU's lists, and its own event places it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.replay.step import Kind, Step
from analysis.replay.timeline import NAMES, PageAddresses, compactions_of

MOVABLE = 1
"""MIGRATE_MOVABLE in every kernel."""
NO_PAGE = (1 << 64) - 1
"""The pfn of a failed allocation: that of a null page pointer."""


def uses_movable_lists(kind: int, migratetype: int, locked: bool, borrowed: bool) -> bool:
    """Whether a step took blocks from lists that compaction turns while it runs."""
    return kind in (Kind.ALLOCATE, Kind.BULK) and (borrowed or (locked and migratetype == MOVABLE))


class _Context:
    """What one level of one CPU has under way."""

    __slots__ = (
        "borrowed",
        "bulk",
        "flags",
        "isolating",
        "locked",
        "locked_at",
        "node",
        "open",
        "setting_apart",
        "unreserving",
    )

    def __init__(self) -> None:
        self.locked: list[tuple[int, int]] = []
        self.borrowed: list[int] = []
        self.locked_at = -1
        self.open: Step | None = None
        """The free or drain that further drained blocks belong to."""
        self.bulk: Step | None = None
        self.isolating: Step | None = None
        self.unreserving: Step | None = None
        self.setting_apart: Step | None = None
        self.node = -1
        self.flags = -1


class RequestReader:
    """Turns a timeline into steps."""

    def __init__(
        self, addresses: PageAddresses, *, huge_order: int | None, claims_then_steals: bool
    ) -> None:
        self._addresses = addresses
        self._huge_order = huge_order
        self._claims = claims_then_steals
        self._contexts: dict[tuple[int, int, int], _Context] = {}
        self._announced: dict[int, Step] = {}
        """Frees that may yet turn out batched or direct, by pfn."""
        self._returned: dict[int, tuple[Step, int]] = {}
        """Block that came back last, by pfn: who brought it, and the counter."""
        self._left: dict[int, int] = {}
        """Counter at which a block last left the zone's lists, by pfn."""
        self._daemons: dict[int, int] = {}
        """Node of each kswapd, by pid."""
        self._asleep: set[int] = set()
        """Daemons that said they would sleep and have not changed their zones' thresholds yet."""
        self._nodes: dict[tuple[int, int], int] = {}
        self._flags: dict[tuple[int, int], int] = {}
        self.steps: list[Step] = []

    def read(self, rows: NDArray[np.void]) -> list[Step]:
        """All steps of a timeline, by effect."""
        takers = tuple(getattr(self, f"_take_{name}", None) for name in NAMES)
        columns = (
            rows[name].tolist()
            for name in ("counter", "code", "cpu", "level", "pid", "a", "b", "c", "d")
        )
        for counter, code, cpu, level, pid, a, b, c, d in zip(*columns, strict=True):
            taker = takers[code]
            if taker is not None:
                taker(counter, cpu, level, pid, a, b, c, d)
        self._bound(rows)
        opened = self._open_lists(compactions_of(rows))
        self.steps = opened + [step for step in self.steps if step.kind is not Kind.MERGED]
        self.steps.sort(key=lambda step: step.effect)
        return self.steps

    def _open_lists(self, compactions: list[tuple[int, int, int]]) -> list[Step]:
        """While compaction runs, the order of movable lists is open at each use of them."""
        opened: list[Step] = []
        for begin, end, zone in compactions:
            for used in self.steps:
                if begin < used.effect < end and uses_movable_lists(
                    used.kind, used.migratetype, bool(used.locked), bool(used.borrowed)
                ):
                    step = Step(
                        Kind.COMPACTION, used.effect, used.effect, used.cpu, used.pid, used.level
                    )
                    step.pfn = zone
                    opened.append(step)
        return opened

    def _bound(self, rows: NDArray[np.void]) -> None:
        """Between which events of its own context each step took effect.

        A context is a task, or the interrupt level of a CPU; one runs after another, so all that
        happened between two of its events may have happened before or after its step.
        """
        contexts = np.where(
            rows["level"] == 0,
            rows["pid"].astype(np.int64),
            -1 - 4 * rows["cpu"].astype(np.int64) - rows["level"],
        )
        order = np.lexsort((np.arange(len(rows)), contexts))
        counters = rows["counter"][order]
        same = contexts[order][1:] == contexts[order][:-1]
        after = np.full(len(rows), -1, np.int64)
        before = np.full(len(rows), 1 << 62, np.int64)
        after[1:][same] = counters[:-1][same]
        before[:-1][same] = counters[1:][same]
        # An event and the one that interrupted it while it was recorded may share a counter.
        names = zip(
            counters.tolist(),
            rows["pid"][order].tolist(),
            rows["level"][order].tolist(),
            strict=True,
        )
        bounds = dict(zip(names, zip(after.tolist(), before.tolist(), strict=True), strict=True))
        for step in self.steps:
            step.after, step.before = bounds.get((step.event, step.pid, step.level), (-1, 1 << 62))

    def _context(self, cpu: int, level: int, pid: int) -> _Context:
        key = (cpu, level, pid if level == 0 else 0)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _Context()
        return context

    def _step(self, kind: Kind, counter: int, cpu: int, level: int, pid: int) -> Step:
        step = Step(kind, counter, counter, cpu, pid, level)
        self.steps.append(step)
        return step

    def _take_mm_page_alloc_zone_locked(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        self._left[a] = counter
        context = self._context(cpu, level, pid)
        if context.bulk is not None:
            if not context.bulk.locked:
                context.bulk.effect = counter
            context.bulk.locked.append((a, b))
            return
        if not context.locked:
            context.locked_at = counter
        context.locked.append((a, b))

    def _take_mm_page_alloc_extfrag(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, c: int, d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        (context.borrowed if context.bulk is None else context.bulk.borrowed).append(a)
        if not self._claims:
            return
        taken = context.locked if context.bulk is None else context.bulk.locked
        if taken and taken[-1] == (a, b):
            return
        if context.open is not None and b == c and context.bulk is None and not taken:
            # Compaction captured a block of another type: it is on no list.
            returned = self._returned.get(a)
            if returned is not None and returned[0] is context.open:
                context.borrowed.pop()
                return
        self._take_mm_page_alloc_zone_locked(counter, cpu, level, pid, a, b, c, d)

    def _take_mm_page_alloc(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, c: int, d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        asked = (level, pid)
        node, flags = self._nodes.pop(asked, -1), self._flags.pop(asked, -1)
        if a in (NO_PAGE, 0xFFFFFFFFFFFFFFFF):
            return
        locked, locked_at = context.locked, context.locked_at
        if context.bulk is not None and context.bulk.locked:
            # The bulk gave up and asked for one page in the ordinary way.
            locked, locked_at = context.bulk.locked, context.bulk.effect
            context.bulk.locked = []
        kind = Kind.ALLOCATE
        if not locked and b > 0 and self._capture(a, b, pid):
            kind = Kind.CAPTURED
        step = self._step(kind, counter, cpu, level, pid)
        step.pfn, step.order, step.gfp, step.migratetype = a, b, c & 0xFFFFFFFF, d
        step.node, step.alloc_flags = node, flags
        if locked:
            step.locked, step.borrowed = locked, context.borrowed
            step.effect = locked_at
            context.locked, context.borrowed = [], []
        if context.bulk is not None:
            context.bulk.attempts += 1
        context.open = None
        self._announced.pop(a, None)

    def _capture(self, pfn: int, order: int, pid: int) -> bool:
        """Whether a block that this task gave back just now grew into the one it got."""
        best: tuple[Step, int] | None = None
        block = -1
        for page in range(pfn, pfn + (1 << order)):
            returned = self._returned.get(page)
            if returned is not None and (best is None or returned[1] > best[1]):
                best, block = returned, page
        if best is None or best[0].pid != pid or best[1] < self._left.get(pfn, -1):
            return False
        best[0].captured[block] = order
        return True

    def _take_mm_page_free(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        step = self._step(Kind.FREE, counter, cpu, level, pid)
        step.pfn, step.order = a, b
        self._announced[a] = step
        context.open = step
        if not (b <= 3 or b == self._huge_order):
            step.kind = Kind.FREE_DIRECT
            self._returned[a] = step, counter

    def _take_mm_page_free_batched(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        step = self._announced.pop(a, None)
        if step is None:
            return
        step.effect, step.cpu = counter, cpu
        self._context(cpu, level, pid).open = step

    def _take_mm_page_pcpu_drain(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        step = context.open
        if step is None or step.kind not in _DRAINERS:
            step = context.open = self._step(Kind.UNKNOWN_DRAIN, counter, cpu, level, pid)
        if not step.drained:
            step.effect = counter
        step.drained.append((a, b))
        self._returned[a] = step, counter

    def _take_free_one_page(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, c: int, _d: int
    ) -> None:
        """The true order is that of ``split_large_buddy``, where a kernel has it."""
        step = self._announced.get(a)
        if step is None or step.order != b:
            step = self._step(Kind.FREE_DIRECT, counter, cpu, level, pid)
            step.pfn, step.order = a, b
            self._announced[a] = step
        step.kind = Kind.FREE_DIRECT
        step.effect, step.cpu = counter, cpu
        step.count = c
        self._returned[a] = step, counter

    _take_split_large_buddy = _take_free_one_page

    def _take_free_prepared_range(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        """Kernel: mm/page_alloc.c, ``free_prepared_contig_range``; 7.2 and 7.3."""
        pfn = first = self._addresses.pfn(a)
        step = self._step(Kind.FREE_RANGE, counter, cpu, level, pid)
        step.pfn = pfn
        while pfn < first + b:
            order = min(
                (pfn & -pfn).bit_length() - 1 if pfn else 10, (first + b - pfn).bit_length() - 1, 10
            )
            if order <= 3 or order == self._huge_order:
                step.pieces.append((pfn, order))
            pfn += 1 << order
        for page in range(first, first + b):
            announced = self._announced.pop(page, None)
            if announced is not None:
                announced.kind = Kind.MERGED
        self._context(cpu, level, pid).open = step

    def _take_isolate_free_page(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        step = Step(Kind.ISOLATE, counter, counter, cpu, pid, level)
        step.pfn, step.order = self._addresses.pfn(a), b
        self._context(cpu, level, pid).isolating = step

    def _take_isolate_free_page_return(
        self, _counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        if context.isolating is not None and a:
            self.steps.append(context.isolating)
            self._left[context.isolating.pfn] = context.isolating.event
        context.isolating = None

    def _take_putback_isolated_page(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, c: int, _d: int
    ) -> None:
        step = self._step(Kind.PUT_BACK, counter, cpu, level, pid)
        step.pfn, step.order, step.migratetype = self._addresses.pfn(a), b, c

    def _take_alloc_pages_bulk(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, c: int, _d: int
    ) -> None:
        step = self._step(Kind.BULK, counter, cpu, level, pid)
        step.gfp, step.node, step.count = a & 0xFFFFFFFF, b, c
        self._context(cpu, level, pid).bulk = step

    def _take_alloc_pages_bulk_return(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        if context.bulk is None:  # the task moved to another CPU meanwhile
            for (_, other_level, other_pid), other in self._contexts.items():
                if other_pid == pid and other_level == level and other.bulk is not None:
                    context = other
                    break
            else:
                return
        assert context.bulk is not None
        if not context.bulk.locked:
            # Interrupts that reached the lists meanwhile did so before they were locked.
            context.bulk.effect = counter
        context.bulk.order = context.bulk.count
        context.bulk.count = a - context.bulk.attempts
        context.bulk = None
        context.open = None

    def _drain(self, kind: Kind, counter: int, cpu: int, level: int, pid: int, zone: int) -> Step:
        step = self._step(kind, counter, cpu, level, pid)
        step.pointer, step.count = zone, cpu
        self._context(cpu, level, pid).open = step
        return step

    def _take_drain_zone_pages(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._drain(Kind.DRAIN_BATCH, counter, cpu, level, pid, a)

    def _take_drain_pages_zone(
        self, counter: int, cpu: int, level: int, pid: int, a: int, b: int, _c: int, _d: int
    ) -> None:
        self._drain(Kind.DRAIN_ALL, counter, cpu, level, pid, a).count = b

    def _take_decay_pcp_high(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._drain(Kind.DECAY, counter, cpu, level, pid, a)

    def _take_refresh_cpu_vm_stats(
        self, counter: int, cpu: int, level: int, pid: int, _a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._step(Kind.FOLD, counter, cpu, level, pid)

    def _take_mm_compaction_begin(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._step(Kind.COMPACTION, counter, cpu, level, pid).pfn = a

    _take_mm_compaction_end = _take_mm_compaction_begin

    def _take_mm_lru_insertion(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._step(Kind.ON_LRU, counter, cpu, level, pid).pfn = a

    def _take_balance_pgdat(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        step = self._step(Kind.BALANCE_BEGIN, counter, cpu, level, pid)
        step.pointer, step.node = a, self._daemons.get(pid, -1)

    def _take_balance_pgdat_return(
        self, counter: int, cpu: int, level: int, pid: int, _a: int, _b: int, _c: int, _d: int
    ) -> None:
        """The daemon queues up to be woken at once, long before it says that it sleeps.

        Kernel: mm/vmscan.c, ``kswapd_try_to_sleep``; 6.1 to 7.3.
        """
        step = self._step(Kind.BALANCE_END, counter, cpu, level, pid)
        step.node = self._daemons.get(pid, -1)

    def _take_mm_vmscan_wakeup_kswapd(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        """Being woken takes it off its queue. Kernel: mm/vmscan.c, ``wakeup_kswapd``."""
        self._step(Kind.KSWAPD_WAKE, counter, cpu, level, pid).node = a

    def _take_mm_vmscan_kswapd_wake(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._daemons[pid] = a
        self._step(Kind.KSWAPD_WAKE, counter, cpu, level, pid).node = a

    def _take_mm_vmscan_kswapd_sleep(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._daemons[pid] = a
        self._step(Kind.KSWAPD_SLEEP, counter, cpu, level, pid).node = a
        self._asleep.add(pid)

    def _take_set_pgdat_percpu_threshold(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        step = self._step(Kind.THRESHOLD, counter, cpu, level, pid)
        step.pointer, step.count = a, int(pid not in self._asleep)
        step.node = self._daemons.get(pid, -1)
        self._asleep.discard(pid)

    def _take_unreserve_highatomic(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        step = Step(Kind.UNRESERVE, counter, counter, cpu, pid, level)
        step.count = a
        self._context(cpu, level, pid).unreserving = step

    def _take_unreserve_highatomic_return(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        if context.unreserving is not None and a:
            context.unreserving.effect = counter
            self.steps.append(context.unreserving)
        context.unreserving = None

    def _take_set_migratetype_isolate(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        """A pageblock with pages that cannot move is refused: no free pages change lists then."""
        step = Step(Kind.ISOLATE_PAGEBLOCK, counter, counter, cpu, pid, level)
        step.pfn = self._addresses.pfn(a)
        self._context(cpu, level, pid).setting_apart = step

    def _take_move_freepages_block(
        self, _counter: int, cpu: int, level: int, pid: int, _a: int, _b: int, _c: int, _d: int
    ) -> None:
        context = self._context(cpu, level, pid)
        if context.setting_apart is not None:
            self.steps.append(context.setting_apart)
            context.setting_apart = None

    _take_move_freepages_block_isolate = _take_move_freepages_block

    def _take_unset_migratetype_isolate(
        self, counter: int, cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._step(Kind.UNISOLATE_PAGEBLOCK, counter, cpu, level, pid).pfn = self._addresses.pfn(a)

    def _take_alloc_pages(
        self, _counter: int, _cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._nodes[level, pid] = a

    def _take_get_page_from_freelist(
        self, _counter: int, _cpu: int, level: int, pid: int, a: int, _b: int, _c: int, _d: int
    ) -> None:
        self._flags[level, pid] = a


_DRAINERS = frozenset(
    {
        Kind.FREE,
        Kind.FREE_RANGE,
        Kind.FREE_DIRECT,
        Kind.DRAIN_ALL,
        Kind.DRAIN_BATCH,
        Kind.DECAY,
        Kind.UNKNOWN_DRAIN,
    }
)
