"""A traced window of a run directory, decoded, with all that speaks against trusting it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from analysis.bundle import Bundle, RecordedTrace, TraceRecord, WindowRecord, recorded_trace
from analysis.errors import BundleError
from analysis.trace.events import EventStream, KernelLoss, decode
from analysis.trace.format import Formats, read_formats
from analysis.trace.store import load_stream, save_stream, trace_digest


def open_window(source: Bundle | Path, window: WindowRecord, *, cache: bool = False) -> EventStream:
    """The events of a window.

    What speaks against trusting them is in the stream: ``lost``, ``gaps``, ``damage``,
    ``unknown``, ``problems``, and ``audit`` between the clocks of two memory samples.

    ``cache`` takes them from Parquet files below ``tables/trace`` of the run when those were
    made of the same rings, and else writes them there.

    Raises:
        BundleError: the window has no ring at all, or no formats.
        ParseError: a format file is not one.
        RecordError: its trace record is missing or damaged.
        TableError: the cache cannot be written.
    """
    run = source if isinstance(source, Path) else source.path
    trace = recorded_trace(run, window)
    if not trace.rings:
        raise BundleError(
            f"{run / window.trace}: no ring of any CPU", fix="run the experiment again"
        )
    rings = {cpu: _read(path) for cpu, path in trace.rings.items()}
    formats = _with_size(read_formats(trace.formats), trace.record.subbuffer_bytes)
    if not cache:
        return _decode(trace, rings, formats)
    digest = trace_digest(rings, trace.formats, trace.record.model_dump_json())
    stream = load_stream(trace.store, digest, formats.by_name)
    if stream is None:
        stream = _decode(trace, rings, formats)
        save_stream(stream, trace.store, digest)
    return stream


def _decode(trace: RecordedTrace, rings: dict[int, bytes], formats: Formats) -> EventStream:
    record = trace.record
    stream = decode(
        rings,
        formats,
        clock=record.clock,
        kernel_loss=KernelLoss(
            overrun=sum(cpu.overrun for cpu in record.cpus),
            dropped=sum(cpu.commit_overrun + cpu.dropped_events for cpu in record.cpus),
        ),
    )
    problems = (*_doubts(trace, rings, formats), *_count_differences(record, stream))
    return dataclasses.replace(stream, problems=problems)


def _with_size(formats: Formats, subbuffer_bytes: int) -> Formats:
    """The record knows the size in this instance; the header file tells of the top-level one."""
    data_bytes = subbuffer_bytes - formats.page.data_offset
    if data_bytes <= 0 or subbuffer_bytes % 4:
        raise BundleError(
            f"the trace record says that sub-buffers have {subbuffer_bytes} bytes",
            fix="run the experiment again",
        )
    return dataclasses.replace(
        formats, page=dataclasses.replace(formats.page, data_bytes=data_bytes)
    )


def _doubts(trace: RecordedTrace, rings: dict[int, bytes], formats: Formats) -> Iterator[str]:
    """What the record itself says, or what contradicts it before anything is decoded."""
    record = trace.record
    yield from record.problems
    if not record.complete:
        yield "the reader did not drain every ring to its end"
    for number in trace.missing:
        yield f"cpu {number}: the ring's file is missing"
    for cpu in record.cpus:
        if cpu.cpu in rings:
            whole, rest = divmod(len(rings[cpu.cpu]), record.subbuffer_bytes)
            if whole != cpu.subbuffers or rest:
                yield (
                    f"cpu {cpu.cpu}: {whole} sub-buffers and {rest} bytes are there,"
                    f" {cpu.subbuffers} sub-buffers were received"
                )
    for name in record.events:
        if name not in formats.by_name:
            yield f"{name}: was traced, but its format is not in the run"
    for probe in record.probes:
        if probe.missed:
            yield f"probe {probe.name} missed {probe.missed} hits"


def _count_differences(record: TraceRecord, stream: EventStream) -> Iterator[str]:
    """The kernel counts what it hands to readers; that many events must be in the rings."""
    for cpu in record.cpus:
        found = stream.events_by_cpu.get(cpu.cpu, 0)
        if found != cpu.read_events:
            yield (
                f"cpu {cpu.cpu}: {found} events are in the ring,"
                f" the kernel handed out {cpu.read_events}"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}", fix="make the run readable") from None
