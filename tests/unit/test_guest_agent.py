"""The agent of the guest, run on the host: requests, answers, and damage on the wire."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.record.frames import Frame, FrameType
from tests.guest_programs import LIMIT_S, HostAgent, host_programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_programs(tmp_path_factory.getbasetemp() / "guest-programs")


@pytest.fixture
def agent(programs: Path) -> Iterator[HostAgent]:
    with HostAgent(programs) as agent:
        yield agent


def joined(frames: list[Frame], kind: FrameType) -> bytes:
    return b"".join(frame.payload for frame in frames if frame.type is kind)


def test_hello_tells_what_runs_here(agent: HostAgent) -> None:
    assert agent.hello["release"] == os.uname().release
    assert int(agent.hello["page_size"]) == os.sysconf("SC_PAGESIZE")
    assert int(agent.hello["clock_tick"]) == os.sysconf("SC_CLK_TCK")
    assert int(agent.hello["cpus"]) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert int(agent.hello["nodes"]) >= 1
    assert agent.hello["agent"]


def test_exec_keeps_the_two_outputs_apart(agent: HostAgent) -> None:
    status, frames = agent.ask("exec", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert status == 7
    assert joined(frames, FrameType.STDOUT) == b"out\n"
    assert joined(frames, FrameType.STDERR) == b"err\n"


def test_exec_passes_arguments_as_they_are(agent: HostAgent) -> None:
    status, frames = agent.ask("exec", "printf", "<%s>", "a b", "", "$HOME", "é", "")
    assert status == 0
    assert joined(frames, FrameType.STDOUT) == "<a b><><$HOME><é><>".encode()


def test_large_output_comes_whole(agent: HostAgent) -> None:
    status, frames = agent.ask("exec", "sh", "-c", "seq 1 200000")
    assert status == 0
    expected = b"".join(b"%d\n" % number for number in range(1, 200001))
    assert joined(frames, FrameType.STDOUT) == expected


def test_death_by_a_signal_gives_128_and_its_number(agent: HostAgent) -> None:
    status, _ = agent.ask("exec", "sh", "-c", "kill -SEGV $$")
    assert status == 128 + signal.SIGSEGV


def test_a_program_that_is_not_there_gives_127(agent: HostAgent) -> None:
    status, frames = agent.ask("exec", "no-such-program")
    assert status == 127
    assert b"no-such-program: No such file" in joined(frames, FrameType.STDERR)


def test_a_program_has_the_usual_oom_score_and_its_own_group(agent: HostAgent) -> None:
    script = "cat /proc/self/oom_score_adj; cut -d' ' -f5 /proc/$$/stat; echo $$"
    _, frames = agent.ask("exec", "sh", "-c", script)
    score, group, pid = joined(frames, FrameType.STDOUT).split()
    assert score == b"0"
    assert group == pid


def test_standard_input_is_empty(agent: HostAgent) -> None:
    assert agent.ask("exec", "cat") == (0, [])


def test_kill_ends_the_whole_group_while_it_runs(agent: HostAgent) -> None:
    running = agent.send("exec", "sh", "-c", "sleep 100 & echo started; wait")
    agent.control.frames(lambda frame: frame.type is FrameType.STDOUT)
    assert agent.ask("kill", str(running), str(int(signal.SIGTERM)))[0] == 0
    assert agent.answer(running)[0] == 128 + signal.SIGTERM


def test_what_a_program_leaves_behind_does_not_hold_up_its_end(agent: HostAgent) -> None:
    start_s = time.monotonic()
    status, frames = agent.ask("exec", "sh", "-c", "sleep 5 & echo $!")
    assert status == 0
    assert time.monotonic() - start_s < 4
    os.kill(int(joined(frames, FrameType.STDOUT)), signal.SIGKILL)


def test_kill_of_an_unknown_request_fails(agent: HostAgent) -> None:
    status, frames = agent.ask("kill", "99", "15")
    assert status == 1
    assert b"99" in joined(frames, FrameType.ERROR)


def test_read_gives_files_by_pattern_under_their_own_names(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "a").write_bytes(b"A")
    (tmp_path / "proc" / "b").write_bytes(b"")
    (tmp_path / "proc" / "c").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "proc" / "directory").mkdir()
    (tmp_path / "proc" / "dangling").symlink_to("nowhere")
    with HostAgent(programs, tmp_path) as agent:
        status, frames = agent.ask("read", "/proc/*", "/nothing")
    assert status == 0
    files = dict(f.payload.split(b"\0", 1) for f in frames if f.type is FrameType.FILE)
    assert files == {
        b"/proc/a": b"A",
        b"/proc/b": b"",
        b"/proc/c": bytes(range(256)) * 4096,
    }
    errors = [frame.payload for frame in frames if frame.type is FrameType.ERROR]
    assert errors == [
        b"/proc/dangling: No such file or directory",
        b"/nothing: no file matches",
    ]


def test_read_gives_files_of_proc_that_claim_to_be_empty(agent: HostAgent) -> None:
    _, frames = agent.ask("read", "/proc/version")
    assert frames[0].payload == b"/proc/version\0" + Path("/proc/version").read_bytes()


def test_read_refuses_what_is_too_large_for_a_frame(programs: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate((8 << 20) + 1)
    with HostAgent(programs, tmp_path) as agent:
        _, frames = agent.ask("read", "/large")
    assert [frame.type for frame in frames] == [FrameType.ERROR]
    assert b"/large: File too large" in frames[0].payload


@pytest.mark.parametrize(
    "words",
    [
        ("dance",),
        ("exec",),
        ("kill", "1"),
        ("kill", "x", "9"),
        ("mark",),
        ("sample-start", "10"),
        ("sample-start", "-1", "0"),
        ("sample-start", "ten", "0"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(agent: HostAgent, words: tuple[str, ...]) -> None:
    status, frames = agent.ask(*words)
    assert status == 2
    assert [frame.type for frame in frames] == [FrameType.ERROR]
    assert agent.ask("exec", "true")[0] == 0


def test_mark_and_stop_fail_without_a_sampler(agent: HostAgent) -> None:
    status, frames = agent.ask("mark", "a/0/b")
    assert (status, joined(frames, FrameType.ERROR)) == (1, b"mark a/0/b: no sampler runs")
    assert agent.ask("sample-stop")[0] == 1


def test_a_payload_with_a_wrong_crc_is_refused_and_the_next_served(agent: HostAgent) -> None:
    damaged = bytearray(Frame(type=FrameType.REQUEST, seq=50, payload=b"exec\0true").encode())
    damaged[-1] ^= 1
    agent.control.near.sendall(bytes(damaged))
    status, frames = agent.answer(50)
    assert status == 2
    assert b"CRC" in joined(frames, FrameType.ERROR)
    assert agent.ask("exec", "true")[0] == 0


def test_noise_on_the_wire_is_skipped_and_counted(agent: HostAgent) -> None:
    noise = b"MMS1 is how a frame begins, but not this" * 3
    agent.control.near.sendall(noise)
    seq = agent.send("exec", "echo", "fine")
    frames = agent.control.frames(lambda f: f.type is FrameType.EXIT and f.seq == seq)
    assert frames[0].type is FrameType.ERROR
    assert str(len(noise)).encode() in frames[0].payload
    assert joined(frames, FrameType.STDOUT) == b"fine\n"


def test_an_oversized_request_is_refused_whole(agent: HostAgent) -> None:
    words = ["exec", "echo", "x" * 70_000]
    status, frames = agent.ask(*words)
    assert status == 2
    assert b"65536" in joined(frames, FrameType.ERROR)
    assert agent.ask("exec", "echo", "x" * 60_000)[0] == 0


def test_a_frame_that_is_no_request_is_refused(agent: HostAgent) -> None:
    agent.control.near.sendall(Frame(type=FrameType.SAMPLE, seq=9, payload=b"x").encode())
    assert agent.answer(9)[0] == 2


def test_requests_may_come_in_pieces_or_all_at_once(agent: HostAgent) -> None:
    frames = [
        Frame(type=FrameType.REQUEST, seq=seq, payload=b"kill\0" + b"1000000\0" + b"9").encode()
        for seq in (100, 101)
    ]
    for byte in b"".join(frames):
        agent.control.near.sendall(bytes([byte]))
    assert agent.answer(100)[0] == 1
    assert agent.answer(101)[0] == 1
    agent.control.near.sendall(b"".join(frames))
    assert agent.answer(100)[0] == 1
    assert agent.answer(101)[0] == 1


def test_poweroff_on_the_host_ends_the_agent_only(agent: HostAgent) -> None:
    assert agent.ask("poweroff")[0] == 0
    assert agent.process.wait(timeout=LIMIT_S) == 0


def test_a_closed_control_port_ends_the_agent_and_what_it_runs(agent: HostAgent) -> None:
    agent.send("exec", "sh", "-c", "echo $$; exec sleep 100")
    pid = int(agent.control.frames(lambda f: f.type is FrameType.STDOUT)[-1].payload)
    agent.control.near.close()
    assert agent.process.wait(timeout=LIMIT_S) == 0
    end_s = time.monotonic() + LIMIT_S
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end_s, "the program outlived its agent"
        time.sleep(0.01)
