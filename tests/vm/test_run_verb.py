"""Whole runs of real guests that do not end well: every one leaves a readable directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.record.manifest import Manifest, OutcomeKind
from harness.record.rundir import RunDirectory
from tests.conftest import qemu_pids
from tests.vm.conftest import Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

PLAN = """
name = "mine"
[machine]
nodes = ["256M"]
append = ["{append}"]
[sampling]
period_ms = 100
[[phases]]
name = "null"
load = {{ workload = "pktring", steps = ["idle", "idle"] }}
[[phases]]
name = "load"
load = {{ workload = "command", command = {command} }}
ceiling_s = {ceiling_s}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., str]:
    def write(command: list[str], *, append: str = "", ceiling_s: float = 60) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(
            PLAN.format(append=append, command=json.dumps(command), ceiling_s=ceiling_s)
        )
        return str(path)

    return write


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert qemu_pids() == set()
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def manifest_of(root: Path) -> Manifest:
    (path,) = (root / "runs").iterdir()
    return RunDirectory(path).read_manifest()


def test_an_oom_kill_is_an_outcome_not_a_failure(
    mmscope: Mmscope, plan: Callable[..., str], tmp_path: Path
) -> None:
    command = ["/run/mmscope/bin/fragment", "--bytes", "2G", "--pattern", "stride:2"]
    done = mmscope("run", plan([*command, "--label", "load"]))
    assert done.returncode == 0, done.stderr + done.stdout
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is OutcomeKind.OOM_KILLED
    assert manifest.phases[1].outcome == "oom-killed"
    assert manifest.phases[1].status == 128 + signal.SIGKILL
    (run,) = (tmp_path / "runs").iterdir()
    assert "Out of memory: Killed process" in (run / "console.log").read_text()
    assert "OOM killer" in (run / "report.html").read_text()


def test_a_panic_under_load(mmscope: Mmscope, plan: Callable[..., str], tmp_path: Path) -> None:
    command = ["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"]
    done = mmscope("run", plan(command))
    assert done.returncode == 4, done.stderr
    assert "kernel panic in the guest while running" in done.stderr
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is OutcomeKind.PANICKED
    assert manifest.phases[1].outcome == "panicked"
    (run,) = (tmp_path / "runs").iterdir()
    # What was recorded before the panic is still good for an analysis.
    checked = mmscope("check", str(run), "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["summary"]["holds"] > 0


def test_a_workload_that_hangs(mmscope: Mmscope, plan: Callable[..., str], tmp_path: Path) -> None:
    done = mmscope("run", plan(["sh", "-c", "kill -STOP $$"], ceiling_s=5))
    assert done.returncode == 4, done.stderr
    assert manifest_of(tmp_path).outcome.kind is OutcomeKind.TIMED_OUT


@pytest.mark.parametrize(
    ("victim", "number", "kind", "code"),
    [
        ("mmscope", signal.SIGINT, OutcomeKind.INTERRUPTED, 130),
        ("mmscope", signal.SIGTERM, OutcomeKind.INTERRUPTED, 130),
        ("mmscope", signal.SIGKILL, OutcomeKind.KILLED, -signal.SIGKILL),
        ("qemu", signal.SIGKILL, OutcomeKind.FAILED, 3),
    ],
)
def test_someone_is_killed_in_the_middle(
    victim: str,
    number: signal.Signals,
    kind: OutcomeKind,
    code: int,
    plan: Callable[..., str],
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness", "run", "--runs", str(tmp_path / "runs")),
            plan(["sleep", "1000"]),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_phase(tmp_path, "load")
        (qemu,) = qemu_pids()
        os.kill(process.pid if victim == "mmscope" else qemu, number)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait(60)
    end_s = time.monotonic() + 5
    while qemu_pids() and time.monotonic() < end_s:
        time.sleep(0.05)
    ending = manifest_of(tmp_path).ending()
    assert ending.kind is kind
    assert ending.message
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "samples.mms").stat().st_size > 0


def _wait_for_phase(root: Path, name: str) -> None:
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        runs = list((root / "runs").iterdir()) if (root / "runs").is_dir() else []
        if (
            runs
            and (runs[0] / "manifest.json").exists()
            and any(phase.name == name for phase in manifest_of(root).phases)
        ):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise AssertionError(f"phase {name} did not begin")
