"""Is every value of ``trace_clock=counter`` accounted for? A check that no event is missing.

The clock is one number for all CPUs, raised by each reading. Every event reads it, so an event
that is not in the rings leaves a hole in the counters of those that are, whoever lost it: the
kernel, the reader in the guest, the wire, or this decoder. Some holes have a known cause:

- the first try at an event that no longer fits in a sub-buffer reads the clock, and so does the
  try in the next one: one hole in front of the first event of a page;
- if an interrupt came between those two, its event begins the new page, and may have found the
  old one full as well: two holes where a page begins with an event of an interrupt;
- an event that is interrupted in its reservation by others reads the clock again afterwards:
  one hole in front of those that interrupted it (it or the first of them carries an absolute
  stamp), or two, before or after them, when the kernel can no longer tell the distance and gives
  it the stamp of the last of them.

Each cause explains so many holes *between two events of its CPU*, and no others. Holes are dealt
out to causes earliest end first, which explains as many as can be. What is left over is a sign
of lost events, or of something else that read the clock (``per_cpu/cpuN/stats`` does).

So: none left over means that no event was lost between the first and the last counter looked
at. It cannot tell of events that never read the clock: hits that a kprobe missed, or events
while recording was off. With event filters or triggers, which discard records, it says nothing.

*Kernel:* kernel/trace/trace_clock.c, trace_clock_counter; kernel/trace/ring_buffer.c,
__rb_reserve_next (readings at A and E, absolute stamps), rb_move_tail; the same in 6.1 and 7.3.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from analysis.trace.ring import ABSOLUTE, SHARED, RingEvents

Counters: TypeAlias = npt.NDArray[np.uint64]
Levels: TypeAlias = npt.NDArray[np.uint8]

_NEVER = 1 << 64

_FLAGS_SHIFT = 16
"""common_flags is the third byte of every record."""
_INTERRUPT = 0x10 | 0x08 | 0x40
"""TRACE_FLAG_SOFTIRQ, _HARDIRQ and _NMI."""
_LEVELS = ((0x10, 1), (0x08 | 0x01, 2), (0x40, 3))
"""Softirq; hardirq or interrupts off, as at the end of an interrupt that no longer says hardirq
(7.2 rearms timers there); NMI. Each may interrupt those before it."""
_LEVEL_OF_FLAGS = np.array(
    [max((level for bits, level in _LEVELS if flags & bits), default=0) for flags in range(256)],
    np.uint8,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What ``audit`` needs of a window, and no more: a few numbers a sub-buffer."""

    first: int | None
    """Smallest counter of any event, known or not; None: there is no event."""
    last: int | None
    hole_after: Counters
    """Holes: the counter in front of each, ascending …"""
    hole_before: Counters
    """… and the one behind it; all values between them are missing."""
    cause_after: Counters
    """Causes: the event of that CPU in front of the silent reading, ascending …"""
    cause_before: Counters
    """… and the one behind it. A cause explains one missing value between the two."""
    shared: int
    """Events with the stamp of the event before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Counters of which ``count`` belong to no event and have no known cause."""

    after: int | None
    """Counter of the last event in front; None: there is none."""
    before: int | None
    """Counter of the first event behind; None: there is none."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Counters of a range, and where they went."""

    begin: int
    """The range is above this …"""
    end: int
    """… up to and including this."""
    silent: int
    """Readings of the clock in the range that no event shows …"""
    explained: int
    """… and that have a known cause."""
    holes: tuple[Hole, ...]
    """Where the others are."""

    @property
    def unexplained(self) -> int:
        return self.silent - self.explained


def collect(ring: RingEvents, order: npt.NDArray[np.int64]) -> Readings:
    """Holes and their possible causes of all events; ``order`` sorts them by counter."""
    counter = ring.counter[order]
    after, before = counter[:-1], counter[1:]
    hole = np.flatnonzero(before - after > 1)
    flags = ring.words[ring.start] >> np.uint32(_FLAGS_SHIFT) & np.uint32(0xFF)
    levels: Levels = _LEVEL_OF_FLAGS[flags]
    causes = [*_pages(ring, levels, (flags & np.uint32(_INTERRUPT)) != 0), *_nested(ring, levels)]
    cause_after = np.concatenate([after for after, _ in causes])
    cause_before = np.concatenate([before for _, before in causes])
    by_begin = np.argsort(cause_after, kind="stable")
    return Readings(
        first=int(counter[0]) if len(counter) else None,
        last=int(counter[-1]) if len(counter) else None,
        hole_after=after[hole],
        hole_before=before[hole],
        cause_after=cause_after[by_begin],
        cause_before=cause_before[by_begin],
        shared=int(np.count_nonzero(ring.flags & SHARED)),
    )


def audit(readings: Readings, begin: int | None = None, end: int | None = None) -> Audit:
    """Accounts for the counters above ``begin`` up to ``end``.

    Without them the range is that of the events themselves, so that nothing can be said of what
    is missing in front of the first or behind the last. The counters of the memory samples at
    both ends of a window (``trace_counter``) close that gap.
    """
    first, last = readings.first, readings.last
    if first is None or last is None:
        begin = begin or 0
        end = begin if end is None else end
        runs = [(begin, end + 1)]
        first, last = _NEVER, -1
    else:
        begin = first - 1 if begin is None else begin
        end = last if end is None else end
        runs = [
            (0, first),
            *zip(readings.hole_after.tolist(), readings.hole_before.tolist(), strict=True),
            (last, _NEVER),
        ]
    causes = list(zip(readings.cause_after.tolist(), readings.cause_before.tolist(), strict=True))
    following = 0
    active: list[int] = []  # Ends of causes that have begun and explained nothing yet.
    silent = explained = 0
    holes: list[Hole] = []
    for after, before in runs:
        while following < len(causes) and causes[following][0] <= after:
            heapq.heappush(active, causes[following][1])
            following += 1
        while active and active[0] < before:
            heapq.heappop(active)
        missing = min(before - 1, end) - max(after, begin)
        if missing <= 0:
            continue
        silent += missing
        known = min(missing, len(active))
        for _ in range(known):
            heapq.heappop(active)
        explained += known
        if known < missing:
            holes.append(
                Hole(
                    after=after if after >= first else None,
                    before=before if before <= last else None,
                    count=missing - known,
                )
            )
    return Audit(begin=begin, end=end, silent=silent, explained=explained, holes=tuple(holes))


def _pages(
    ring: RingEvents, levels: Levels, interrupt: npt.NDArray[np.bool_]
) -> list[tuple[Counters, Counters]]:
    """In front of the first event of each page, where a new page was begun.

    The reading that found the page before full may lie in front of events that interrupted it.
    In front of a CPU's first event a page may have ended as well, before recording was watched.
    """
    first = ring.pages.first
    filled = np.flatnonzero(np.diff(first))
    cpu = ring.pages.cpu[filled]
    new_cpu = np.ones(len(filled), np.bool_)
    new_cpu[1:] = cpu[1:] != cpu[:-1]
    new_page = new_cpu | ~ring.pages.resumed[filled]
    at = first[filled][new_page]
    after, before = _before(ring, levels, at), ring.counter[at]
    twice = interrupt[at]
    return [(after, before), (after[twice], before[twice])]


def _nested(ring: RingEvents, levels: Levels) -> list[tuple[Counters, Counters]]:
    """Around events that interrupted another event's reservation, or were interrupted.

    An interrupted event first reads the clock in front of those that interrupt it, thus behind
    the last event before it that is not of a deeper interrupt. If its stamp is absolute or
    shared, or that of the first of them is absolute, that reading is silent. If it shares a
    stamp, the first reading may also lie behind, and a second one does.
    """
    absolute = np.flatnonzero(ring.flags & ABSOLUTE)
    shared = np.flatnonzero(ring.flags & SHARED)
    following = _after(ring, shared)
    # The event behind has an absolute stamp, which accounts for the second reading, unless it is
    # the first of its page.
    plain = ~np.isin(shared + 1, absolute)
    return [
        (_before(ring, levels, absolute), ring.counter[absolute]),
        (_before(ring, levels, shared), following),
        (ring.counter[shared[plain]], following[plain]),
    ]


def _before(ring: RingEvents, levels: Levels, rows: npt.NDArray[np.int64]) -> Counters:
    """Counters of the last events of the same CPU in front that did not interrupt these.

    0 where there is none.
    """
    earlier = np.full(len(rows), -1)
    for level in np.unique(levels[rows]):
        outer = np.flatnonzero(levels <= level)
        of_level = levels[rows] == level
        place = np.searchsorted(outer, rows[of_level]) - 1
        earlier[of_level] = np.where(place >= 0, outer[place], -1)
    there = earlier >= 0
    earlier = np.where(there, earlier, 0)
    same = there & (_cpu(ring, earlier) == _cpu(ring, rows))
    return np.where(same, ring.counter[earlier], np.uint64(0))


def _after(ring: RingEvents, rows: npt.NDArray[np.int64]) -> Counters:
    """Counters of the next events of the same CPU; the largest number where there is none."""
    following = np.minimum(rows + 1, len(ring.page) - 1)
    there: npt.NDArray[np.bool_] = _cpu(ring, following) == _cpu(ring, rows)
    there[following == rows] = False
    return np.where(there, ring.counter[following], ~np.uint64(0))


def _cpu(ring: RingEvents, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return ring.pages.cpu[ring.page[rows]]
