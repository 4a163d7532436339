"""tracefs ``trace``: events as text, with the kernel's own rendering of their fields; and
``per_cpu/cpuN/stats``, which tells what was lost.

Kernel: kernel/trace/trace.c, print_trace_line and tracing_stats_read; kernel/trace/trace_output.c,
trace_print_context. Times are seconds of the instance's clock (here the monotonic one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import Line, Reader

_EVENT = re.compile(
    r" *(?P<task>.*)-(?P<pid>\d+) +\[(?P<cpu>\d+)\] (?:\S+ +)?(?P<time>\d+\.\d+): "
    r"(?P<name>\w+): ?(?P<rest>.*)$"
)
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]*))')
_ENTRIES = re.compile(r"# entries-in-buffer/entries-written: (\d+)/(\d+) +#P:(\d+)$")
_CPU = re.compile(r"cpu(\d+)$")
_STAT = re.compile(r"([a-z ]+): +([\d.]+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    task: str
    pid: int
    cpu: int
    time_s: float
    name: str
    fields: Mapping[str, str]
    """As printed, without the quotes of strings."""

    def number(self, field: str) -> int:
        """A field that is a decimal or, behind 0x, a hexadecimal number.

        Raises:
            KeyError: the event has no such field.
            ValueError: it is no number.
        """
        return int(self.fields[field], 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceText:
    events: tuple[TraceEvent, ...]
    """In the order printed, which is that of time."""
    written: int
    """Entries that were written to the buffer; more than are in it: the oldest were lost."""

    @property
    def whole(self) -> bool:
        """Whether everything that was written is here."""
        return self.written == len(self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingLoss:
    """What one CPU's buffer lost."""

    cpu: int
    overrun: int
    commit_overrun: int
    dropped: int

    @property
    def lost(self) -> int:
        return self.overrun + self.commit_overrun + self.dropped


def parse(text: str, *, source: str = "trace") -> TraceText:
    """All events.

    Raises:
        ParseError: a line that is neither an event nor a remark, a cut last line, or no count of
            the entries.
    """
    reader = Reader(text, source)
    events: list[TraceEvent] = []
    written: int | None = None
    for line in reader:
        if match := _ENTRIES.match(line.text):
            written = int(match[2])
        elif line.text.startswith("#") or not line.text.strip():
            continue
        else:
            events.append(_event(reader, line))
    if written is None:
        raise reader.missing("the number of entries (# entries-in-buffer/entries-written)")
    return TraceText(events=tuple(events), written=written)


def _event(reader: Reader, line: Line) -> TraceEvent:
    match = _EVENT.match(line.text)
    if match is None:
        raise reader.error(line, "'TASK-PID [CPU] FLAGS TIME: EVENT: FIELDS'")
    return TraceEvent(
        task=match["task"].strip(),
        pid=int(match["pid"]),
        cpu=int(match["cpu"]),
        time_s=float(match["time"]),
        name=match["name"],
        fields={name: quoted or plain for name, quoted, plain in _FIELD.findall(match["rest"])},
    )


def parse_stats(text: str, *, source: str = "stats") -> tuple[RingLoss, ...]:
    """The stats of every CPU, each behind a line with its name (``cpu0``).

    Raises:
        ParseError: a malformed line, or a CPU without its counts.
    """
    reader = Reader(text, source)
    by_cpu: dict[int, dict[str, int]] = {}
    fields: dict[str, int] | None = None
    for line in reader:
        if match := _CPU.match(line.text):
            fields = by_cpu.setdefault(int(match[1]), {})
        elif fields is not None and (match := _STAT.match(line.text)):
            if "." not in match[2]:
                fields[match[1].strip()] = int(match[2])
        else:
            raise reader.error(line, "'cpuN', or a name and a number")
    losses = []
    for cpu, values in by_cpu.items():
        try:
            losses.append(
                RingLoss(
                    cpu=cpu,
                    overrun=values["overrun"],
                    commit_overrun=values["commit overrun"],
                    dropped=values["dropped events"],
                )
            )
        except KeyError as error:
            raise reader.missing(f"{error.args[0]!r} of cpu{cpu}") from None
    return tuple(losses)
