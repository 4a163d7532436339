"""Windows of a run directory: opened, doubted where there is reason to, stored and loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.bundle import WindowRecord
from analysis.errors import BundleError, ParseError, TableError
from analysis.trace import EventStream, open_window
from analysis.trace import window as window_module
from harness.errors import RecordError
from harness.record.rundir import RunDirectory
from harness.record.trace import (
    FORMATS,
    CpuRecord,
    ProbeRecord,
    TraceRecord,
    read_trace_record,
    ring_path,
    write_trace_record,
)
from tests.trace_capture import Capture, read_fixture
from tests.trace_pages import PAGE_BYTES

WINDOW = WindowRecord(name="anon", trace="trace/00-anon", samples=[])
NAME = "6.12-x86_64-trace"


def _stat(text: str, name: str) -> int:
    match = re.search(rf"^{name}: (\d+)$", text, re.MULTILINE)
    assert match is not None
    return int(match[1])


def make_run(path: Path, capture: Capture) -> TraceRecord:
    """A run directory whose only window is the capture."""
    run = RunDirectory(path)
    capture.write_formats(run.trace_path / FORMATS)
    window = path / WINDOW.trace
    window.mkdir(parents=True)
    cpus = []
    for cpu, ring in capture.rings.items():
        ring_path(window, cpu).write_bytes(ring)
        stats = capture.stats[cpu]
        cpus.append(
            CpuRecord(
                cpu=cpu,
                subbuffers=len(ring) // PAGE_BYTES,
                overrun=_stat(stats, "overrun"),
                commit_overrun=_stat(stats, "commit overrun"),
                dropped_events=_stat(stats, "dropped events"),
                read_events=_stat(stats, "entries"),
            )
        )
    record = TraceRecord(
        window="anon",
        clock="counter",
        subbuffer_bytes=PAGE_BYTES,
        buffer_kb=24,
        events=[
            name.removesuffix("/format") for name in capture.formats if name.startswith("kmem/")
        ],
        events_missing=[],
        probes=[],
        cpus=cpus,
        complete=True,
    )
    write_trace_record(window, record)
    return record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path, read_fixture(NAME))
    return tmp_path


Change = Callable[[TraceRecord], object]


def change(run: Path, edit: Change) -> None:
    record = read_trace_record(run / WINDOW.trace)
    edit(record)
    write_trace_record(run / WINDOW.trace, record)


def assert_equal(left: EventStream, right: EventStream) -> None:
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        for column in left[name].dtype.names or ():
            assert np.array_equal(left[name][column], right[name][column]), (name, column)
        assert np.array_equal(left.ranks[name], right.ranks[name])
    assert left.summary == right.summary
    assert left.audit() == right.audit()
    for name in ("clock", "gaps", "kernel_loss", "unknown", "damage", "discarded", "problems"):
        assert getattr(left, name) == getattr(right, name)
    assert left.events_by_cpu == right.events_by_cpu


def test_a_window_is_decoded_with_the_kernel_s_own_counts_beside_it(run: Path) -> None:
    stream = open_window(run, WINDOW)
    assert stream.events > 1000
    assert stream.problems == ()
    assert stream.kernel_loss.overrun == stream.lost == 1054


def test_a_stored_window_loads_equal_and_is_not_decoded_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = open_window(run, WINDOW)
    first = open_window(run, WINDOW, cache=True)
    assert_equal(first, fresh)

    def no_decoding(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(window_module, "decode", no_decoding)
    assert_equal(open_window(run, WINDOW, cache=True), fresh)


def test_parquet_files_say_what_their_columns_are(run: Path) -> None:
    stream = open_window(run, WINDOW, cache=True)
    directory = run / "tables/trace/00-anon"
    table = pq.read_table(directory / "kmem.mm_page_alloc.parquet")
    assert table.num_rows == len(stream["mm_page_alloc"])
    pfn, rank = table.schema.field("pfn"), table.schema.field("rank")
    assert pfn.metadata == {b"unit": b"pages", b"description": b"page frame number, unsigned long"}
    assert rank.metadata[b"unit"] == b"events"
    assert all(b"unit" in field.metadata for field in table.schema)
    assert table.schema.metadata[b"event"] == b"kmem/mm_page_alloc"
    names = {path.name for path in directory.iterdir()}
    assert names == {
        *(f"{name.replace('/', '.')}.parquet" for name in stream),
        *("readings.parquet", "stream.json"),
    }
    order = sorted(
        (rank, name)
        for name in stream
        for rank in pq.read_table(directory / f"{name.replace('/', '.')}.parquet")[
            "rank"
        ].to_pylist()
    )
    merged = stream.merged()
    assert [name for _, name in order] == [merged.names[kind] for kind in merged.kind]


@pytest.mark.parametrize("what", ["ring", "format", "record", "table", "stream.json", "cut"])
def test_a_store_of_something_else_or_damaged_is_made_anew(run: Path, what: str) -> None:
    open_window(run, WINDOW, cache=True)
    store = run / "tables/trace/00-anon"
    if what == "ring":
        path = ring_path(run / WINDOW.trace, 0)
        path.write_bytes(path.read_bytes()[:-PAGE_BYTES])
    elif what == "format":
        path = run / "trace/formats/kmem/mm_page_alloc/format"
        path.write_text(path.read_text().replace("pfn;", "frame;"))
    elif what == "record":
        change(run, lambda record: record.problems.append("something"))
    elif what == "table":
        (store / "kmem.mm_page_free.parquet").unlink()
    elif what == "stream.json":
        (store / "stream.json").write_text('{"digest": ')
    else:
        path = store / "kmem.mm_page_free.parquet"
        path.write_bytes(path.read_bytes()[:-100])
    assert_equal(open_window(run, WINDOW, cache=True), open_window(run, WINDOW))
    assert_equal(open_window(run, WINDOW, cache=True), open_window(run, WINDOW))


def test_a_store_that_cannot_be_written_is_an_error_with_a_way_out(run: Path) -> None:
    (run / "tables").write_text("in the way")
    with pytest.raises(TableError, match="tables/trace/00-anon"):
        open_window(run, WINDOW, cache=True)
    assert open_window(run, WINDOW).events


def _probe(missed: int) -> ProbeRecord:
    return ProbeRecord(
        name="p", function="f", symbol="f", definition="p:mmscope/p f", missed=missed
    )


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda r: setattr(r, "complete", False), "did not drain every ring"),
        (lambda r: r.problems.append("port: damaged"), "port: damaged"),
        (lambda r: setattr(r.cpus[1], "subbuffers", 9), "9 sub-buffers were received"),
        (lambda r: setattr(r.cpus[0], "read_events", 5), "the kernel handed out 5"),
        (lambda r: r.events.append("kmem/gone"), "kmem/gone: was traced, but its format"),
        (lambda r: r.probes.append(_probe(3)), "probe p missed 3 hits"),
        (
            lambda r: r.cpus.append(r.cpus[1].model_copy(update={"cpu": 2})),
            "cpu 2: the ring's file is missing",
        ),
    ],
)
def test_what_speaks_against_a_window_is_said(run: Path, edit: Change, problem: str) -> None:
    change(run, edit)
    stream = open_window(run, WINDOW)
    assert any(problem in text for text in stream.problems)
    assert not stream.is_sound


def test_a_probe_that_missed_nothing_is_no_problem(run: Path) -> None:
    change(run, lambda record: record.probes.append(_probe(0)))
    assert open_window(run, WINDOW).problems == ()


def test_a_ring_that_was_cut_is_damage_and_a_difference_in_counts(run: Path) -> None:
    path = ring_path(run / WINDOW.trace, 1)
    path.write_bytes(path.read_bytes()[:-5000])
    stream = open_window(run, WINDOW)
    assert [damage.cpu for damage in stream.damage] == [1]
    assert any("sub-buffers and" in text for text in stream.problems)
    assert any("the kernel handed out" in text for text in stream.problems)


def test_larger_sub_buffers_than_the_header_file_tells_of(run: Path) -> None:
    """The header file is that of the top-level rings; an instance may have its own size."""

    def double(record: TraceRecord) -> None:
        record.subbuffer_bytes = 2 * PAGE_BYTES
        for cpu in record.cpus:
            cpu.subbuffers //= 2

    whole = open_window(run, WINDOW)
    change(run, double)
    for path in (run / WINDOW.trace).glob("*.ring"):
        ring = path.read_bytes()
        pages = [ring[at : at + PAGE_BYTES] for at in range(0, len(ring), PAGE_BYTES)]
        path.write_bytes(b"".join(page.ljust(2 * PAGE_BYTES, b"\0") for page in pages))
    stream = open_window(run, WINDOW)
    assert stream.events == whole.events
    change(run, lambda record: setattr(record, "subbuffer_bytes", 16))
    with pytest.raises(BundleError, match="16 bytes"):
        open_window(run, WINDOW)


def test_windows_without_what_they_need_are_refused(run: Path) -> None:
    for path in (run / WINDOW.trace).glob("*.ring"):
        path.unlink()
    with pytest.raises(BundleError, match="no ring of any CPU"):
        open_window(run, WINDOW)
    (run / WINDOW.trace / "trace.json").write_text("{}")
    with pytest.raises(RecordError, match=r"trace\.json"):
        open_window(run, WINDOW)
    with pytest.raises(BundleError, match="leads out"):
        open_window(run, WindowRecord(name="x", trace="../x", samples=[]))


def test_formats_are_needed_and_checked(run: Path) -> None:
    path = run / "trace/formats/kmem/mm_page_free/format"
    path.write_text(path.read_text().replace("offset:8;", "offset:eight;"))
    with pytest.raises(ParseError, match="mm_page_free/format:9"):
        open_window(run, WINDOW)
    (run / "trace/formats/header_page").unlink()
    with pytest.raises(BundleError, match="header_page"):
        open_window(run, WINDOW)


def test_an_event_whose_format_was_not_recorded_is_counted(run: Path) -> None:
    whole = open_window(run, WINDOW)
    (run / "trace/formats/kmem/mm_page_free/format").unlink()
    stream = open_window(run, WINDOW)
    assert list(stream.unknown.values()) == [len(whole["mm_page_free"])]
    assert "kmem/mm_page_free: was traced, but its format is not in the run" in stream.problems
    assert stream.events + len(whole["mm_page_free"]) == whole.events
    assert_equal(open_window(run, WINDOW, cache=True), stream)
    assert_equal(open_window(run, WINDOW, cache=True), stream)


def test_a_damaged_window_is_stored_with_its_damage(run: Path) -> None:
    path = ring_path(run / WINDOW.trace, 0)
    ring = bytearray(path.read_bytes())
    ring[PAGE_BYTES + 100] ^= 0xFF
    ring[3 * PAGE_BYTES + 8] ^= 0xFF
    path.write_bytes(ring[:-100])
    stream = open_window(run, WINDOW)
    assert stream.damage
    assert_equal(open_window(run, WINDOW, cache=True), stream)
    assert_equal(open_window(run, WINDOW, cache=True), stream)
