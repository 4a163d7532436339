"""However a run ends, its directory tells how, and nothing is left running."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import (
    BootError,
    DiskFullError,
    GuestTimeoutError,
    KernelCrashError,
    LostMachineError,
    RecordError,
    SessionError,
)
from harness.experiment.runner import Run
from harness.record.frames import FrameType, read_frames
from harness.record.manifest import Manifest, OutcomeKind
from harness.record.rundir import RunDirectory
from tests.conftest import qemu_pids
from tests.contract.fake_run import Silent, fake_request

FakeQemu = Callable[[str], None]


def manifest_of(root: Path) -> Manifest:
    (path,) = (root / "runs").iterdir()
    return RunDirectory(path).read_manifest()


def has_begun_a_phase(root: Path) -> bool:
    try:
        return bool(manifest_of(root).phases)
    except (RecordError, FileNotFoundError, ValueError):
        return False  # the directory, or the manifest in it, is not there yet


@pytest.fixture(autouse=True)
def no_temporary_files(tmp_path: Path) -> Iterator[None]:
    yield
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def test_a_good_run_is_complete(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    directory = Run(fake_request(tmp_path), Silent()).execute()
    manifest = directory.read_manifest()
    assert manifest.outcome.kind is OutcomeKind.COMPLETED
    assert [phase.outcome for phase in manifest.phases] == ["completed", "completed"]
    assert (directory.workloads_path / "02-cmd.stdout").read_bytes() == b"ran true\n"
    assert (directory.guest_path / "proc" / "version").is_file()
    labels = [
        frame.payload.decode()
        for frame in read_frames(directory.samples_path)
        if frame.type is FrameType.MARK
    ]
    assert labels == ["settle/end", "null/begin", "null/end", "cmd/begin", "cmd/end"]
    assert set(manifest.files) >= {"samples.mms", "console.log", "qemu/argv", "guest/dmesg"}


@pytest.mark.parametrize(
    ("mode", "error", "kind", "exit_code"),
    [
        ("panic", KernelCrashError, OutcomeKind.PANICKED, 4),
        ("panic-in-run", KernelCrashError, OutcomeKind.PANICKED, 4),
        ("hang-in-run", GuestTimeoutError, OutcomeKind.TIMED_OUT, 4),
        ("die-in-run", LostMachineError, OutcomeKind.FAILED, 3),
        ("corrupt-stream", RecordError, OutcomeKind.FAILED, 3),
        ("cut-stream", SessionError, OutcomeKind.FAILED, 3),
    ],
)
def test_a_run_that_fails_says_how(
    mode: str,
    error: type[Exception],
    kind: OutcomeKind,
    exit_code: int,
    fake_qemu: FakeQemu,
    tmp_path: Path,
) -> None:
    fake_qemu(mode)
    with pytest.raises(error):
        Run(fake_request(tmp_path), Silent()).execute()
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is kind
    assert manifest.outcome.exit_code == exit_code
    assert manifest.outcome.message
    assert "console.log" in manifest.files


def test_a_silent_guest_times_out(
    fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu("silent")
    monkeypatch.setattr(
        "harness.session.guest.Guest.__init__.__kwdefaults__",
        {
            "ssh": False,
            "progress": lambda _: None,
            "boot_stall_s": 1.0,
        },
    )
    with pytest.raises(BootError, match="printed nothing"):
        Run(fake_request(tmp_path), Silent()).execute()
    assert manifest_of(tmp_path).outcome.kind is OutcomeKind.TIMED_OUT


def test_an_oom_killed_workload_is_an_outcome(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("oom-in-run")
    manifest = Run(fake_request(tmp_path), Silent()).execute().read_manifest()
    assert manifest.outcome.kind is OutcomeKind.OOM_KILLED
    assert [phase.outcome for phase in manifest.phases] == ["oom-killed", "completed"]
    assert manifest.phases[0].status == 137


def test_a_full_disk_ends_the_run(
    fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu("good")
    opened = Path.open

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_full(self: Path, mode: str = "r", *arguments: object, **more: object) -> object:
        if self.name == "samples.mms" and "w" in mode:
            return Full()
        return opened(self, mode, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DiskFullError, match="no space left"):
        Run(fake_request(tmp_path), Silent()).execute()
    assert manifest_of(tmp_path).outcome.kind is OutcomeKind.FAILED


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, OutcomeKind.INTERRUPTED), (signal.SIGKILL, OutcomeKind.KILLED)],
)
def test_a_killed_run_leaves_no_qemu_and_a_readable_directory(
    number: signal.Signals, kind: OutcomeKind, fake_qemu: FakeQemu, tmp_path: Path
) -> None:
    fake_qemu("hang-in-run")
    before = qemu_pids()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.fake_run", str(tmp_path)],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    try:
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            if has_begun_a_phase(tmp_path):
                break
            time.sleep(0.05)
        assert qemu_pids() - before
        child.send_signal(number)
        child.wait(30)
    finally:
        child.kill()
        child.wait(30)
    end_s = time.monotonic() + 5
    while qemu_pids() - before and time.monotonic() < end_s:
        time.sleep(0.05)
    assert qemu_pids() - before == set()
    assert manifest_of(tmp_path).ending().kind is kind
