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

_EVENT = re.compile(r" *(.*)-\d+ +\[\d+\] (?:\S+ +)?(\d+): (\w+): ")
_ENTRIES = re.compile(r"^# entries-in-buffer/entries-written: (\d+)/(\d+) ", re.MULTILINE)
_PAGES = ("mm_page_alloc", "mm_page_free", "mm_page_free_batched", "mm_page_pcpu_drain")
"""Traced where it was not the program whose calls these are, or in an interrupt."""
_BALANCERS = re.compile(r"==> next_comm=(k(?:swapd|compactd)\d+) next_pid=")
"""Tasks that change a zone's state without taking or giving a page."""
_WORKS = re.compile(
    r"function (vmstat_update|vmstat_shepherd|refresh_vm_stats|drain_\w+|lru_add_drain\w*)\b"
)
"""The same of what kworkers do: counters are folded, per-cpu lists trimmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingEvent:
    """One event of the trace."""

    at: int
    """The clock behind it."""
    task: str
    """Who ran, or was interrupted."""
    name: str
    line: str

    @property
    def disturbs(self) -> str:
        """Who was at the allocator instead of the call; empty where nobody was."""
        if self.name in _PAGES:
            return self.task
        if self.name == "sched_switch":
            match = _BALANCERS.search(self.line)
        elif self.name == "workqueue_execute_start":
            match = _WORKS.search(self.line)
        else:
            match = None
        return match[1] if match else ""


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
        task, at, event = match.groups()
        events.append(RingEvent(at=int(at), task=task, name=event, line=line))
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
