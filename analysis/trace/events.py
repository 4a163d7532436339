"""The events of one traced window: a typed array per event, one order across CPUs, the losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from analysis.trace.counter import Audit, Readings, audit, collect
from analysis.trace.format import EventFormat, Formats
from analysis.trace.layout import gather
from analysis.trace.ring import RingDamage, RingEvents, walk_rings

Array: TypeAlias = npt.NDArray[Any]

COUNTER_CLOCK = "counter"
_PLACES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Events of one CPU that were overwritten before they could be read."""

    cpu: int
    before: int | None
    """Counter of the CPU's last event in front of the gap; None: the gap is at the beginning."""
    after: int | None
    """Counter of its first event behind the gap; None: nothing was read after it."""
    count: int | None
    """How many; None where the kernel had no room to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLoss:
    """What the kernel's own statistics say was lost in the window, all CPUs together."""

    overrun: int = 0
    """Overwritten unread. The pages' own counts (``Gap``) tell of the same events."""
    dropped: int = 0
    """Never written: dropped events and commit overruns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Several events in one order; row *i* of each array is the *i*-th event."""

    names: tuple[str, ...]
    kind: npt.NDArray[np.uint16]
    """Index in ``names``."""
    row: npt.NDArray[np.int64]
    """Row in that event's array."""

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A window in a few numbers."""

    events: int
    by_name: Mapping[str, int]
    unknown: int
    first: int | None
    last: int | None
    lost: int
    damaged: int
    """Places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """All events of a window. ``stream["mm_page_alloc"]`` is an array sorted by counter.

    Every array has the columns ``counter`` (u8), ``cpu`` (u2), ``pid`` (i4), ``common_flags``
    (u1), ``preempt_count`` (u1), then the event's own fields by name in their native types.
    Events are named ``kmem/mm_page_alloc``, or shorter without the system where one event only
    has that name.
    """

    arrays: Mapping[str, Array]
    """By full name, those that occurred."""
    ranks: Mapping[str, npt.NDArray[np.int64]]
    """By full name: each row's place in the order of all events of the window."""
    formats: Mapping[str, EventFormat]
    """By full name, of all events that could occur."""
    clock: str
    readings: Readings
    """For ``audit``."""
    events_by_cpu: Mapping[int, int]
    """Events in each CPU's ring, unknown and damaged ones included."""
    gaps: tuple[Gap, ...] = ()
    kernel_loss: KernelLoss = KernelLoss()
    unknown: Mapping[int, int]
    """Event ids without a format, and how many events had them: none is in ``arrays``."""
    damage: tuple[RingDamage, ...] = ()
    discarded: int = 0
    problems: tuple[str, ...] = ()
    """What else stands against trusting the window: an incomplete reader, counts that differ."""

    def __getitem__(self, name: str) -> Array:
        """Raises KeyError when the event did not occur, or is not one of ``formats``."""
        return self.arrays[self.full_name(name)]

    def __contains__(self, name: str) -> bool:
        try:
            return self.full_name(name) in self.arrays
        except KeyError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def full_name(self, name: str) -> str:
        """Raises KeyError when no format, or more than one, has this name."""
        if name in self.arrays or name in self.formats:
            return name
        found = [full for full in self.formats if full.partition("/")[2] == name]
        if len(found) != 1:
            raise KeyError(f"{name}: {', '.join(found) or 'no such event'}")
        return found[0]

    @property
    def events(self) -> int:
        return sum(len(array) for array in self.arrays.values())

    @property
    def lost(self) -> int:
        """Events known to be lost: at least so many.

        Overwritten ones are counted by the pages and by the kernel's statistics; the larger of
        the two counts. A gap of unknown size counts as one.
        """
        missed = sum(1 if gap.count is None else gap.count for gap in self.gaps)
        return max(missed, self.kernel_loss.overrun) + self.kernel_loss.dropped

    @property
    def is_sound(self) -> bool:
        """Nothing lost, damaged, unknown or otherwise in doubt, no counter unaccounted for.

        With the clock at both ends of the window ``audit`` can tell more.
        """
        if self.lost or self.damage or self.unknown or self.problems:
            return False
        audit = self.audit()
        return audit is None or audit.unexplained == 0

    def audit(self, begin: int | None = None, end: int | None = None) -> Audit | None:
        """Looks for counters that no event has; see ``analysis.trace.counter``.

        ``begin`` and ``end``: the clock at both ends of the window, from its memory samples.
        None when the window does not allow it: another clock, or records were discarded.
        """
        if self.clock != COUNTER_CLOCK or self.discarded:
            return None
        return audit(self.readings, begin, end)

    @property
    def summary(self) -> Summary:
        ends = [(int(a["counter"][0]), int(a["counter"][-1])) for a in self.arrays.values()]
        return Summary(
            events=self.events,
            by_name=MappingProxyType({name: len(array) for name, array in self.arrays.items()}),
            unknown=sum(self.unknown.values()),
            first=min((first for first, _ in ends), default=None),
            last=max((last for _, last in ends), default=None),
            lost=self.lost,
            damaged=len(self.damage),
        )

    def merged(self, names: Iterable[str] | None = None) -> Merged:
        """The events of these names (all if None) in the order in which they happened.

        Names that did not occur add nothing. Raises KeyError for one that is not known.
        """
        wanted = tuple(self.arrays) if names is None else tuple(map(self.full_name, names))
        total = 1 + max((int(self.ranks[n][-1]) for n in wanted if n in self.ranks), default=-1)
        kind = np.full(total, len(wanted), np.uint16)
        row = np.zeros(total, np.int64)
        for number, name in enumerate(wanted):
            if name in self.ranks:
                kind[self.ranks[name]] = number
                row[self.ranks[name]] = np.arange(len(self.ranks[name]))
        there = kind < len(wanted)
        if not there.all():
            kind, row = kind[there], row[there]
        return Merged(names=wanted, kind=kind, row=row)


def decode(
    rings: Mapping[int, bytes | memoryview],
    formats: Formats,
    *,
    clock: str = COUNTER_CLOCK,
    kernel_loss: KernelLoss | None = None,
    problems: tuple[str, ...] = (),
) -> EventStream:
    """Decodes the rings of some CPUs, by CPU number.

    Whatever the bytes are, it ends, and what it could not read is said in the stream.
    """
    ring = walk_rings(rings, formats.page)
    order = _time_order(ring)
    rows, ranks, offsets = _by_type(ring.type, order)
    arrays: dict[str, Array] = {}
    all_ranks: dict[str, npt.NDArray[np.int64]] = {}
    unknown: dict[int, int] = {}
    damage = list(ring.damage)
    for number in np.flatnonzero(np.diff(offsets)):
        span = slice(offsets[number], offsets[number + 1])
        event = formats.by_id.get(int(number))
        if event is None:
            unknown[int(number)] = int(span.stop - span.start)
            continue
        array, kept, misfits = gather(ring, event, rows[span])
        for reason, places in misfits.items():
            damage += _places(ring, rows[span][places], reason)
        if len(array):
            arrays[event.full_name] = array
            all_ranks[event.full_name] = ranks[span][kept]
    if clock == COUNTER_CLOCK:
        damage += _two_cpus_at_once(ring, order)
    return EventStream(
        arrays=MappingProxyType(arrays),
        ranks=MappingProxyType(all_ranks),
        formats=formats.by_name,
        clock=clock,
        readings=collect(ring, order),
        events_by_cpu=MappingProxyType(_events_by_cpu(ring)),
        gaps=_gaps(ring),
        kernel_loss=kernel_loss or KernelLoss(),
        unknown=MappingProxyType(unknown),
        damage=tuple(damage),
        discarded=ring.discarded,
        problems=problems,
    )


def _time_order(ring: RingEvents) -> npt.NDArray[np.int64]:
    """Indexes of all events by counter; equal counters in the order of their CPU's ring."""
    if _ascends(ring.counter):
        return np.arange(len(ring.counter))
    return np.argsort(ring.counter, kind="stable")


def _two_cpus_at_once(ring: RingEvents, order: npt.NDArray[np.int64]) -> Iterator[RingDamage]:
    """With the counter as clock no two CPUs can have read the same stamp."""
    counter = ring.counter[order]
    twice = np.flatnonzero(counter[1:] == counter[:-1]) + 1
    cpu = ring.pages.cpu
    elsewhere = cpu[ring.page[order[twice]]] != cpu[ring.page[order[twice - 1]]]
    yield from _places(
        ring, order[twice[elsewhere]], "the counter is that of an event on another cpu as well"
    )


def _places(ring: RingEvents, rows: npt.NDArray[np.int64], reason: str) -> Iterator[RingDamage]:
    """One damage an event, but of many with the same reason only the first and their number."""
    page_words = len(ring.words) // max(1, len(ring.pages.cpu))
    for row in rows[:_PLACES]:
        page = ring.page[row]
        yield RingDamage(
            cpu=int(ring.pages.cpu[page]),
            page=int(ring.pages.number[page]),
            offset=int(ring.start[row] - page * page_words) * 4,
            reason=reason,
        )
    if len(rows) > _PLACES:
        cpu = int(ring.pages.cpu[ring.page[rows[_PLACES]]])
        more = f"{reason} ({len(rows) - _PLACES} more events, from this cpu on)"
        yield RingDamage(cpu=cpu, page=-1, offset=0, reason=more)


def _events_by_cpu(ring: RingEvents) -> dict[int, int]:
    counts = np.bincount(ring.pages.cpu, np.diff(ring.pages.first)).astype(np.int64)
    return {int(cpu): int(counts[cpu]) for cpu in np.unique(ring.pages.cpu)}


def _gaps(ring: RingEvents) -> tuple[Gap, ...]:
    gaps: list[Gap] = []
    pages = ring.pages
    for page in np.flatnonzero(pages.missed):
        cpu = pages.cpu[page]
        begin = pages.first[np.searchsorted(pages.cpu, cpu, "left")]
        end = pages.first[np.searchsorted(pages.cpu, cpu, "right")]
        at = pages.first[page]
        gaps.append(
            Gap(
                cpu=int(cpu),
                before=int(ring.counter[at - 1]) if at > begin else None,
                after=int(ring.counter[at]) if at < end else None,
                count=int(pages.missed[page]) if pages.missed[page] > 0 else None,
            )
        )
    return tuple(gaps)


@numba.njit(cache=True, nogil=True)
def _ascends(counter: Array) -> bool:
    for i in range(1, len(counter)):  # noqa: SIM110 - numba has no all() over a generator
        if counter[i] < counter[i - 1]:
            return False
    return True


def _by_type(kind: Array, order: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Splits an order by event type: indexes, their places in the order, where each type begins."""
    offsets = np.zeros(1 << 16 | 1, np.int64)
    np.cumsum(np.bincount(kind, minlength=1 << 16), out=offsets[1:])
    rows = np.empty(len(order), np.int64)
    ranks = np.empty(len(order), np.int64)
    _scatter(kind, order, offsets[:-1].copy(), rows, ranks)
    return rows, ranks, offsets


@numba.njit(cache=True, nogil=True)
def _scatter(kind: Array, order: Array, following: Array, rows: Array, ranks: Array) -> None:
    for rank in range(len(order)):
        row = order[rank]
        place = following[kind[row]]
        following[kind[row]] = place + 1
        rows[place] = row
        ranks[place] = rank
