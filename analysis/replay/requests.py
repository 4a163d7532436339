"""From a window's events to what was asked of the allocator, in the order it took effect.

The events are those the kernel recorded; what it answered (which page, which blocks a refill
fetched or a drain gave back) is kept beside each request, for comparison alone.

Order. An event is recorded before or after its effect, outside the lock. What happens under a
zone's lock is recorded under it, so a request that touched a zone took effect at its first such
event; one that did not touched only its own CPU's lists, and its own event places it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.trace.events import EventStream

IRQ_FLAGS = 0x58
"""TRACE_FLAG_HARDIRQ, TRACE_FLAG_SOFTIRQ and TRACE_FLAG_NMI in an event's common_flags."""
_HARDIRQ, _SOFTIRQ, _NMI = 0x08, 0x10, 0x40
MOVABLE = 1
"""MIGRATE_MOVABLE in every kernel."""
NO_PAGE = (1 << 64) - 1
"""The pfn of a failed allocation: that of a null page pointer."""


class Kind(IntEnum):
    """What is asked of the allocator, or happens to it."""

    ALLOCATE = 0
    BULK = 1
    FREE = 2
    FREE_DIRECT = 3
    ISOLATE = 4
    PUT_BACK = 5
    DRAIN_ALL = 6
    DRAIN_BATCH = 7
    DECAY = 8
    FOLD = 9
    ON_LRU = 10
    BALANCE_BEGIN = 11
    BALANCE_END = 12
    KSWAPD_WAKE = 13
    KSWAPD_SLEEP = 14
    UNRESERVE = 15
    THRESHOLD = 16
    UNKNOWN_DRAIN = 17
    """Blocks came back from a per-cpu list and no request explains it."""
    CAPTURED = 18
    """An allocation served by compaction from a block freed under its eyes."""
    ISOLATE_PAGEBLOCK = 19
    UNISOLATE_PAGEBLOCK = 20
    FREE_RANGE = 21
    """Single pages that are freed as the blocks of ``pieces``."""
    COMPACTION = 23
    """Compaction began or ended in a zone: ``pfn`` is the zone's first page."""
    MERGED = 22
    """A free that became part of another step."""


@dataclass(slots=True)
class Step:
    """One request with what the kernel did."""

    kind: Kind
    effect: int
    """Counter at which it took effect."""
    event: int
    """Counter of its own event."""
    cpu: int
    pid: int
    level: int
    """0 task, 1 softirq, 2 hardirq, 3 NMI."""
    pfn: int = -1
    """The kernel's answer for ALLOCATE; else the page in question."""
    order: int = 0
    gfp: int = 0
    migratetype: int = -1
    """The kernel's number."""
    node: int = -1
    """Asked for; -1 where nobody knows."""
    count: int = 0
    """Pages that a BULK got; CPU of the lists of a DRAIN; 1 for the THRESHOLD of an awake kswapd,
    0 of one that goes to sleep."""
    pointer: int = 0
    """Zone or node structure that a probe names."""
    alloc_flags: int = -1
    attempts: int = 0
    locked: list[tuple[int, int]] = field(default_factory=list)
    """Blocks that left the zone's lists for it: pfn, order."""
    drained: list[tuple[int, int]] = field(default_factory=list)
    """Blocks that came back from per-cpu lists because of it."""
    borrowed: list[int] = field(default_factory=list)
    """Blocks that fallbacks chose for it, by pfn."""
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Blocks of a FREE_RANGE: pfn, order."""
    captured: dict[int, int] = field(default_factory=dict)
    """A block that came back → the order at which compaction took what it grew to."""
    after: int = -1
    """Counter of the same context's event before this one: the effect is later than that."""
    before: int = 1 << 62
    """Counter of the same context's next event: the effect is earlier than that."""
    number: int = -1
    """Its place among the steps of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAddresses:
    """Where struct pages lie, to read the probes' pointers."""

    vmemmap_base: int
    struct_page_bytes: int

    def pfn(self, address: int) -> int:
        """The page of a struct page's address."""
        return (address - self.vmemmap_base) % (1 << 64) // self.struct_page_bytes


_TRACEPOINTS = {
    "mm_page_alloc": ("pfn", "order", "gfp_flags", "migratetype"),
    "mm_page_free": ("pfn", "order", "", ""),
    "mm_page_free_batched": ("pfn", "", "", ""),
    "mm_page_alloc_zone_locked": ("pfn", "order", "migratetype", ""),
    "mm_page_pcpu_drain": ("pfn", "order", "migratetype", ""),
    "mm_page_alloc_extfrag": ("pfn", "alloc_order", "fallback_order", ""),
    "mm_compaction_begin": ("zone_start", "", "", ""),
    "mm_compaction_end": ("zone_start", "", "", ""),
    "mm_lru_insertion": ("pfn", "", "", ""),
    "isolate_free_page": ("page", "order", "", ""),
    "isolate_free_page_return": ("taken", "", "", ""),
    "free_one_page": ("pfn", "order", "fpi_flags", ""),
    "split_large_buddy": ("pfn", "order", "fpi_flags", ""),
    "putback_isolated_page": ("page", "order", "migratetype", ""),
    "alloc_pages_bulk": ("gfp", "nid", "nr_pages", ""),
    "alloc_pages_bulk_return": ("populated", "", "", ""),
    "free_prepared_range": ("page", "nr_pages", "", ""),
    "drain_zone_pages": ("zone", "", "", ""),
    "drain_pages_zone": ("zone", "event_cpu", "", ""),
    "decay_pcp_high": ("zone", "", "", ""),
    "refresh_cpu_vm_stats": ("", "", "", ""),
    "balance_pgdat": ("pgdat", "", "", ""),
    "balance_pgdat_return": ("", "", "", ""),
    "mm_vmscan_wakeup_kswapd": ("nid", "", "", ""),
    "mm_vmscan_kswapd_wake": ("nid", "", "", ""),
    "mm_vmscan_kswapd_sleep": ("nid", "", "", ""),
    "unreserve_highatomic": ("force", "", "", ""),
    "unreserve_highatomic_return": ("moved", "", "", ""),
    "set_pgdat_percpu_threshold": ("pgdat", "threshold_of", "", ""),
    "alloc_pages": ("nid", "order", "gfp", ""),
    "get_page_from_freelist": ("alloc_flags", "order", "gfp", ""),
    "set_migratetype_isolate": ("page", "", "", ""),
    "unset_migratetype_isolate": ("page", "", "", ""),
    "move_freepages_block": ("", "", "", ""),
    "move_freepages_block_isolate": ("", "", "", ""),
}
"""Event → the fields that matter, as a, b, c, d of a timeline row."""

_NAMES = tuple(_TRACEPOINTS)
EVENT_CODES = {name: code for code, name in enumerate(_NAMES)}
"""Event → the code in a timeline row."""

TIMELINE_ROW = np.dtype(
    [
        ("counter", "<i8"),
        ("code", "u1"),
        ("cpu", "<i2"),
        ("level", "u1"),
        ("pid", "<i4"),
        ("a", "<u8"),
        ("b", "<i8"),
        ("c", "<i8"),
        ("d", "<i8"),
    ]
)


def timeline(stream: EventStream, first: int, last: int) -> NDArray[np.void]:
    """All events that matter with ``first < counter <= last``, one row each, in global order."""
    parts: list[NDArray[np.void]] = []
    ranks: list[NDArray[np.int64]] = []
    for name, fields in _TRACEPOINTS.items():
        if name not in stream:
            continue
        source = stream[name]
        counters = source["counter"].astype(np.int64)
        inside = (counters > first) & (counters <= last)
        source = source[inside]
        rows = np.zeros(len(source), TIMELINE_ROW)
        rows["counter"] = source["counter"]
        rows["code"] = EVENT_CODES[name]
        rows["cpu"] = source["cpu"]
        rows["pid"] = source["pid"]
        rows["level"] = _levels(source["common_flags"])
        for column, wanted in zip("abcd", fields, strict=True):
            if wanted and wanted in (source.dtype.names or ()):
                rows[column] = source[wanted].astype(rows.dtype[column])
        parts.append(rows)
        ranks.append(stream.ranks[stream.full_name(name)][inside])
    if not parts:
        return np.zeros(0, TIMELINE_ROW)
    return np.concatenate(parts)[np.argsort(np.concatenate(ranks), kind="stable")]


def compactions_of(rows: NDArray[np.void]) -> list[tuple[int, int, int]]:
    """Compactions of a timeline: counters of begin and end, and the zone's first page.

    One that does not end goes on to the last event.
    """
    begin, end = EVENT_CODES["mm_compaction_begin"], EVENT_CODES["mm_compaction_end"]
    found: list[tuple[int, int, int]] = []
    open_at: dict[tuple[int, int], int] = {}
    for row in rows[(rows["code"] == begin) | (rows["code"] == end)]:
        key = int(row["pid"]), int(row["a"])
        if row["code"] == begin:
            open_at[key] = int(row["counter"])
        elif key in open_at:
            found.append((open_at.pop(key), int(row["counter"]), key[1]))
    last = int(rows["counter"][-1]) if len(rows) else 0
    return found + [(start, last, zone) for (_, zone), start in open_at.items()]


def uses_movable_lists(kind: int, migratetype: int, locked: bool, borrowed: bool) -> bool:
    """Whether a step took blocks from lists that compaction turns while it runs."""
    return kind in (Kind.ALLOCATE, Kind.BULK) and (borrowed or (locked and migratetype == MOVABLE))


def _levels(flags: NDArray[Any]) -> NDArray[np.uint8]:
    levels = np.zeros(len(flags), np.uint8)
    levels[(flags & _SOFTIRQ) != 0] = 1
    levels[(flags & _HARDIRQ) != 0] = 2
    levels[(flags & _NMI) != 0] = 3
    return levels


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
        takers = tuple(getattr(self, f"_take_{name}", None) for name in _NAMES)
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
