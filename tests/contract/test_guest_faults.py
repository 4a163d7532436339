"""A guest that misbehaves: the right error, soon, and nothing left running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.deadline import StallClock
from harness.errors import (
    BootError,
    GuestTimeoutError,
    KernelCrashError,
    LaunchError,
    LostMachineError,
    MissingToolError,
    MmscopeError,
    SessionError,
)
from harness.machine.process import MachineState
from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest

FakeQemu = Callable[[str], None]


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    return MachineSpec(
        arch="x86_64",
        nodes=(NodeSpec(size_bytes=256 << 20, cpus=(0, 1)),),
        kernel=tmp_path / "kernel",
        initramfs=tmp_path / "initramfs",
        root=tmp_path / "root",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs", "fault")


def boot(spec: MachineSpec, run: RunDirectory, *, stall_s: float = 20) -> Guest:
    return Guest(spec, run, boot_stall_s=stall_s)


def test_a_good_guest_runs_commands_and_ends(
    fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory
) -> None:
    fake_qemu("good")
    with boot(spec, run) as guest:
        result = guest.agent.run(["uname", "-r"])
        assert (result.status, result.stdout) == (0, b"ran uname -r\n")
        assert guest.agent.hello["cpus"] == "2"
        assert guest.agent.read(["/proc/version"]).files["/proc/version"].startswith(b"Linux")
    assert guest.machine.state is MachineState.ENDED
    assert "Linux version" in run.console_path.read_text()
    assert (run.qemu_path / "argv").read_text().startswith(str(guest.machine.argv[0]))
    assert '"quit"' in (run.qemu_path / "qmp.log").read_text() or guest.machine.poll() == 0


@pytest.mark.parametrize(
    ("mode", "kind", "says"),
    [
        ("silent", BootError, "printed nothing"),
        ("panic", KernelCrashError, "Kernel panic"),
        ("init-failed", KernelCrashError, "no disk with serial"),
        ("no-agent", GuestTimeoutError, "waiting for the agent"),
        ("refuse", LaunchError, "did not start"),
        ("garbage-agent", SessionError, "magic"),
    ],
)
def test_what_keeps_a_guest_from_coming_up(
    mode: str,
    kind: type[MmscopeError],
    says: str,
    fake_qemu: FakeQemu,
    spec: MachineSpec,
    run: RunDirectory,
) -> None:
    fake_qemu(mode)
    start_s = time.monotonic()
    with pytest.raises(kind) as caught, boot(spec, run, stall_s=2):
        pass
    assert says in caught.value.render()
    assert time.monotonic() - start_s < 30


def test_a_refusal_shows_what_qemu_said(
    fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory
) -> None:
    fake_qemu("refuse")
    with pytest.raises(LaunchError) as caught, boot(spec, run):
        pass
    assert "Cannot allocate memory" in caught.value.details["QEMU said"]
    assert "--node" in str(caught.value.fix)


@pytest.mark.parametrize("mode", ["hang-qmp", "garbage-qmp"])
def test_a_monitor_that_does_not_answer_is_a_launch_error(
    mode: str,
    fake_qemu: FakeQemu,
    spec: MachineSpec,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_qemu(mode)
    monkeypatch.setattr("harness.machine.qmp.Qmp.connect.__defaults__", (2.0,))
    monkeypatch.setattr("harness.machine.process._QUIT_S", 0.5)
    with pytest.raises(LaunchError, match="did not start"), boot(spec, run):
        pass


def test_a_qemu_that_ignores_quit_and_term_is_killed(
    fake_qemu: FakeQemu,
    spec: MachineSpec,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_qemu("stubborn")
    for name in ("_QUIT_S", "_TERM_S"):
        monkeypatch.setattr(f"harness.machine.process.{name}", 0.5)
    monkeypatch.setattr("harness.session.guest._POWER_OFF_S", 0.5)
    with boot(spec, run) as guest:
        pass
    assert guest.machine.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("mode", "kind", "says"),
    [
        ("die-in-run", LostMachineError, "SIGKILL"),
        ("panic-in-run", KernelCrashError, "Kernel panic"),
        ("hang-in-run", GuestTimeoutError, "no progress"),
        ("deaf-in-run", GuestTimeoutError, "no progress"),
        ("lockup-in-run", GuestTimeoutError, "no progress"),
        ("lockup-in-run", GuestTimeoutError, "soft lockup - CPU#1 stuck"),
        ("lockup-in-run", GuestTimeoutError, "CPU 0 at 0xffffffff81e01234 (halted), CPU 1 at 0x"),
    ],
)
def test_a_guest_that_goes_away_under_a_command(
    mode: str,
    kind: type[MmscopeError],
    says: str,
    fake_qemu: FakeQemu,
    spec: MachineSpec,
    run: RunDirectory,
) -> None:
    fake_qemu(mode)
    with pytest.raises(kind) as caught, boot(spec, run) as guest:
        guest.agent.run(["stress-ng"], clock=StallClock(2, 60))
    assert says in caught.value.render()


def test_a_stopped_guest_is_not_waited_for(
    fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory
) -> None:
    fake_qemu("stopped")
    with boot(spec, run) as guest:
        start_s = time.monotonic()
    # it would be given ten seconds to power off
    assert time.monotonic() - start_s < 8
    assert guest.machine.state is MachineState.ENDED


def test_cpus_take_turns_under_an_old_qemu(
    fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory
) -> None:
    fake_qemu("good")  # it calls itself 0.0.0
    with boot(spec, run):
        argv = (run.qemu_path / "argv").read_text().splitlines()
    assert argv[argv.index("-accel") + 1] == "tcg,thread=single"


def test_an_oom_kill_is_data(fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory) -> None:
    fake_qemu("oom-in-run")
    with boot(spec, run) as guest:
        result = guest.agent.run(["pktring"])
        assert result.killed_by == signal.SIGKILL
        assert any("Out of memory" in finding.line for finding in guest.machine.console.findings)


def test_an_interrupt_ends_qemu(fake_qemu: FakeQemu, spec: MachineSpec, run: RunDirectory) -> None:
    fake_qemu("hang-in-run")
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), boot(spec, run) as guest:
        guest.agent.run(["stress-ng"])


def test_missing_qemu_says_what_to_install(
    spec: MachineSpec, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSCOPE_QEMU_X86_64", "no-such-qemu")
    with pytest.raises(MissingToolError) as caught, boot(spec, run):
        pass
    assert caught.value.fix == "apt-get install qemu-system-x86"
