"""The trace reader of the guest, run on the host against a made-up tracefs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from harness.record.frames import Frame, FrameType
from tests.guest_programs import LIMIT_S, Channel, host_programs

PAGE = 4096
HEADER_PAGE = """\
	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:{size};	signed:1;
"""


def page(cpu: int, number: int, size: int = PAGE) -> bytes:
    """A sub-buffer that no other is equal to."""
    head = b"cpu%d page%d " % (cpu, number)
    return head + os.urandom(16) + bytes(size - len(head) - 16)


class Tracefs:
    """An instance two levels below the top, as in the kernel. Rings are fifos, as much like
    trace_pipe_raw as can be had: a read gives a sub-buffer, or says that there is none now."""

    def __init__(self, top: Path, cpus: tuple[int, ...] = (0, 1)) -> None:
        self.top = top
        self.instance = top / "instances" / "mmscope"
        self.rings: dict[int, int] = {}
        for cpu in cpus:
            path = self.instance / f"per_cpu/cpu{cpu}/trace_pipe_raw"
            path.parent.mkdir(parents=True)
            os.mkfifo(path)
            self.rings[cpu] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        (top / "events").mkdir()
        (top / "events/header_page").write_text(HEADER_PAGE.format(size=PAGE - 16))
        (self.instance / "trace_marker").write_text("")
        (self.instance / "tracing_on").write_text("0")

    def close(self) -> None:
        for ring in self.rings.values():
            os.close(ring)

    def put(self, cpu: int, *pages: bytes) -> None:
        for content in pages:
            assert os.write(self.rings[cpu], content) == len(content)

    @property
    def recording(self) -> str:
        return (self.instance / "tracing_on").read_text()

    @property
    def marks(self) -> str:
        return (self.instance / "trace_marker").read_text()


class HostReader:
    """The reader on the host; its port is a socket."""

    def __init__(self, programs: Path, instance: Path, *options: str) -> None:
        self.port = Channel("trace")
        self.process = subprocess.Popen(
            [
                str(programs / "mmscope-trace"),
                *("--instance", str(instance), "--label", "03-anon", "--period-ms", "5"),
                f"--port={self.port.far.fileno()}",
                *options,
            ],
            pass_fds=[self.port.far.fileno()],
            stderr=subprocess.PIPE,
        )
        self.port.far.close()

    def __enter__(self) -> HostReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.port.close()
        try:
            self.process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=LIMIT_S)
            raise
        finally:
            assert self.process.stderr is not None
            self.process.stderr.close()

    def begin(self) -> list[Frame]:
        """Frames up to the one that says that recording is on."""
        return self.port.frames(lambda frame: frame.type is FrameType.MARK)

    def pages(self, count: int) -> list[Frame]:
        """Frames until so many sub-buffers have come."""
        taken: list[Frame] = []
        while sum(len(frame.payload) for frame in taken) < count * PAGE:
            frame = self.port.frames(lambda _: True)[0]
            assert frame.type is FrameType.TRACE_PAGES
            taken.append(frame)
        return taken

    def say(self, line: str) -> None:
        self.port.near.sendall(line.encode() + b"\n")

    def stop(self) -> list[Frame]:
        """Tells it to stop; all frames to the end."""
        self.say("stop 03-anon")
        return self.rest()

    def rest(self) -> list[Frame]:
        frames = self.port.frames(lambda frame: frame.type is FrameType.END)
        assert self.process.wait(timeout=LIMIT_S) == 0
        return frames

    def failure(self) -> str:
        """What it said when it failed: on the port and, the same, on standard error."""
        frames = self.port.frames(lambda frame: frame.type is FrameType.ERROR)
        assert self.process.wait(timeout=LIMIT_S) == 1
        assert self.process.stderr is not None
        said = frames[-1].payload.decode()
        assert self.process.stderr.read().decode() == f"mmscope-trace: {said}\n"
        return said


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_programs(tmp_path_factory.getbasetemp() / "guest-programs")


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Tracefs]:
    tracefs = Tracefs(tmp_path)
    with contextlib.closing(tracefs):
        yield tracefs


def contents(frames: list[Frame]) -> dict[int, bytes]:
    rings: dict[int, bytes] = {}
    for frame in frames:
        if frame.type is FrameType.TRACE_PAGES:
            rings[frame.source] = rings.get(frame.source, b"") + frame.payload
    return rings


def values(frame: Frame) -> dict[str, str]:
    return dict(line.split("=") for line in frame.payload.decode().splitlines())


def test_recording_is_on_when_it_says_so_and_off_at_the_end(
    programs: Path, tracefs: Tracefs
) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        hello, mark = reader.begin()
        assert hello.type is FrameType.HELLO
        described = values(hello)
        assert described["window"] == "03-anon"
        assert described["subbuffer_bytes"] == str(PAGE)
        assert described["cpus"] == "2"
        assert mark.payload == b"mmscope begin 03-anon"
        assert tracefs.recording == "1"
        assert tracefs.marks == "mmscope begin 03-anon"
        frames = reader.stop()
    assert tracefs.recording == "0"
    assert tracefs.marks == "mmscope begin 03-anonmmscope end 03-anon"
    assert [frame.payload for frame in frames if frame.type is FrameType.MARK] == [
        b"mmscope end 03-anon"
    ]
    end = values(frames[-1])
    assert (end["cpu0"], end["cpu1"], end["backlog_max"]) == ("0", "0", "0")
    assert frames[-1].seq == 0


def test_sub_buffers_are_sent_whole_and_per_cpu_while_it_runs(
    programs: Path, tracefs: Tracefs
) -> None:
    zero = [page(0, number) for number in range(3)]
    one = [page(1, number) for number in range(2)]
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        before_ns = time.monotonic_ns()
        tracefs.put(0, *zero)
        tracefs.put(1, *one)
        frames = reader.pages(5)
        after_ns = time.monotonic_ns()
        frames += reader.stop()
    assert contents(frames) == {0: b"".join(zero), 1: b"".join(one)}
    sent = [frame for frame in frames if frame.type is FrameType.TRACE_PAGES]
    assert [frame.seq for frame in sent] == list(range(len(sent)))
    assert all(before_ns < frame.start_ns <= frame.end_ns < after_ns for frame in sent)
    end = values(frames[-1])
    assert (end["cpu0"], end["cpu1"]) == ("3", "2")
    assert frames[-1].seq == len(sent)


@pytest.mark.parametrize("how", ["line", "signal"])
def test_what_is_in_the_rings_at_the_end_is_drained(
    programs: Path, tracefs: Tracefs, how: str
) -> None:
    left = [page(1, number) for number in range(9)]
    with HostReader(programs, tracefs.instance, "--period-ms", "10000") as reader:
        reader.begin()
        # It sleeps for ten seconds now: only the end can wake it.
        time.sleep(0.1)
        tracefs.put(1, *left)
        if how == "line":
            frames = reader.stop()
        else:
            reader.process.send_signal(signal.SIGTERM)
            frames = reader.rest()
    assert contents(frames) == {1: b"".join(left)}
    assert values(frames[-1])["backlog_max"] == "9"


def test_more_than_a_frame_holds_is_sent_in_several(programs: Path, tracefs: Tracefs) -> None:
    ring = tracefs.instance / "per_cpu/cpu0/trace_pipe_raw"
    ring.unlink()
    content = b"".join(page(0, number) for number in range(600))
    ring.write_bytes(content)
    with HostReader(programs, tracefs.instance) as reader:
        # More than the socket holds: the reader waits for us, and goes on.
        time.sleep(0.2)
        frames = reader.begin() + reader.stop()
    sent = [frame for frame in frames if frame.type is FrameType.TRACE_PAGES]
    assert [len(frame.payload) // PAGE for frame in sent] == [256, 256, 88]
    assert contents(frames) == {0: content}
    assert values(frames[-1])["cpu0"] == "600"


def test_cpus_are_taken_in_order_and_their_own_numbers_kept(programs: Path, tmp_path: Path) -> None:
    tracefs = Tracefs(tmp_path, cpus=(10, 2, 0))
    with contextlib.closing(tracefs), HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        for cpu in (10, 2, 0):
            tracefs.put(cpu, page(cpu, 0))
        frames = reader.pages(3) + reader.stop()
    assert sorted(contents(frames)) == [0, 2, 10]
    assert [name for name in values(frames[-1]) if name.startswith("cpu")] == [
        "cpu0",
        "cpu2",
        "cpu10",
    ]


@pytest.mark.parametrize(
    ("instance_kb", "header_data", "expected"),
    [(None, 4080, 4096), (None, 65520, 65536), ("8", 4080, 8192), ("4", 1, 4096)],
)
def test_the_size_of_sub_buffers_is_the_instances_own(
    programs: Path,
    tracefs: Tracefs,
    instance_kb: str | None,
    header_data: int,
    expected: int,
) -> None:
    (tracefs.top / "events/header_page").write_text(HEADER_PAGE.format(size=header_data))
    if instance_kb:
        (tracefs.instance / "buffer_subbuf_size_kb").write_text(instance_kb + "\n")
    with HostReader(programs, tracefs.instance) as reader:
        assert values(reader.begin()[0])["subbuffer_bytes"] == str(expected)
        reader.stop()


def test_a_mark_is_in_the_trace_when_it_is_answered(programs: Path, tracefs: Tracefs) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        for text in ("first half", "second half"):
            reader.say(f"mark 03-anon {text}")
            assert reader.begin()[-1].payload == text.encode()
            assert tracefs.marks.endswith(text)
        for line in ("dance", "stop", "mark 03-anon"):
            reader.say(line)
            answer = reader.port.frames(lambda frame: frame.type is FrameType.ERROR)[-1]
            assert answer.payload.decode() == f"no such request: {line.split()[0]}"
        reader.stop()


def test_what_another_windows_reader_did_not_hear_is_not_meant_for_this(
    programs: Path, tracefs: Tracefs
) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.say("mark 02-anon too late")
        reader.say("stop 02-anon")
        reader.begin()
        reader.say("mark 03-anon in time")
        assert reader.begin()[-1].payload == b"in time"
        reader.stop()


def test_requests_may_come_in_pieces_and_several_at_once(programs: Path, tracefs: Tracefs) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        reader.port.near.sendall(b"mark 03-anon on")
        time.sleep(0.05)
        reader.port.near.sendall(b"e\nmark 03-anon two\nst")
        assert [reader.begin()[-1].payload for _ in range(2)] == [b"one", b"two"]
        reader.say("op 03-anon")
        reader.rest()


def test_an_endless_request_is_dropped(programs: Path, tracefs: Tracefs) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        reader.port.near.sendall(b"x" * 512)
        time.sleep(0.05)
        reader.stop()


def test_it_ends_with_its_host(programs: Path, tracefs: Tracefs) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        reader.port.close()
        assert reader.process.wait(timeout=LIMIT_S) == 1
    assert tracefs.recording == "0"


def test_a_read_that_is_no_sub_buffer_is_an_error(programs: Path, tracefs: Tracefs) -> None:
    with HostReader(programs, tracefs.instance) as reader:
        reader.begin()
        tracefs.put(1, page(1, 0)[:100])
        assert reader.failure() == "per_cpu/cpu1/trace_pipe_raw: Input/output error"


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("per_cpu/cpu1/trace_pipe_raw", "No such file or directory"),
        ("trace_marker", "No such file or directory"),
        ("tracing_on", "No such file or directory"),
        ("../../events/header_page", "No such file or directory"),
    ],
)
def test_what_the_instance_lacks_is_named(
    programs: Path, tracefs: Tracefs, missing: str, reason: str
) -> None:
    (tracefs.instance / missing).unlink()
    with HostReader(programs, tracefs.instance) as reader:
        assert reader.failure() == f"{tracefs.instance}/{missing}: {reason}"


def test_a_senseless_size_is_refused(programs: Path, tracefs: Tracefs) -> None:
    (tracefs.instance / "buffer_subbuf_size_kb").write_text("3\n")
    with HostReader(programs, tracefs.instance) as reader:
        assert reader.failure().endswith("buffer_subbuf_size_kb: Invalid argument")
    assert tracefs.recording == "0"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--instance", "/x"],
        ["--instance", "/x", "--label", "w", "--period-ms", "0"],
        ["--instance", "/x", "--label", "w", "--period-ms", "10001"],
        ["--instance", "/x", "--label", "w", "--port", "x"],
        ["--instance", "/x", "--label", "w", "more"],
        ["--unknown"],
    ],
)
def test_bad_arguments_end_it_with_status_2(programs: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [str(programs / "mmscope-trace"), *arguments], capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"mmscope-trace: ") or b"unrecognized" in done.stderr
