"""The ledger: every event that does not fit the state it meets, counted, the first ones listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from analysis.replay.operation import EVENTS

ENTRY = np.dtype(
    [
        ("counter", "<i8"),
        ("pfn", "<i8"),
        ("kind", "u1"),
        ("event", "u1"),
        ("order", "i1"),
        ("cpu", "<i2"),
        ("pid", "<i4"),
    ],
    align=True,
)
LISTED = 100
"""Entries that are kept of every kind; all are counted."""


class Kind(IntEnum):
    """What is the matter with an event. The first ones contradict the state: ``CONTRADICTIONS``."""

    TAKEN_NOT_FREE = 0
    """Pages left the free lists that were not on them."""
    GIVEN_FREE = 1
    """Pages returned to the free lists that were on them."""
    GIVEN_ALLOCATED = 2
    """Pages returned to the free lists while somebody held them: their free was not seen."""
    ALLOCATED_FREE = 3
    """Pages were handed out that lie on the free lists, and no compaction captured them."""
    ALLOCATED_TWICE = 4
    """Pages were handed out to a second owner: the first one's free was not seen."""
    FREED_FREE = 5
    """Pages were freed that lie on the free lists."""
    IMPOSSIBLE = 6
    """No such pages: outside every zone, not aligned, or an order that does not exist."""
    CAPTURED = 7
    """Direct compaction kept a block at the moment when it became free; it was never listed."""
    FREED_UNSEEN = 8
    """Freed, and allocated before the window began."""
    FREED_UNHANDED = 9
    """Freed, and handed out without an event of its own, as bulk allocations do."""
    ALLOCATED_UNSEEN = 10
    """Handed out, and taken from the free lists before the window began."""


CONTRADICTIONS = tuple(kind for kind in Kind if kind <= Kind.IMPOSSIBLE)
"""Kinds that no sound trace of a window holds: the unexplained events."""
KINDS = len(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One listed event."""

    counter: int
    kind: Kind
    event: str
    pfn: int
    order: int
    cpu: int
    pid: int

    def __str__(self) -> str:
        kind = self.kind.name.lower().replace("_", " ")
        return (
            f"{kind}: {self.event} of page {self.pfn:#x} order {self.order} "
            f"(event {self.counter}, cpu {self.cpu}, pid {self.pid})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a window's events left to explain."""

    counts: Mapping[Kind, int]
    """All kinds, zero or not."""
    entries: tuple[Entry, ...]
    """At most ``LISTED`` of each kind, in the order of events."""

    @property
    def unexplained(self) -> int:
        """Events that contradict the state."""
        return sum(self.counts[kind] for kind in CONTRADICTIONS)

    def first_unexplained(self) -> Entry | None:
        """The first event that contradicts the state."""
        return next((entry for entry in self.entries if entry.kind in CONTRADICTIONS), None)


def ledger(counts: NDArray[np.int64], entries: NDArray[np.void]) -> Ledger:
    """From the arrays that replay fills: ``counts`` by kind, ``entries`` of ``ENTRY``."""
    return Ledger(
        counts={kind: int(counts[kind]) for kind in Kind},
        entries=tuple(
            Entry(
                counter=int(row["counter"]),
                kind=Kind(int(row["kind"])),
                event=EVENTS[int(row["event"])],
                pfn=int(row["pfn"]),
                order=int(row["order"]),
                cpu=int(row["cpu"]),
                pid=int(row["pid"]),
            )
            for row in entries
        ),
    )
