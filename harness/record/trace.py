"""Where the trace of a window lies in a run directory, and what stands beside the raw pages.

::

    trace/formats/header_page                 the kernel's own descriptions, as tracefs gave them
    trace/formats/header_event
    trace/formats/kmem/mm_page_alloc/format   one a traced event, kprobes included
    trace/03-anon/cpu0.ring                   sub-buffers of CPU 0 as read, one after the other
    trace/03-anon/trace.json                  TraceRecord
    trace/03-anon/formats/…                   only where this window's differ from the run's

Formats differ within a run when its windows had other probes: the kernel numbers events as they
are defined. A sub-buffer is what ``trace_pipe_raw`` gives in one read,
``TraceRecord.subbuffer_bytes`` each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import RecordError
from harness.record.rundir import write_atomic

FORMATS = "formats"
RECORD_NAME = "trace.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProbeRecord(_Part):
    """A kprobe that was asked for."""

    name: str
    """Event name below the group ``mmscope``."""
    function: str
    """The kernel function it stands for."""
    symbol: str | None
    """Where it was set (with .constprop or .isra suffix); None: not in this kernel."""
    definition: str
    """The line written to kprobe_events, or empty."""
    error: str = ""
    """Why it could not be set."""
    missed: int | None = None
    """Hits lost, from kprobe_profile."""


class CpuRecord(_Part):
    """One CPU's ring during a window."""

    cpu: int
    subbuffers: int
    """Sub-buffers drained to the host."""
    overrun: int
    """Events overwritten unread, from per_cpu/cpuN/stats, difference over the window."""
    commit_overrun: int
    dropped_events: int
    read_events: int


class TraceRecord(_Part):
    """How a window was traced."""

    window: str
    clock: str
    subbuffer_bytes: int
    buffer_kb: int
    """Ring size per CPU."""
    events: list[str]
    """Enabled, as ``kmem/mm_page_alloc``."""
    events_missing: list[str]
    """Asked for, but this kernel does not have them."""
    probes: list[ProbeRecord]
    cpus: list[CpuRecord]
    complete: bool
    """The reader drained every ring to its end and said so."""
    problems: list[str] = []

    @property
    def lost_by_kernel(self) -> int:
        """Events that the kernel itself counts as lost."""
        return sum(cpu.overrun + cpu.commit_overrun + cpu.dropped_events for cpu in self.cpus)

    @property
    def lost(self) -> int:
        """Those, and hits that a probe missed since it interrupted another on its CPU."""
        return self.lost_by_kernel + sum(probe.missed or 0 for probe in self.probes)


def ring_path(window_path: Path, cpu: int) -> Path:
    """File of one CPU's sub-buffers."""
    return window_path / f"cpu{cpu}.ring"


def formats_path(window_path: Path) -> Path:
    """Directory of the formats that this window's events are described by."""
    own = window_path / FORMATS
    return own if own.is_dir() else window_path.parent / FORMATS


def write_formats(window_path: Path, formats: Mapping[str, bytes]) -> None:
    """Writes the formats of a window, given by their paths below ``events/``: once for all of a
    run's windows that have the very same, and apart for one that has not."""
    shared = window_path.parent / FORMATS
    target = shared
    if shared.is_dir():
        there = {
            path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()
        }
        same = there == set(formats) and all(
            (shared / name).read_bytes() == text for name, text in formats.items()
        )
        if same:
            return
        target = window_path / FORMATS
    for name, text in formats.items():
        write_atomic(target / name, text)


def write_trace_record(window_path: Path, record: TraceRecord) -> None:
    write_atomic(window_path / RECORD_NAME, (record.model_dump_json(indent=1) + "\n").encode())


def read_trace_record(window_path: Path) -> TraceRecord:
    """Raises RecordError naming the file when it is missing or not a trace record."""
    path = window_path / RECORD_NAME
    try:
        return TraceRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RecordError(
            f"{path}: not a trace record: {reason}", fix="run the experiment again"
        ) from None
