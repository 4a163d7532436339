"""The sampler of the guest, run on the host against a made-up /proc and /sys."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.record.frames import Frame, FrameType
from tests.guest_programs import HostAgent, host_programs

DENSE_BEFORE = ["buddyinfo", "zoneinfo", "unusable_index", "extfrag_index", "buddyinfo.after"]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_programs(tmp_path_factory.getbasetemp() / "guest-programs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of two nodes, kswapd on both, kcompactd on one, and no pressure files."""
    files = {
        "proc/buddyinfo": "buddy 0\n",
        "proc/pagetypeinfo": "types\n",
        "proc/zoneinfo": "zones\n" * 1000,
        "proc/slabinfo": "slabs\n",
        "proc/vmstat": "nr_free_pages 1\n",
        "proc/meminfo": "MemFree: 1 kB\n",
        "sys/kernel/debug/extfrag/unusable_index": "unusable\n",
        "sys/kernel/debug/extfrag/extfrag_index": "extfrag\n",
        "proc/1/comm": "init\n",
        "proc/self/comm": "kswapd9\n",
    }
    for pid, name in ((31, "kswapd1"), (30, "kswapd0"), (40, "kcompactd0"), (50, "kswapd")):
        files[f"proc/{pid}/comm"] = f"{name}\n"
        for kind in ("stat", "schedstat", "status"):
            files[f"proc/{pid}/{kind}"] = f"{name} {kind}\n"
    for node in (0, 1):
        for kind in ("vmstat", "numastat", "meminfo"):
            files[f"sys/devices/system/node/node{node}/{kind}"] = f"{node} {kind}\n"
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def names_of(opening: list[Frame]) -> dict[int, str]:
    return {f.source: f.payload.decode() for f in opening if f.type is FrameType.SOURCE}


def sampled(frames: list[Frame], names: dict[int, str]) -> list[str]:
    return [names[frame.source] for frame in frames if frame.type is FrameType.SAMPLE]


def test_sources_are_announced_in_order_and_missing_ones_reported(
    programs: Path, root: Path
) -> None:
    with HostAgent(programs, root) as agent:
        assert agent.ask("sample-start", "0", "0")[0] == 0
        assert agent.ask("sample-stop")[0] == 0
        frames = agent.stream.frames(lambda f: f.type is FrameType.END)
    assert frames[0].type is FrameType.HELLO
    assert list(names_of(frames).values()) == [
        "buddyinfo",
        "pagetypeinfo",
        "zoneinfo",
        "unusable_index",
        "extfrag_index",
        "buddyinfo.after",
        "slabinfo",
        "vmstat",
        "meminfo",
        *(f"node{node}/{kind}" for node in (0, 1) for kind in ("vmstat", "numastat", "meminfo")),
        *(
            f"{thread}/{kind}"
            for thread in ("kswapd0", "kswapd1", "kcompactd0")
            for kind in ("stat", "schedstat", "status")
        ),
    ]
    assert len(set(names_of(frames))) == len(names_of(frames))
    errors = [frame.payload.decode() for frame in frames if frame.type is FrameType.ERROR]
    assert errors == [
        f"pressure/{kind}: No such file or directory" for kind in ("memory", "cpu", "io")
    ]
    assert frames[-1].payload.startswith(b"rounds=0\nmissed_ticks=0\n")


def test_a_marked_round_is_full_and_written_before_it_is_answered(
    programs: Path, root: Path
) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        before_ns = time.monotonic_ns()
        assert agent.ask("mark", "pktring/1/take/64/5") == (0, [])
        after_ns = time.monotonic_ns()
        frames = agent.round()
    names = names_of(frames)
    mark = next(index for index, f in enumerate(frames) if f.type is FrameType.MARK)
    first = frames[mark + 1 :]
    assert frames[mark].payload == b"pktring/1/take/64/5"
    assert sampled(first, names) == list(names.values())
    assert {frame.seq for frame in frames[mark:]} == {0}
    assert all(before_ns < f.start_ns <= f.end_ns < after_ns for f in frames[mark:])
    starts = [frame.start_ns for frame in first if frame.type is FrameType.SAMPLE]
    assert starts == sorted(starts)
    content = {names[f.source]: f.payload for f in first if f.type is FrameType.SAMPLE}
    assert content["zoneinfo"] == b"zones\n" * 1000
    assert content["buddyinfo"] == content["buddyinfo.after"] == b"buddy 0\n"
    assert content["kswapd1/stat"] == b"kswapd1 stat\n"
    assert content["node1/numastat"] == b"1 numastat\n"


def test_files_are_read_anew_each_round(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        agent.ask("mark", "a/0/b")
        names = names_of(agent.round())
        # In place: the sampler keeps its files open.
        (root / "proc/buddyinfo").write_text("buddy 1, longer than before\n")
        (root / "proc/vmstat").write_text("")
        agent.ask("mark", "a/1/b")
        content = {names[f.source]: f.payload for f in agent.round() if f.type is FrameType.SAMPLE}
    assert content["buddyinfo"] == b"buddy 1, longer than before\n"
    assert content["vmstat"] == b""


def test_a_file_that_outgrows_the_buffer_is_still_read_whole(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        agent.ask("mark", "a/0/b")
        names = names_of(agent.round())
        large = os.urandom(3 << 20)
        (root / "proc/slabinfo").write_bytes(large)
        seq = agent.send("mark", "a/1/b")
        content = {names[f.source]: f.payload for f in agent.round() if f.type is FrameType.SAMPLE}
        assert agent.answer(seq)[0] == 0
        agent.ask("sample-stop")
        end = agent.stream.frames(lambda f: f.type is FrameType.END)[-1]
    assert content["slabinfo"] == large
    assert content["vmstat"] == b"nr_free_pages 1\n"
    assert b"buffer_grown=0\n" not in end.payload


def test_a_file_too_large_for_a_frame_is_an_error_of_that_source(
    programs: Path, root: Path
) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        agent.ask("mark", "a/0/b")
        names = names_of(agent.round())
        with (root / "proc/slabinfo").open("wb") as stream:
            stream.truncate((8 << 20) + 1)
        agent.ask("mark", "a/1/b")
        frames = agent.round()
    errors = [frame for frame in frames if frame.type is FrameType.ERROR]
    assert [names[frame.source] for frame in errors] == ["slabinfo"]
    assert errors[0].payload == b"slabinfo: File too large"
    assert len(sampled(frames, names)) == len(names) - 1


def test_timed_rounds_are_dense_and_every_third_is_sparse(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "5", "3")
        opening = agent.round()
        names = names_of(opening)
        rounds = [opening, *(agent.round() for _ in range(6))]
    sparse = ["pagetypeinfo" in sampled(frames, names) for frames in rounds]
    assert sparse == [True, False, False, True, False, False, True]
    assert sampled(rounds[1], names)[:5] == DENSE_BEFORE
    assert [frames[-1].seq for frames in rounds] == list(range(7))
    assert all(frames[-1].start_ns <= frames[-1].end_ns for frames in rounds)


def test_a_slow_reader_costs_ticks_but_no_data(programs: Path, root: Path) -> None:
    (root / "proc/slabinfo").write_bytes(b"s" * (1 << 20))
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "5", "1")
        time.sleep(0.4)
        agent.round()
        agent.round()
        stop = agent.send("sample-stop")
        frames = agent.stream.frames(lambda f: f.type is FrameType.END)
        assert agent.answer(stop)[0] == 0
    end = dict(line.split("=") for line in frames[-1].payload.decode().splitlines())
    ends = [frame.seq for frame in frames if frame.type is FrameType.ROUND_END]
    assert int(end["missed_ticks"]) >= 20
    assert ends == list(range(2, int(end["rounds"])))


def test_any_client_may_ring_several_times_and_at_once(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        seqs = [agent.send("mark", f"many/{index}/idle") for index in range(8)]
        labels = set()
        for _ in seqs:
            labels |= {f.payload for f in agent.round() if f.type is FrameType.MARK}
        frames = [agent.control.frames(lambda f: f.type is FrameType.EXIT)[-1] for _ in seqs]
    assert labels == {b"many/%d/idle" % index for index in range(8)}
    assert {frame.seq for frame in frames} == set(seqs)
    assert all(frame.payload == b"0" for frame in frames)


def test_marks_are_served_while_a_program_runs(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        running = agent.send("exec", "sleep", "100")
        assert agent.ask("mark", "during/0/idle")[0] == 0
        assert agent.ask("kill", str(running), "9")[0] == 0
        assert agent.answer(running)[0] == 137


def test_one_sampler_at_a_time_and_a_second_after_the_first(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        assert agent.ask("sample-start", "0", "0")[0] == 0
        status, frames = agent.ask("sample-start", "0", "0")
        assert status == 1
        assert b"runs already" in frames[0].payload
        assert agent.ask("sample-stop")[0] == 0
        agent.stream.frames(lambda f: f.type is FrameType.END)
        assert agent.ask("sample-start", "0", "0")[0] == 0
        assert agent.ask("mark", "a/0/b")[0] == 0
        assert agent.round()[-1].seq == 0


def test_a_sampler_that_dies_is_reported(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGKILL)
        error = agent.control.frames(lambda f: f.type is FrameType.ERROR)[-1]
        assert b"sampler ended by itself with status 137" in error.payload
        assert agent.ask("mark", "a/0/b")[0] == 1
        assert agent.ask("sample-start", "0", "0")[0] == 0


def test_power_off_ends_the_stream_in_order(programs: Path, root: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "5", "0")
        agent.round()
        done = agent.send("poweroff")
        assert agent.stream.frames(lambda f: f.type is FrameType.END)
        assert agent.answer(done)[0] == 0


def test_workloads_ring_the_real_sampler(programs: Path, root: Path, tmp_path: Path) -> None:
    with HostAgent(programs, root) as agent:
        agent.ask("sample-start", "0", "0")
        workload = subprocess.Popen(
            [
                str(programs / "pktring"),
                *("--label", "null", "--settle-ms", "0", "--step", "idle", "--step", "idle"),
            ],
            env={**os.environ, "MMSCOPE_DOORBELL": agent.doorbell},
            stdout=subprocess.DEVNULL,
        )
        watchdog = threading.Timer(20, workload.kill)
        watchdog.start()
        labels = [
            frame.payload.decode()
            for _ in range(3)
            for frame in agent.round()
            if frame.type is FrameType.MARK
        ]
        assert workload.wait() == 0
        watchdog.cancel()
    assert labels == ["null/0/before", "null/1/idle", "null/2/idle"]
