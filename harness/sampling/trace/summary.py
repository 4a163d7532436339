"""From what was asked, set up, received and counted to the record of a window: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.record.trace import CpuRecord, ProbeRecord, TraceRecord
from harness.sampling.trace.instance import CLOCK, Counters, RingStats, Setup
from harness.sampling.trace.receiver import Received
from harness.sampling.trace.symbols import PlannedProbe


def probe_records(
    probes: Iterable[PlannedProbe],
    *,
    errors: Mapping[str, str],
    before: Counters,
    after: Counters | None,
) -> list[ProbeRecord]:
    """One record for every probe that was asked for, those that this kernel cannot have too."""
    records: list[ProbeRecord] = []
    for probe in probes:
        missed = None
        if after is not None and probe.name in after.missed:
            missed = after.missed[probe.name] - before.missed.get(probe.name, 0)
        records.append(
            ProbeRecord(
                name=probe.name,
                function=probe.function,
                symbol=probe.symbol,
                definition=probe.definition,
                error=errors.get(probe.name, ""),
                missed=missed,
            )
        )
    return records


def summarise(
    window: str,
    *,
    setup: Setup,
    probes: Sequence[ProbeRecord],
    received: Received,
    complaint: str,
    before: Counters,
    after: Counters | None,
) -> TraceRecord:
    """The record; ``after`` None: the kernel's own counts could not be read any more."""
    cpus = [] if after is None else _cpu_records(received, before, after)
    problems = list(received.problems)
    if complaint:
        problems.append(f"reader: {complaint}")
    problems += _end_problems(received)
    complete = not problems and after is not None
    problems += [f"option {name} could not be set" for name in setup.options_missing]
    for cpu in cpus:
        lost = cpu.overrun + cpu.commit_overrun + cpu.dropped_events
        if lost:
            problems.append(f"cpu{cpu.cpu}: {lost} events lost before they could be read")
    return TraceRecord(
        window=window,
        clock=CLOCK,
        subbuffer_bytes=received.subbuffer_bytes,
        buffer_kb=setup.buffer_kb,
        events=list(setup.events),
        events_missing=list(setup.events_missing),
        probes=list(probes),
        cpus=cpus,
        complete=complete,
        problems=problems,
    )


def _cpu_records(received: Received, before: Counters, after: Counters) -> list[CpuRecord]:
    none = RingStats(overrun=0, commit_overrun=0, dropped_events=0, read_events=0)
    records: list[CpuRecord] = []
    for cpu, now in sorted(after.rings.items()):
        then = before.rings.get(cpu, none)  # a CPU may come online within the window
        records.append(
            CpuRecord(
                cpu=cpu,
                subbuffers=received.subbuffers.get(cpu, 0),
                overrun=now.overrun - then.overrun,
                commit_overrun=now.commit_overrun - then.commit_overrun,
                dropped_events=now.dropped_events - then.dropped_events,
                read_events=now.read_events - then.read_events,
            )
        )
    return records


def _end_problems(received: Received) -> list[str]:
    """What the reader says it sent, against what came."""
    if received.end is None:
        return ["reader: it did not say that it read the rings to their end"]
    problems: list[str] = []
    if received.end_seq != received.frames:
        problems.append(f"trace port: {received.frames} of {received.end_seq} frames came")
    for name, value in received.end.items():
        if name.startswith("cpu"):
            came = received.subbuffers.get(int(name.removeprefix("cpu")), 0)
            if came != int(value):
                problems.append(f"trace port: {came} of {value} sub-buffers of {name} came")
    return problems
