"""From a window's events to what was asked of the allocator, in the order it took effect.

The events are those the kernel recorded; what it answered (which page, which blocks a refill
fetched or a drain gave back) is kept beside each request, for comparison alone.

Order. An event is recorded before or after its effect, outside the lock. What happens under a
zone's lock is recorded under it, so a request that touched a zone took effect at its first such
event; one that did not touched only its own CPU's lists, and its own event places it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.model.eras import Era
from analysis.replay.step import Kind, Step
from analysis.replay.timeline import (
    EVENT_CODES,
    NAMES,
    NEVER,
    PageAddresses,
    compactions_of,
    contexts_of,
    neighbours,
)

MOVABLE = 1
"""MIGRATE_MOVABLE in every kernel."""
NO_PAGE = (1 << 64) - 1
"""The pfn of a failed allocation: that of a null page pointer."""


def uses_movable_lists(kind: int, migratetype: int, locked: bool, borrowed: bool) -> bool:
    """Whether a step took blocks from lists that compaction turns while it runs."""
    return kind in (Kind.ALLOCATE, Kind.BULK) and (borrowed or (locked and migratetype == MOVABLE))


class _Context:
    """What a task, or an interrupt level of a CPU, has under way."""

    __slots__ = (
        "borrowed",
        "bulk",
        "compacting",
        "draining",
        "flags",
        "inserted",
        "isolating",
        "kept",
        "locked",
        "locked_at",
        "locked_on",
        "node",
        "open",
        "seen_at",
        "seen_on",
        "setting_apart",
        "unreserving",
    )

    def __init__(self) -> None:
        self.locked: list[tuple[int, int]] = []
        self.borrowed: list[int] = []
        self.locked_at = self.locked_on = -1
        self.compacting = self.draining = False
        """Whether it compacts a zone; whether its event before was a block that came back."""
        self.inserted: Step | None = None
        """The page that its event before put on an LRU list."""
        self.kept = -1
        """Page that the event before said goes back to compaction."""
        self.seen_at = self.seen_on = -1
        """Counter and CPU of its event before."""
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
        self,
        addresses: PageAddresses,
        *,
        huge_order: int | None,
        era: Era,
        zone_starts: Sequence[int] = (),
    ) -> None:
        """``zone_starts``: first pages of the zones, ascending; () if there is but one."""
        self._addresses = addresses
        self._huge_order = huge_order
        self._claims, self._in_batches = era.claims_then_steals, era.drains_in_batches
        self._ran_on: dict[int, _Context] = {}
        """What ran last on each CPU."""
        self._bulk_on: dict[int, Step] = {}
        """Bulk request under way, by CPU."""
        self._freed_meanwhile: dict[int, int] = {}
        """Page that another context freed last while that was so, by CPU."""
        self._awaited: dict[int, Step] = {}
        """Such a page, after the bulk request: if that came later, it took it."""
        self._moved: dict[int, tuple[Step, int, int]] = {}
        """Page whose free was announced before its task moved: the free, the other CPU, and the
        counter there."""
        self._zone_starts = zone_starts
        self._locked_by: dict[int, _Context] = {}
        """What had the lock of each zone last, as far as events tell."""
        self._contexts: dict[int, _Context] = {}
        self._context = _Context()
        self._counter = self._cpu = self._level = self._pid = -1
        """Of the event at hand."""
        self._announced: dict[int, Step] = {}
        """Frees that may yet turn out batched or direct, by pfn."""
        self._returned: dict[int, tuple[Step, int]] = {}
        """Block that came back last, by pfn: who brought it, and the counter."""
        self._left: dict[int, int] = {}
        """Counter at which a block last left the zone's lists, by pfn."""
        self._daemons: dict[int, int] = {}
        """Node of each kswapd that says it anywhere, by pid."""
        self._balancing: dict[int, int] = {}
        """Node structure that a daemon is at, by pid."""
        self._queueing_told = False
        """Whether a probe tells when a daemon has queued up."""
        self._asleep: set[int] = set()
        """Daemons that said they would sleep and have not changed their zones' thresholds yet."""
        self._listed_on: dict[int, int] = {}
        """CPU to whose lists a block came last, by pfn."""
        self.steps: list[Step] = []

    def read(self, rows: NDArray[np.void]) -> list[Step]:
        """All steps of a timeline, by effect."""
        takers = tuple(getattr(self, f"_take_{name}", None) for name in NAMES)
        columns = (
            rows[name].tolist()
            for name in ("code", "counter", "cpu", "level", "pid", "a", "b", "c", "d")
        )
        says = np.isin(rows["code"], [EVENT_CODES[name] for name in _SAYS_ITS_NODE])
        self._daemons.update(zip(rows["pid"][says].tolist(), rows["a"][says].tolist(), strict=True))
        self._queueing_told = bool((rows["code"] == EVENT_CODES["wakeup_kcompactd"]).any())
        contexts = contexts_of(rows)
        for number, code, *said, a, b, c, d in zip(contexts.tolist(), *columns, strict=True):
            taker = takers[code]
            context = self._contexts.get(number)
            if context is None:
                context = self._contexts[number] = _Context()
            self._context = context
            self._counter, self._cpu, self._level, self._pid = said
            if context.seen_on not in (-1, self._cpu):
                self._move(context)
            if taker is not None:
                taker(a, b, c, d)
            context.draining = code == _DRAINS
            if code != _KEEPS:
                context.kept = -1
            if code != _INSERTS:
                context.inserted = None
            context.seen_at, context.seen_on = self._counter, self._cpu
            self._ran_on[self._cpu] = context
            if code in _UNDER_LOCK:
                self._locked_by[self._zone(a)] = context
        self._bound(rows, contexts)
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

    def _bound(self, rows: NDArray[np.void], contexts: NDArray[np.int64]) -> None:
        """Between which events of its own context each step took effect.

        One context runs after another, so all that happened between two of its events may have
        happened before or after its step.
        """
        found = neighbours(rows, contexts)
        # An event and the one that interrupted it while it was recorded may share a counter.
        names = zip(*(rows[name].tolist() for name in ("counter", "pid", "level")), strict=True)
        bounds = zip(found.after.tolist(), found.before.tolist(), strict=True)
        by_name = dict(zip(names, bounds, strict=True))
        for step in self.steps:
            step.after, step.before = by_name.get((step.event, step.pid, step.level), (-1, NEVER))

    def _unsaid_step(self, kind: Kind) -> Step:
        """A step of the event at hand that may not come to be one."""
        return Step(kind, self._counter, self._counter, self._cpu, self._pid, self._level)

    def _step(self, kind: Kind) -> Step:
        step = self._unsaid_step(kind)
        self.steps.append(step)
        return step

    def _take_mm_page_alloc_zone_locked(self, a: int, b: int, _c: int, _d: int) -> None:
        self._left[a] = self._counter
        self._listed_on[a] = self._cpu
        context = self._context
        if context.bulk is not None:
            if not context.bulk.locked:
                context.bulk.effect, context.bulk.cpu = self._counter, self._cpu
            context.bulk.locked.append((a, b))
            return
        if not context.locked:
            context.locked_at, context.locked_on = self._counter, self._cpu
        context.locked.append((a, b))

    def _take_mm_page_alloc_extfrag(self, a: int, b: int, c: int, d: int) -> None:
        context = self._context
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
        self._take_mm_page_alloc_zone_locked(a, b, c, d)

    def _take_mm_page_alloc(self, a: int, b: int, c: int, d: int) -> None:
        context = self._context
        node, flags = context.node, context.flags
        context.node = context.flags = -1
        if a in (NO_PAGE, 0xFFFFFFFFFFFFFFFF):
            return
        locked, locked_at, locked_on = context.locked, context.locked_at, context.locked_on
        if context.bulk is not None and context.bulk.locked:
            # The bulk gave up and asked for one page in the ordinary way.
            locked, locked_at = context.bulk.locked, context.bulk.effect
            locked_on = context.bulk.cpu
            context.bulk.locked = []
        kind = Kind.ALLOCATE
        if not locked and b > 0 and self._capture(a, b):
            kind = Kind.CAPTURED
        step = self._step(kind)
        step.pfn, step.order, step.gfp, step.migratetype = a, b, c & 0xFFFFFFFF, d
        step.node, step.alloc_flags = node, flags
        if locked:
            step.locked, step.borrowed = locked, context.borrowed
            step.effect, step.cpu = locked_at, locked_on
            context.locked, context.borrowed = [], []
        elif context.seen_on not in (-1, self._cpu):
            step.count = 1
            if self._listed_on.get(a) == context.seen_on:
                step.effect, step.cpu = context.seen_at, context.seen_on
        if not step.locked:
            self._settle(a, step.cpu)
        if context.bulk is not None:
            context.bulk.attempts += 1
        context.open = None
        self._announced.pop(a, None)
        bulk = self._awaited.pop(a, None)
        if bulk is not None:
            bulk.effect = bulk.event

    def _capture(self, pfn: int, order: int) -> bool:
        """Whether a block that this task gave back just now grew into the one it got."""
        best: tuple[Step, int] | None = None
        block = -1
        for page in range(pfn, pfn + (1 << order)):
            returned = self._returned.get(page)
            if returned is not None and (best is None or returned[1] > best[1]):
                best, block = returned, page
        if best is None or best[0].pid != self._pid or best[1] < self._left.get(pfn, -1):
            return False
        best[0].captured[block] = order
        return True

    def _take_mm_page_free(self, a: int, b: int, _c: int, _d: int) -> None:
        context = self._context
        if context.kept == a:
            return
        if context.inserted is not None and context.compacting:
            context.inserted.order = b
        self._awaited.pop(a, None)
        self._moved.pop(a, None)
        bulk = self._bulk_on.get(self._cpu)
        if bulk is not None and bulk is not context.bulk:
            self._freed_meanwhile[self._cpu] = a
        step = self._step(Kind.FREE)
        step.pfn, step.order = a, b
        self._announced[a] = step
        self._listed_on[a] = self._cpu
        context.open = step
        if not (b <= 3 or b == self._huge_order):
            step.kind = Kind.FREE_DIRECT
            self._returned[a] = step, self._counter

    def _take_compaction_free(self, a: int, _b: int, _c: int, _d: int) -> None:
        """The page is announced as freed next, and goes back to compaction's own lists.

        Kernel: mm/compaction.c, ``compaction_free``, which calls ``free_pages_prepare``; 6.9 on.
        """
        self._context.kept = self._addresses.pfn(a)

    def _take_mm_page_free_batched(self, a: int, _b: int, _c: int, _d: int) -> None:
        step = self._announced.pop(a, None)
        if step is None:
            return
        step.effect, step.cpu = self._counter, self._cpu
        self._listed_on[a] = self._cpu
        self._context.open = step

    def _take_mm_page_pcpu_drain(self, a: int, b: int, _c: int, _d: int) -> None:
        context = self._context
        step = context.open
        if step is None or step.kind not in _DRAINERS:
            step = context.open = self._step(Kind.UNKNOWN_DRAIN)
        if not step.drained:
            step.effect, step.cpu = self._counter, self._cpu
        elif self._interrupted(step, a):
            step.stop_after = sum(1 << order for _, order in step.drained)
            step = context.open = self._step(Kind.DRAIN_REST)
        step.drained.append((a, b))
        self._settle(a, step.count if step.kind in _OF_A_CPU else self._cpu)
        self._returned[a] = step, self._counter

    def _interrupted(self, step: Step, pfn: int) -> bool:
        """Whether another context ran, or had the zone's lock, while a step gave pages back.

        Kernel: mm/page_alloc.c, ``drain_pages_zone`` and ``decay_pcp_high``, which let go of the
            lists between two batches, and ``free_frozen_page_commit``, which does so in 7.2 and
            7.3.
        """
        if not (step.kind in _LETS_GO or (self._in_batches and step.kind is Kind.FREE)):
            return False
        had = self._locked_by.get(self._zone(pfn))
        return self._ran_on.get(self._cpu) is not self._context or had is not self._context

    def _move(self, context: _Context) -> None:
        """A task that finds itself on another CPU between two batches gives no more back; a page
        that it had announced as freed may come to that CPU's lists, which is told by its next use,
        unless it was used already.

        Kernel: mm/page_alloc.c, ``free_frozen_page_commit``; 7.2 and 7.3.
        """
        step = context.open
        if step is None or step.kind not in (Kind.FREE, Kind.DRAIN_REST):
            return
        if context.draining and self._in_batches:
            step.stop_after = sum(1 << order for _, order in step.drained)
        elif step.kind is Kind.FREE and context.seen_at == step.event == step.effect:
            _, returned_at = self._returned.get(step.pfn, (None, -1))
            if self._announced.get(step.pfn) is step and returned_at < step.event:
                self._moved[step.pfn] = step, self._cpu, self._counter

    def _settle(self, pfn: int, cpu: int) -> None:
        """A page is found on a CPU's lists."""
        step, moved_to, at = self._moved.pop(pfn, (None, -1, -1))
        if step is not None and cpu == moved_to:
            step.cpu, step.effect = cpu, at

    def _zone(self, pfn: int) -> int:
        return bisect_right(self._zone_starts, pfn)

    def _take_free_one_page(self, a: int, b: int, c: int, _d: int) -> None:
        """The true order is that of ``split_large_buddy``, where a kernel has it."""
        step = self._announced.get(a)
        if step is None or step.order != b:
            step = self._step(Kind.FREE_DIRECT)
            step.pfn, step.order = a, b
            self._announced[a] = step
        step.kind = Kind.FREE_DIRECT
        step.effect, step.cpu = self._counter, self._cpu
        step.count = c
        self._returned[a] = step, self._counter

    _take_split_large_buddy = _take_free_one_page

    def _take_free_prepared_range(self, a: int, b: int, _c: int, _d: int) -> None:
        """Kernel: mm/page_alloc.c, ``free_prepared_contig_range``; 7.2 and 7.3."""
        pfn = first = self._addresses.pfn(a)
        step = self._step(Kind.FREE_RANGE)
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
        self._context.open = step

    def _take_isolate_free_page(self, a: int, b: int, _c: int, _d: int) -> None:
        step = self._unsaid_step(Kind.ISOLATE)
        step.pfn, step.order = self._addresses.pfn(a), b
        self._context.isolating = step

    def _take_isolate_free_page_return(self, a: int, _b: int, _c: int, _d: int) -> None:
        context = self._context
        if context.isolating is not None and a:
            self.steps.append(context.isolating)
            self._left[context.isolating.pfn] = context.isolating.event
        context.isolating = None

    def _take_putback_isolated_page(self, a: int, b: int, c: int, _d: int) -> None:
        step = self._step(Kind.PUT_BACK)
        step.pfn, step.order, step.migratetype = self._addresses.pfn(a), b, c

    def _take_alloc_pages_bulk(self, a: int, b: int, c: int, _d: int) -> None:
        step = self._step(Kind.BULK)
        step.gfp, step.node, step.count = a & 0xFFFFFFFF, b, c
        self._context.bulk = self._bulk_on[self._cpu] = step

    def _take_alloc_pages_bulk_return(self, a: int, _b: int, _c: int, _d: int) -> None:
        context = self._context
        if context.bulk is None:
            return
        freed = self._freed_meanwhile.pop(self._cpu, -1)
        bulk = self._bulk_on.pop(self._cpu, None)
        if not context.bulk.locked:
            if bulk is context.bulk and freed >= 0:
                self._awaited[freed] = bulk
            # Interrupts reached the lists meanwhile before they were locked, unless the page that
            # was freed last is still there later.
            context.bulk.effect = self._counter
        context.bulk.order = context.bulk.count
        context.bulk.count = a - context.bulk.attempts
        context.bulk = None
        context.open = None

    def _drain(self, kind: Kind, zone: int) -> Step:
        step = self._step(kind)
        step.pointer, step.count = zone, self._cpu
        self._context.open = step
        return step

    def _take_drain_zone_pages(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._drain(Kind.DRAIN_BATCH, a)

    def _take_drain_pages_zone(self, a: int, b: int, _c: int, _d: int) -> None:
        self._drain(Kind.DRAIN_ALL, a).count = b

    def _take_decay_pcp_high(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._drain(Kind.DECAY, a)

    def _take_refresh_cpu_vm_stats(self, _a: int, _b: int, _c: int, _d: int) -> None:
        self._step(Kind.FOLD)

    def _take_mm_compaction_begin(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._step(Kind.COMPACTION).pfn = a
        self._context.compacting = True

    def _take_mm_compaction_end(self, a: int, b: int, c: int, d: int) -> None:
        self._take_mm_compaction_begin(a, b, c, d)
        self._context.compacting = False

    def _take_mm_lru_insertion(self, a: int, _b: int, _c: int, _d: int) -> None:
        """A folio that was moved has the order of the old one, which is freed next.

        Kernel: mm/migrate.c, ``migrate_folio_move`` and ``migrate_folio_done``; mm/swap.c, where
            large folios do not wait for others to be put on a list with.
        """
        step = self._context.inserted = self._step(Kind.ON_LRU)
        step.pfn = a

    def _take_balance_pgdat(self, a: int, _b: int, _c: int, _d: int) -> None:
        step = self._step(Kind.BALANCE_BEGIN)
        step.pointer, step.node = a, self._daemons.get(self._pid, -1)
        self._balancing[self._pid] = a

    def _take_balance_pgdat_return(self, _a: int, _b: int, _c: int, _d: int) -> None:
        """The daemon queues up to be woken at once, unless it has to wait for the CPU, and long
        before it says that it sleeps.

        Kernel: mm/vmscan.c, ``kswapd_try_to_sleep``; 6.1 to 7.3.
        """
        step = self._step(Kind.BALANCE_END)
        step.pointer = self._balancing.pop(self._pid, 0)
        step.count = int(not self._queueing_told)
        step.node = self._daemons.get(self._pid, -1)

    def _take_wakeup_kcompactd(self, a: int, _b: int, _c: int, _d: int) -> None:
        """Kernel: mm/vmscan.c, ``balance_pgdat``, which calls it last where there was a boost, and
        ``kswapd_try_to_sleep``, once the daemon has queued up to be woken."""
        if self._balancing.get(self._pid) == a:
            self._step(Kind.BOOST_END)
        elif self._pid not in self._balancing and self._pid in self._daemons:
            self._step(Kind.KSWAPD_SLEEP).node = self._daemons[self._pid]

    def _take_mm_vmscan_wakeup_kswapd(self, a: int, _b: int, _c: int, _d: int) -> None:
        """Being woken takes it off its queue. Kernel: mm/vmscan.c, ``wakeup_kswapd``."""
        self._step(Kind.KSWAPD_WAKE).node = a

    def _take_mm_vmscan_kswapd_wake(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._step(Kind.KSWAPD_WAKE).node = a

    def _take_mm_vmscan_kswapd_sleep(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._step(Kind.KSWAPD_SLEEP).node = a
        self._asleep.add(self._pid)

    def _take_set_pgdat_percpu_threshold(self, a: int, _b: int, _c: int, _d: int) -> None:
        step = self._step(Kind.THRESHOLD)
        step.pointer, step.count = a, int(self._pid not in self._asleep)
        step.node = self._daemons.get(self._pid, -1)
        self._asleep.discard(self._pid)

    def _take_unreserve_highatomic(self, a: int, _b: int, _c: int, _d: int) -> None:
        step = self._unsaid_step(Kind.UNRESERVE)
        step.count = a
        self._context.unreserving = step

    def _take_unreserve_highatomic_return(self, a: int, _b: int, _c: int, _d: int) -> None:
        context = self._context
        if context.unreserving is not None and a:
            context.unreserving.effect = self._counter
            self.steps.append(context.unreserving)
        context.unreserving = None

    def _take_set_migratetype_isolate(self, a: int, _b: int, _c: int, _d: int) -> None:
        """A pageblock with pages that cannot move is refused: no free pages change lists then."""
        step = self._unsaid_step(Kind.ISOLATE_PAGEBLOCK)
        step.pfn = self._addresses.pfn(a)
        self._context.setting_apart = step

    def _take_move_freepages_block(self, _a: int, _b: int, _c: int, _d: int) -> None:
        context = self._context
        if context.setting_apart is not None:
            self.steps.append(context.setting_apart)
            context.setting_apart = None

    _take_move_freepages_block_isolate = _take_move_freepages_block

    def _take_unset_migratetype_isolate(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._step(Kind.UNISOLATE_PAGEBLOCK).pfn = self._addresses.pfn(a)

    def _take_alloc_pages(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._context.node = a

    def _take_get_page_from_freelist(self, a: int, _b: int, _c: int, _d: int) -> None:
        self._context.flags = a


_UNDER_LOCK = frozenset(
    EVENT_CODES[name]
    for name in (
        "mm_page_alloc_zone_locked",
        "mm_page_alloc_extfrag",
        "mm_page_pcpu_drain",
        "split_large_buddy",
    )
)
_OF_A_CPU = (Kind.DRAIN_ALL, Kind.DRAIN_BATCH, Kind.DECAY)
_LETS_GO = (Kind.DRAIN_ALL, Kind.DECAY, Kind.DRAIN_REST)
_DRAINS = EVENT_CODES["mm_page_pcpu_drain"]
_INSERTS = EVENT_CODES["mm_lru_insertion"]
_KEEPS = EVENT_CODES["compaction_free"]
_SAYS_ITS_NODE = ("mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep")
_DRAINERS = frozenset(
    {
        Kind.FREE,
        Kind.FREE_RANGE,
        Kind.FREE_DIRECT,
        Kind.DRAIN_ALL,
        Kind.DRAIN_BATCH,
        Kind.DECAY,
        Kind.DRAIN_REST,
        Kind.UNKNOWN_DRAIN,
    }
)
