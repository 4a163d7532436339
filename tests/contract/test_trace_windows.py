"""Windows that go well and windows that do not: what the record says of each.

The reader is the guest's own, run on the host against files in place of rings; where the wire
itself is to be broken, its bytes are made here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.deadline import StallClock
from harness.errors import LostMachineError, RecordError, SessionError
from harness.record.frames import Frame, FrameType
from harness.record.rundir import RunDirectory
from harness.record.trace import TraceRecord, formats_path, read_trace_record, ring_path
from harness.sampling.trace import Preparation, TraceSession
from harness.sampling.trace.instance import INSTANCE, TRACEFS, Setup
from harness.sampling.trace.symbols import PlannedProbe
from harness.session.agent import ReadResult
from harness.session.protocol import CommandResult, Output
from tests.guest_programs import host_programs

PAGE = 4096
LIMIT_S = 20.0
Wire = Callable[[socket.socket], int]
"""Writes what a reader might to the port; its exit status."""


class HostGuest:
    """Agent, vitals and machine of a guest that is not there."""

    def __init__(self, program: Path, top: Path) -> None:
        self.trace, self.far = socket.socketpair()
        self.program = program
        self.instance = top / "instances" / "mmscope"
        self.hello = {"release": "6.1.0-56-amd64"}
        self.wire: Wire | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.stats = {0: [0, 0, 0, 0], 1: [0, 0, 0, 0]}
        """CPU → overrun, commit overrun, dropped, read."""
        self.missed = 0
        self.lost = False
        self.scripts: list[str] = []
        for cpu in self.stats:
            (self.instance / f"per_cpu/cpu{cpu}").mkdir(parents=True)
            self.ring(cpu).write_bytes(b"")
        (self.instance / "buffer_subbuf_size_kb").write_text("4\n")
        (self.instance / "trace_marker").write_text("")
        (self.instance / "tracing_on").write_text("0")

    @property
    def agent(self) -> HostGuest:
        return self

    @property
    def vitals(self) -> HostGuest:
        return self

    @property
    def machine(self) -> HostGuest:
        return self

    def ring(self, cpu: int) -> Path:
        return self.instance / f"per_cpu/cpu{cpu}/trace_pipe_raw"

    def add_pulse(self, counter: Callable[[], int]) -> None:
        assert counter() == 0

    def check(self, doing: str) -> None:
        if self.lost:
            raise LostMachineError(f"QEMU ended while {doing}")

    def pulse(self) -> int:
        return 0

    def standing(self) -> dict[str, str]:
        return {}

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """Runs the reader; a shell script is noted down."""
        if argv[0] != "mmscope-trace":
            self.scripts.append(argv[-1])
            return self._result(argv, 0)
        if self.wire is not None:
            return self._result(argv, self.wire(self.far))
        words = [word.replace(INSTANCE, str(self.instance)) for word in argv[1:]]
        assert clock is not None
        self.process = subprocess.Popen(
            [str(self.program), *words, f"--port={self.far.fileno()}"],
            pass_fds=[self.far.fileno()],
            stderr=subprocess.PIPE,
        )
        with self.process:
            while self.process.poll() is None:
                time.sleep(0.01)
                if self.lost or clock.expired:
                    self.process.kill()
            assert self.process.stderr is not None
            said = self.process.stderr.read()
        status = self.process.returncode
        if self.lost:
            raise LostMachineError("QEMU ended while running 'mmscope-trace'")
        return self._result(argv, status if status >= 0 else 128 - status, said)

    def _result(self, argv: Sequence[str], status: int, stderr: bytes = b"") -> CommandResult:
        return CommandResult(argv=tuple(argv), status=status, stdout=b"", stderr=stderr, wall_s=0)

    def read(self, patterns: Sequence[str]) -> ReadResult:
        self.check("asking read")
        files = {f"{TRACEFS}/kprobe_profile": f"  free_one_page  9  {self.missed}\n".encode()}
        for cpu, (overrun, commit, dropped, read) in self.stats.items():
            files[f"{INSTANCE}/per_cpu/cpu{cpu}/stats"] = (
                f"entries: 0\noverrun: {overrun}\ncommit overrun: {commit}\n"
                f"dropped events: {dropped}\nread events: {read}\n"
            ).encode()
        return ReadResult(files=files, errors=())


PREPARATION = Preparation(
    groups=("exact", "numa"),
    planned=(
        PlannedProbe(
            name="free_one_page", function="free_one_page", symbol="free_one_page", definition="p:"
        ),
        PlannedProbe(
            name="split_free_page", function="split_free_page", symbol=None, definition=""
        ),
        PlannedProbe(
            name="alloc_pages", function="__alloc_pages", symbol="__alloc_pages", definition="p:"
        ),
    ),
    setup=Setup(
        events=("kmem/mm_page_alloc",),
        events_missing=("cma/cma_release",),
        probe_errors={"alloc_pages": "Invalid argument"},
        buffer_kb=8194,
        options_missing=(),
    ),
    set_probes=("free_one_page",),
    formats={"header_page": b"page\n", "kmem/mm_page_alloc/format": b"format\n"},
)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_programs(tmp_path_factory.getbasetemp() / "guest-programs") / "mmscope-trace"


@pytest.fixture
def guest(program: Path, tmp_path: Path) -> Iterator[HostGuest]:
    guest = HostGuest(program, tmp_path / "tracefs")
    yield guest
    if guest.process is not None and guest.process.poll() is None:
        guest.process.kill()
        guest.process.wait(timeout=LIMIT_S)
    guest.far.close()
    guest.trace.close()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """For readers that will say no last words."""
    monkeypatch.setattr("harness.sampling.trace.session._LAST_WORDS_S", 0.2)


@contextlib.contextmanager
def session(guest: HostGuest, run: RunDirectory) -> Iterator[TraceSession]:
    with TraceSession.on_clone(guest, run, PREPARATION, period_ms=5) as trace:
        yield trace


def record_of(run: RunDirectory, window: str = "03-anon") -> TraceRecord:
    return read_trace_record(run.trace_path / window)


def frame(kind: FrameType, payload: bytes, *, source: int = 0, seq: int = 0) -> bytes:
    return Frame(type=kind, payload=payload, source=source, seq=seq).encode()


OPENING = frame(FrameType.HELLO, b"subbuffer_bytes=4096\ncpus=2\n") + frame(
    FrameType.MARK, b"mmscope begin 03-anon"
)


def wired(*parts: bytes, status: int = 0) -> Wire:
    """A reader that says OPENING, and the rest when it is told to stop."""

    def write(port: socket.socket) -> int:
        port.sendall(OPENING)
        port.settimeout(LIMIT_S)
        assert port.recv(100) in (b"stop 03-anon\n", b"stop 04-anon\n")
        for part in parts:
            port.sendall(part)
        return status

    return write


def test_a_window_is_whole(guest: HostGuest, run: RunDirectory) -> None:
    content = os.urandom(3 * PAGE)
    guest.ring(1).write_bytes(content)
    with session(guest, run) as trace:
        assert trace.begin("03-anon") == "trace/03-anon"
        guest.stats[1] = [0, 0, 0, 120]
        guest.missed = 7
        trace.check()
        trace.mark("half time")
        record = trace.end()
    assert record == record_of(run)
    assert record.complete
    assert record.problems == []
    assert record.lost_by_kernel == 0
    assert (record.window, record.clock) == ("03-anon", "counter")
    assert (record.subbuffer_bytes, record.buffer_kb) == (PAGE, 8194)
    assert record.events == ["kmem/mm_page_alloc"]
    assert record.events_missing == ["cma/cma_release"]
    assert [(cpu.cpu, cpu.subbuffers, cpu.read_events) for cpu in record.cpus] == [
        (0, 0, 0),
        (1, 3, 120),
    ]
    window = run.trace_path / "03-anon"
    assert ring_path(window, 0).read_bytes() == b""
    assert ring_path(window, 1).read_bytes() == content
    assert (formats_path(window) / "kmem/mm_page_alloc/format").read_bytes() == b"format\n"
    marks = (guest.instance / "trace_marker").read_text()
    assert marks == "mmscope begin 03-anonhalf timemmscope end 03-anon"


def test_a_probe_is_never_dropped_from_the_record(guest: HostGuest, run: RunDirectory) -> None:
    with session(guest, run) as trace:
        trace.begin("03-anon")
        guest.missed = 7
        probes = {probe.name: probe for probe in trace.end().probes}
    assert (probes["free_one_page"].symbol, probes["free_one_page"].missed) == ("free_one_page", 7)
    assert (probes["split_free_page"].symbol, probes["split_free_page"].missed) == (None, None)
    assert probes["alloc_pages"].error == "Invalid argument"


def test_counts_are_those_of_the_window(guest: HostGuest, run: RunDirectory) -> None:
    guest.stats = {0: [5, 1, 2, 100]}
    guest.missed = 3
    with session(guest, run) as trace:
        trace.begin("03-anon")
        guest.stats = {0: [5, 1, 2, 250], 1: [0, 0, 0, 9]}
        record = trace.end()
    assert [(cpu.cpu, cpu.overrun, cpu.read_events) for cpu in record.cpus] == [
        (0, 0, 150),
        (1, 0, 9),
    ]
    assert record.probes[0].missed == 0


def test_windows_follow_each_other(guest: HostGuest, run: RunDirectory) -> None:
    for number, window in enumerate(("00-null", "01-anon", "02-null")):
        # A session of its own for each, or not.
        guest.ring(0).write_bytes(bytes([number]) * PAGE)
        with session(guest, run) as trace:
            for again in ("", "-again"):
                trace.begin(window + again)
                assert trace.end().complete
    assert ring_path(run.trace_path / "02-null", 0).read_bytes() == bytes([2]) * PAGE
    assert [path.name for path in run.trace_path.glob("*/formats")] == []
    assert (run.trace_path / "formats/header_page").is_file()


def test_a_window_with_fewer_probes(guest: HostGuest, run: RunDirectory) -> None:
    with session(guest, run) as trace:
        trace.begin("00-null", groups=("numa",))
        record = trace.end()
        assert [probe.name for probe in record.probes] == ["alloc_pages"]
        (switched,) = guest.scripts
        assert f"echo 0 > {INSTANCE}/events/mmscope/free_one_page/enable" in switched
        with pytest.raises(SessionError, match="defines no probes of limit"):
            trace.begin("01-anon", groups=("exact", "limit"))


def test_formats_that_differ_are_kept_with_their_window(
    guest: HostGuest, run: RunDirectory
) -> None:
    other = run.trace_path / "formats/header_page"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another kernel's\n")
    with session(guest, run) as trace:
        trace.begin("03-anon")
        trace.end()
    assert other.read_bytes() == b"another kernel's\n"
    window = run.trace_path / "03-anon"
    assert formats_path(window) == window / "formats"
    assert (window / "formats/header_page").read_bytes() == b"page\n"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_loss_in_the_kernel_is_told(guest: HostGuest, run: RunDirectory, which: int) -> None:
    with session(guest, run) as trace:
        trace.begin("03-anon")
        guest.stats[1][which] = 17
        record = trace.end()
    assert record.complete  # what was in the rings is all here
    assert record.lost_by_kernel == 17
    assert record.problems == ["cpu1: 17 events lost before they could be read"]


def test_a_reader_that_is_killed_is_told(guest: HostGuest, run: RunDirectory, brief: None) -> None:
    guest.ring(0).write_bytes(bytes(PAGE))
    with session(guest, run) as trace:
        trace.begin("03-anon")
        assert guest.process is not None
        guest.process.send_signal(signal.SIGKILL)
        end_s = time.monotonic() + LIMIT_S
        said = ""
        while not said and time.monotonic() < end_s:
            try:
                trace.check()
            except SessionError as error:
                said = error.message
        assert said == "the trace of 03-anon is broken: the reader ended with status 137"
        with pytest.raises(SessionError, match="the reader is gone"):
            trace.mark("too late")
        record = trace.end()
        assert not record.complete
        assert "reader: it ended before the window did" in record.problems
        assert "reader: ended with status 137" in record.problems
        assert "reader: it did not say that it read the rings to their end" in record.problems
        # The next window is none the worse for it, whatever of the last is still on the wire.
        trace.begin("04-anon")
        assert trace.end().complete


def test_a_reader_that_fails_says_why(guest: HostGuest, run: RunDirectory, brief: None) -> None:
    with session(guest, run) as trace:
        trace.begin("03-anon")
        guest.ring(1).write_bytes(b"not a sub-buffer")
        record = trace.end()
    assert not record.complete
    said = "per_cpu/cpu1/trace_pipe_raw: Input/output error"
    assert f"reader: {said}" in record.problems
    assert f"reader: ended with status 1: mmscope-trace: {said}" in record.problems


def test_a_reader_that_does_not_start(guest: HostGuest, run: RunDirectory) -> None:
    (guest.instance / "trace_marker").unlink()
    with session(guest, run) as trace:
        with pytest.raises(SessionError, match=r"not start: ended with status 1: .*trace_marker"):
            trace.begin("03-anon")
        assert not record_of(run).complete
        (guest.instance / "trace_marker").write_text("")
        trace.begin("04-anon")
        assert trace.end().complete


PAGES = frame(FrameType.TRACE_PAGES, bytes(2 * PAGE), source=1)
END = frame(FrameType.END, b"cpu0=0\ncpu1=2\n", seq=1)
CUT = f"trace port: damaged at byte {len(OPENING)}: ends inside a frame"
NO_END = "reader: it did not say that it read the rings to their end"


@pytest.mark.parametrize(
    ("parts", "problems"),
    [
        ((PAGES, END), []),
        ((PAGES,), [NO_END]),
        ((PAGES[:-1],), [f"{CUT} ({len(PAGES) - 1} bytes left over)", NO_END]),
        ((PAGES[:20],), [f"{CUT} (20 bytes left over)", NO_END]),
        ((END,), ["trace port: 0 of 1 frames came", "trace port: 0 of 2 sub-buffers of cpu1 came"]),
        (
            (PAGES, PAGES, END),
            [
                "trace port: frame 0 came where 1 was due",
                "trace port: 2 of 1 frames came",
                "trace port: 4 of 2 sub-buffers of cpu1 came",
            ],
        ),
        (
            (frame(FrameType.TRACE_PAGES, bytes(100), source=1), END),
            [
                "trace port: 100 bytes of cpu1 are not whole sub-buffers of 4096 bytes",
                "trace port: 0 of 1 frames came",
                "trace port: 0 of 2 sub-buffers of cpu1 came",
            ],
        ),
        (
            (PAGES, frame(FrameType.SAMPLE, b""), END),
            ["trace port: an unexpected SAMPLE frame"],
        ),
        (
            (PAGES, frame(FrameType.ERROR, b"oh"), END),
            ["reader: oh"],
        ),
    ],
    ids=["whole", "no end", "cut", "cut early", "lost", "twice", "ragged", "foreign", "complaint"],
)
def test_what_the_stream_lacks_is_told(
    guest: HostGuest,
    run: RunDirectory,
    parts: tuple[bytes, ...],
    problems: list[str],
    brief: None,
) -> None:
    guest.wire = wired(*parts)
    with session(guest, run) as trace:
        trace.begin("03-anon")
        record = trace.end()
        assert record.problems == problems
        assert record.complete == (not problems)
        guest.wire = wired(PAGES, END)
        trace.begin("04-anon")
        assert trace.end().complete


@pytest.mark.parametrize("place", [0, 4, 36, 40, 41 + PAGE])
def test_a_flipped_bit_is_told(guest: HostGuest, run: RunDirectory, place: int) -> None:
    damaged = bytearray(PAGES)
    damaged[place] ^= 0x10
    guest.wire = wired(PAGES, bytes(damaged), END)
    with session(guest, run) as trace:
        trace.begin("03-anon")
        record = trace.end()
    assert not record.complete
    assert record.problems[0].startswith(f"trace port: damaged at byte {len(OPENING + PAGES)}: ")
    assert record.cpus[1].subbuffers == 2  # what came before is kept


def test_a_guest_that_is_lost_leaves_a_record(guest: HostGuest, run: RunDirectory) -> None:
    guest.ring(0).write_bytes(bytes(2 * PAGE))
    with session(guest, run) as trace:
        trace.begin("03-anon")
        guest.lost = True
        with pytest.raises(LostMachineError):
            trace.end()
    record = record_of(run)
    assert not record.complete
    assert record.cpus == []
    assert any("QEMU ended" in problem for problem in record.problems)
    assert ring_path(run.trace_path / "03-anon", 0).stat().st_size == 2 * PAGE


def break_off(guest: HostGuest, run: RunDirectory, error: BaseException) -> None:
    with session(guest, run) as trace:
        trace.begin("03-anon")
        raise error


def test_a_run_that_is_broken_off_leaves_a_record(guest: HostGuest, run: RunDirectory) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(guest, run, KeyboardInterrupt())
    assert "the run was broken off" in record_of(run).problems
    assert guest.process is not None
    guest.process.wait(timeout=LIMIT_S)


def test_an_error_within_a_window_ends_it_in_order(guest: HostGuest, run: RunDirectory) -> None:
    guest.ring(0).write_bytes(bytes(PAGE))
    with pytest.raises(ZeroDivisionError):
        break_off(guest, run, ZeroDivisionError())
    assert record_of(run).complete


def test_windows_do_not_overlap_nor_overwrite(guest: HostGuest, run: RunDirectory) -> None:
    with session(guest, run) as trace:
        for call in (trace.end, trace.check, lambda: trace.mark("x")):
            with pytest.raises(SessionError, match="no window is open"):
                call()
        trace.begin("03-anon")
        with pytest.raises(SessionError, match="window 03-anon is still open"):
            trace.begin("04-anon")
        trace.end()
        with pytest.raises(RecordError, match="03-anon"):
            trace.begin("03-anon")


def test_a_closed_port_ends_the_wait(guest: HostGuest, run: RunDirectory) -> None:
    gone = threading.Event()

    def hang_up(port: socket.socket) -> int:
        port.sendall(OPENING)
        port.shutdown(socket.SHUT_RDWR)
        assert gone.wait(LIMIT_S)
        return 1

    guest.wire = hang_up
    with session(guest, run) as trace:
        trace.begin("03-anon")
        record = trace.end()
        gone.set()
    assert "trace port: it was closed while the reader was at work" in record.problems
    assert not record.complete
