"""What the kernel traced while single calls were under way, told by places in the order of events.

The trace's clock counts events. Its value was read before and behind each call: the events that
lie between the two fell into the call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.errors import MissingInputError
from analysis.tour.evidence import BootEvidence

_EVENT = re.compile(r" *(.*)-\d+ +\[\d+\] (?:\S+ +)?(\d+): (\w+): ?(.*)$")
_ENTRIES = re.compile(r"^# entries-in-buffer/entries-written: (\d+)/(\d+) ", re.MULTILINE)
_NEXT = re.compile(r"==> next_comm=(.*) next_pid=")
_SWITCH = "sched_switch"
_PAGES = ("mm_page_alloc", "mm_page_free", "mm_page_free_batched", "mm_page_pcpu_drain")
"""Traced in interrupts only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingEvent:
    """One event of the trace."""

    at: int
    """The clock behind it."""
    name: str
    line: str
    rest: str

    @property
    def disturbs(self) -> str:
        """Who had the CPU, or the allocator, instead of the call; empty where nobody had."""
        if self.name == _SWITCH:
            match = _NEXT.search(self.rest)
            return match[1] if match else "another task"
        return "an interrupt" if self.name in _PAGES else ""


def ring_events(boot: BootEvidence, name: str = "trace") -> tuple[RingEvent, ...] | None:
    """All events in their order; None where the trace was not kept, or tells times.

    Raises:
        MissingInputError: some were lost.
    """
    if not boot.has(f"{name}.txt"):
        return None
    text = boot.text(name)
    events: list[RingEvent] = []
    for line in text.splitlines():
        if line.startswith("#") or (match := _EVENT.match(line)) is None:
            continue
        _, at, event, rest = match.groups()
        events.append(RingEvent(at=int(at), name=event, line=line, rest=rest))
    if not events:
        return None
    entries = _ENTRIES.search(text)
    if entries is not None and entries[1] != entries[2]:
        raise MissingInputError(f"{int(entries[2]) - int(entries[1])} events of the trace {name!r}")
    return tuple(events)


def between(
    events: Sequence[RingEvent], before: int | None, after: int | None
) -> tuple[RingEvent, ...]:
    """The events of a call, by the clock before and behind it."""
    if before is None or after is None:
        return ()
    return tuple(event for event in events if before < event.at <= after)
