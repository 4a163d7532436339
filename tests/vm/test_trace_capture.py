"""Tracing real guests: nothing lost, nothing cut, and the tracer itself not in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.trace import EventStream, open_window
from harness.cli.prepare import Prepared, bare_spec
from harness.machine.spec import NodeSpec
from harness.record.manifest import WindowRecord
from harness.record.rundir import RunDirectory
from harness.record.trace import TraceRecord, formats_path, ring_path
from harness.sampling.trace import TraceSession
from harness.sampling.trace.events import EVENTS
from harness.sampling.trace.instance import INSTANCE, TRACEFS
from harness.sampling.trace.probes import ALWAYS, GROUPS
from harness.sampling.trace.symbols import probes_of
from harness.session.guest import Guest
from tests.vm.conftest import ARCHES, MIB

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module", params=ARCHES)
def traced(
    request: pytest.FixtureRequest,
    prepared: Callable[[str], Prepared],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guest]:
    """A plain guest of two CPUs, one for all tests of an architecture."""
    spec = bare_spec(prepared(request.param), (NodeSpec(size_bytes=512 * MIB, cpus=(0, 1)),))
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "traced")
    with Guest(spec, run) as guest:
        yield guest


def shell(guest: Guest, script: str) -> str:
    done = guest.agent.run(["sh", "-c", script])
    assert done.status == 0, done.stderr
    return done.stdout.decode()


def fill(size_mib: int) -> str:
    """A script that takes so much memory page by page, and gives it back."""
    copy = f"busybox dd if=/dev/zero of=/dev/shm/file bs=1048576 count={size_mib}"
    return f"{copy} 2>/dev/null && rm /dev/shm/file"


def opened(run: RunDirectory, window: str) -> EventStream:
    """The window decoded, with nothing that speaks against it."""
    stream = open_window(run.path, WindowRecord(name=window, trace=f"trace/{window}", samples=[]))
    assert stream.problems == ()
    assert stream.damage == ()
    assert stream.is_sound
    return stream


def assert_whole(run: RunDirectory, record: TraceRecord) -> None:
    assert record.complete, record.problems
    assert record.problems == []
    assert record.lost_by_kernel == 0
    path = run.trace_path / record.window
    for cpu in record.cpus:
        size_bytes = ring_path(path, cpu.cpu).stat().st_size
        assert size_bytes == cpu.subbuffers * record.subbuffer_bytes
    formats = formats_path(path)
    set_probes = [probe.name for probe in record.probes if probe.symbol and not probe.error]
    for name in (*record.events, *(f"mmscope/{probe}" for probe in set_probes), "ftrace/print"):
        assert (formats / name / "format").read_text().startswith(f"name: {name.split('/')[1]}\n")


def test_a_load_is_traced_without_loss(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run, groups=GROUPS) as trace:
        trace.begin("00-load")
        shell(traced, fill(64))
        trace.mark("loaded")
        record = trace.end()
    assert_whole(run, record)
    assert {*record.events, *record.events_missing} == set(EVENTS)
    assert [probe.name for probe in record.probes] == [probe.name for probe in probes_of(GROUPS)]
    assert [probe.name for probe in record.probes if probe.error] == []
    stream = opened(run, "00-load")
    # 64 MiB of page cache, allocated and freed page by page.
    for name in ("kmem/mm_page_alloc", "mmscope/alloc_pages", "mmscope/get_page_from_freelist"):
        assert len(stream.arrays[name]) > 64 * MIB // 4096
    marks = stream.arrays["ftrace/print"]["buf"].tolist()
    assert [mark.strip() for mark in marks] == [
        b"mmscope begin 00-load",
        b"loaded",
        b"mmscope end 00-load",
    ]


def test_the_tracer_allocates_nothing_while_it_runs(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run) as trace:
        trace.begin("00-load")
        shell(traced, fill(32))
        trace.end()
    stream = opened(run, "00-load")
    reader = int(stream.arrays["ftrace/print"]["pid"][0])
    allocations = stream.arrays["kmem/mm_page_alloc"]
    assert len(allocations) > 32 * MIB // 4096
    # A slab of the port's buffers now and then, if the host is slow to take them.
    assert int((allocations["pid"] == reader).sum()) <= 16


def test_compaction_shows_in_the_probes(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run, groups=("exact",)) as trace:
        trace.begin("00-compaction")
        shell(
            traced,
            "cd /dev/shm && for i in 1 2 3 4 5 6 7 8; do"
            " busybox dd if=/dev/zero of=$i bs=1048576 count=8 2>/dev/null || exit 1; done;"
            " rm 1 3 5 7; echo 1 > /proc/sys/vm/compact_memory; rm 2 4 6 8",
        )
        record = trace.end()
    assert_whole(run, record)
    stream = opened(run, "00-compaction")
    taken = stream.arrays["mmscope/isolate_free_page"]
    given = stream.arrays["mmscope/isolate_free_page_return"]
    assert len(taken) == len(given) > 0
    assert set(given["taken"].tolist()) <= {0, *(1 << order for order in range(11))}
    assert all(probe.missed in (0, None) for probe in record.probes)


def test_a_second_session_on_the_same_guest(traced: Guest, tmp_path: Path) -> None:
    """Its events may be numbered anew; its window is read all the same."""
    run = RunDirectory(tmp_path)
    for window, groups in (("00-one", ALWAYS), ("01-two", ("numa", "exact"))):
        with TraceSession(traced, run, groups=groups) as trace:
            trace.begin(window)
            shell(traced, "true")
            assert_whole(run, trace.end())
        assert opened(run, window).unknown == {}
    names = set(opened(run, "01-two").arrays)
    assert "mmscope/alloc_pages" in names


def test_a_window_may_leave_probes_out(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run, groups=GROUPS) as trace:
        for window, groups in (("00-few", ALWAYS), ("01-all", GROUPS), ("02-few", ALWAYS)):
            trace.begin(window, groups=groups)
            shell(traced, "true")
            record = trace.end()
            assert {probe.name for probe in record.probes} == {
                probe.name for probe in probes_of(groups)
            }
    hits = [len(opened(run, w).arrays.get("mmscope/alloc_pages", ())) for w in ("00-few", "01-all")]
    assert hits[0] == 0
    assert hits[1] > 0
    assert "mmscope/alloc_pages" not in opened(run, "02-few").arrays


def test_loss_is_counted_where_the_ring_is_too_small(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run, buffer_kb=64, period_ms=2000) as trace:
        trace.begin("00-load")
        shell(traced, fill(64))
        record = trace.end()
    assert record.complete
    assert record.lost_by_kernel > 1000
    assert any("events lost" in problem for problem in record.problems)
    window = WindowRecord(name="00-load", trace="trace/00-load", samples=[])
    stream = open_window(run.path, window)
    assert not stream.is_sound


def test_a_reader_killed_in_the_guest_is_told(traced: Guest, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with TraceSession(traced, run) as trace:
        trace.begin("00-load")
        shell(traced, "busybox killall -9 mmscope-trace")
        record = trace.end()
        assert not record.complete
        assert "reader: ended with status 137" in record.problems
        trace.begin("01-load")
        assert_whole(run, trace.end())


def test_nothing_is_left_behind(traced: Guest, tmp_path: Path) -> None:
    with TraceSession(traced, RunDirectory(tmp_path)) as trace:
        trace.begin("00-nothing")
        assert shell(traced, f"cat {INSTANCE}/trace_clock").count("[counter]") == 1
        trace.end()
    shell(traced, f"[ ! -d {INSTANCE} ]")
    assert shell(traced, f"cat {TRACEFS}/kprobe_events") == ""
    assert shell(traced, "busybox pidof mmscope-trace || true") == ""
