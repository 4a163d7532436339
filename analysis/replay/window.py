"""A traced window of a run, opened: its samples, its events, and every doubt about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from analysis.bundle import (
    Bundle,
    MemorySample,
    RecordError,
    TraceRecord,
    WindowRecord,
    recorded_trace,
)
from analysis.errors import AnalysisError
from analysis.model.release import Release, parse_release
from analysis.replay.rules import OLDEST, missing_probes, rules_of
from analysis.trace import EventStream, open_window

REQUIRED_EVENTS = (
    "kmem/mm_page_alloc",
    "kmem/mm_page_free",
    "kmem/mm_page_alloc_zone_locked",
    "kmem/mm_page_pcpu_drain",
    "kmem/mm_page_alloc_extfrag",
)
"""Tracepoints without which there is no replay."""
COMPACTION_EVENTS = ("compaction/mm_compaction_begin", "compaction/mm_compaction_end")
"""Tracepoints that show when a task may capture what it frees, where the kernel compacts."""
_NAMED = 3
"""So many of a kind of trouble are named, the others counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was recorded of a window."""

    name: str
    again_of: str | None
    """The window whose load this one repeats."""
    arch: str
    kernel: str
    """Release, or ``unknown``."""
    samples: tuple[MemorySample, ...]
    """In order; those that cannot be read are left out and told in ``doubts``."""
    trace: TraceRecord | None
    stream: EventStream | None
    """None: the trace cannot be read; ``doubts`` says why."""
    doubts: tuple[str, ...]
    """Why no verdict about this window may hold; empty: nothing speaks against it."""
    lost: int | None = None
    """Events known to be lost, after the events themselves were let go."""

    @property
    def stream_lost(self) -> int | None:
        """Events known to be lost; None when the trace could not be read."""
        return self.lost if self.stream is None else self.stream.lost

    def without_events(self) -> Window:
        """The same without the events, which take most of the memory."""
        return dataclasses.replace(self, stream=None, lost=self.stream_lost)

    @property
    def release(self) -> Release | None:
        """The kernel's release; None when the run does not say."""
        try:
            return parse_release(self.kernel)
        except ValueError:
            return None

    @property
    def cpus(self) -> int | None:
        """Online CPUs."""
        return len(self.samples[0].cpus) if self.samples else None

    @property
    def nodes(self) -> int | None:
        """Nodes with memory."""
        return len(set(self.samples[0].zones["node"].tolist())) if self.samples else None

    @property
    def cuts(self) -> tuple[int, ...] | None:
        """Counter of each sample; None unless every sample has one and they rise."""
        cuts = [sample.meta["trace_counter"] for sample in self.samples]
        if any(cut is None for cut in cuts):
            return None
        rising = all(one <= other for one, other in pairwise(cuts))
        return tuple(map(int, cuts)) if rising else None


def open_replay_window(bundle: Bundle, record: WindowRecord) -> Window:
    """Opens a window; whatever cannot be read becomes a doubt, never an exception."""
    doubts: list[str] = []
    samples = [sample for name in record.samples for sample in _sample(bundle, name, doubts)]
    trace: TraceRecord | None = None
    stream: EventStream | None = None
    try:
        trace = recorded_trace(bundle.path, record).record
        stream = open_window(bundle, record)
    except (AnalysisError, RecordError) as error:
        doubts.append(f"its trace cannot be read: {error.message}")
    machine = bundle.manifest.machine
    window = Window(
        name=record.name,
        again_of=record.again_of,
        arch=str(samples[0].meta["arch"]) if samples else machine.arch if machine else "unknown",
        kernel=bundle.release or (str(samples[0].meta["release"]) if samples else "unknown"),
        samples=tuple(samples),
        trace=trace,
        stream=stream,
        doubts=(),
    )
    doubts += _file_damage(bundle, record)
    doubts += _sample_doubts(window, record)
    doubts += _trace_doubts(window)
    if record.retaken_as:
        doubts.append(f"the window was taken again: see {record.retaken_as}")
    return dataclasses.replace(window, doubts=tuple(dict.fromkeys(doubts)))


def _sample(bundle: Bundle, name: str, doubts: list[str]) -> Iterator[MemorySample]:
    try:
        yield bundle.memory_sample(name)
    except (AnalysisError, RecordError) as error:
        doubts.append(f"a memory sample cannot be read: {error.message}")


def _file_damage(bundle: Bundle, record: WindowRecord) -> Iterator[str]:
    """Files of this window, and those that all windows share, that are not as recorded."""
    others = tuple(f"{other.trace}/" for other in bundle.windows if other.trace != record.trace)
    for damage in bundle.damage:
        is_trace = damage.file.startswith("trace/") and not damage.file.startswith(others)
        if damage.file in record.samples or is_trace:
            yield f"{damage.file}: {damage.message}"


def _sample_doubts(window: Window, record: WindowRecord) -> Iterator[str]:
    if len(record.samples) < 2:
        yield f"it has {len(record.samples)} memory samples, and it takes two"
    for sample in window.samples:
        if not sample.sound:
            problems = "; ".join(sample.meta["problems"]) or "it does not say why"
            yield f"memory sample {sample.label} is not sound: {problems}"
        if sample.meta["trace_counter"] is None:
            yield f"memory sample {sample.label} does not say where it cuts the trace"
    if window.cuts is None and not any(s.meta["trace_counter"] is None for s in window.samples):
        yield "its memory samples are not in the order of the trace"
    for earlier, later in pairwise(window.samples):
        columns = ["zone", "node", "start_pfn", "spanned_pages", "present_pages"]
        if earlier.zones[columns].tolist() != later.zones[columns].tolist():
            yield f"zones changed between {earlier.label} and {later.label} (memory hot-plug)"


def _trace_doubts(window: Window) -> Iterator[str]:
    stream, trace, release = window.stream, window.trace, window.release
    if stream is None or trace is None:
        return
    if stream.lost:
        yield f"{stream.lost} events were lost"
    if stream.damage:
        yield f"the trace is damaged in {len(stream.damage)} places, first {stream.damage[0]}"
    if stream.unknown:
        yield f"{sum(stream.unknown.values())} events are of a type without a format"
    # Hits that probes missed are judged below: only some probes matter here.
    yield from (problem for problem in stream.problems if not problem.startswith("probe "))
    absent = [name for name in REQUIRED_EVENTS if name not in trace.events]
    known = {*trace.events, *trace.events_missing}
    absent += [name for name in COMPACTION_EVENTS if name not in known]
    if absent:
        yield f"not traced: {', '.join(absent)}"
    if release is None or release < OLDEST:
        yield f"the rules of kernel {window.kernel!r} are not known"
        return
    rules = rules_of(release)
    there = {probe.name for probe in trace.probes if probe.symbol is not None and not probe.error}
    for missing in missing_probes(rules, there):
        yield f"probe {missing} is missing: frees or isolations may have gone unseen"
    for probe in trace.probes:
        needed = any(probe.name in group for group in rules.required_probes)
        if needed and probe.name in there and probe.missed is None:
            yield f"how many hits probe {probe.name} missed is not known"
        if needed and probe.missed:
            yield f"probe {probe.name} missed {probe.missed} hits"
    if not trace.cpus:
        yield from _silence(window, stream)


def _silence(window: Window, stream: EventStream) -> Iterator[str]:
    """Values of the clock within the window that no event has, as lost events would leave.

    Asked only where the kernel's own counts of events are missing: those say exactly whether an
    event of the rings was lost, and a reading of the clock may belong to no event.
    """
    if window.cuts is None or len(window.cuts) < 2:
        return
    audit = stream.audit(window.cuts[0], window.cuts[-1])
    if audit is None:
        yield "whether events are missing cannot be told from the trace clock"
    elif audit.unexplained:
        places = ", ".join(f"after {hole.after}" for hole in audit.holes[:_NAMED])
        yield f"{audit.unexplained} readings of the trace clock belong to no event ({places})"
