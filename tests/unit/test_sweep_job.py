"""A sweep's child process: what it hears, and what it tells of its end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import sweep_job
from harness.errors import UsageError
from harness.experiment.comparison import load_comparison
from harness.experiment.sweep import Ending, Job
from harness.record.manifest import OutcomeKind
from tests.unit.test_comparison import SOUND

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

HEEDS = """
import signal
from harness.cli.signals import heed_signals
heed_signals()
print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    found = load_comparison(str(path))
    variant = found.variants[0]
    return Job(variant=variant, plan=found.plan_of(variant, 1), runs_root=tmp_path, accel=None)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Runs the child's part in this process, which keeps its own handlers."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_here(job: Job, prepare: Callable[[], object]) -> list[object]:
    """What the child tells when preparing its kernel does this."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_job, "prepare", lambda *_, files: prepare())
        sweep_job._run(job, theirs)
    theirs.close()
    told: list[object] = []
    with contextlib.suppress(EOFError):
        while True:
            told.append(ours.recv())
    return told


def test_a_mistake_of_ours_shows_where_it_was_made(job: Job) -> None:
    def mistaken() -> None:
        raise ZeroDivisionError("by nothing")

    traceback, ending = run_here(job, mistaken)
    assert "Traceback" in str(traceback)
    assert "in mistaken" in str(traceback)
    assert isinstance(ending, Ending)
    assert ending.message == "ZeroDivisionError: by nothing"


@pytest.mark.parametrize(
    ("raised", "outcome", "message"),
    [
        (UsageError("no such kernel", fix="name another"), OutcomeKind.FAILED, "no such kernel"),
        (KeyboardInterrupt(), OutcomeKind.INTERRUPTED, "interrupted"),
    ],
)
def test_what_is_no_mistake_of_ours_shows_none(
    job: Job, raised: BaseException, outcome: OutcomeKind, message: str
) -> None:
    def fails() -> None:
        raise raised

    told = run_here(job, fails)
    assert told == [Ending(outcome=outcome, message=message, directory=None)]


def test_a_ctrl_c_is_left_to_the_sweep_and_what_was_ignored_stays_so(job: Job) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heard: list[object] = []

    def prepare() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
        heard.append("nothing")
        signal.raise_signal(signal.SIGTERM)

    (ending,) = run_here(job, prepare)
    assert heard == ["nothing"]
    assert isinstance(ending, Ending)
    assert ending.outcome is OutcomeKind.INTERRUPTED


@pytest.mark.parametrize(
    ("terminal", "ignored"), [("--ignore-signal=HUP", "True"), ("--default-signal=HUP", "False")]
)
def test_a_command_under_nohup_does_not_hear_its_terminal_go(terminal: str, ignored: str) -> None:
    """As nohup starts it, and as a shell does, whichever of the two started the tests."""
    done = subprocess.run(
        ["env", terminal, sys.executable, "-c", HEEDS],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [ignored, "interrupted"]


def test_a_child_that_has_only_begun_does_not_hear_a_ctrl_c(job: Job) -> None:
    """Before it can ignore the signal, it must not die of it and tell nothing."""
    odd = job.variant.model_copy(update={"kernel": "no-such-suite"})
    job = Job(variant=odd, plan=job.plan, runs_root=job.runs_root, accel=None)
    process = sweep_job.JobProcess(job, lambda _: None)
    os.kill(process._child.pid or 0, signal.SIGINT)
    end_s = time.monotonic() + 60
    while (ending := process.ended()) is None and time.monotonic() < end_s:
        time.sleep(0.05)
    assert ending is not None
    assert ending.outcome is OutcomeKind.FAILED
    assert "no-such-suite" in ending.message
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_child_is_ended_in_order_or_by_force(job: Job) -> None:
    process = sweep_job.JobProcess(job, lambda _: None)
    assert process.poll() is None
    process.kill()
    end_s = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.05)
    ending = process.ended()
    assert ending is not None
    assert ending.outcome is OutcomeKind.KILLED
    assert "status -9 and told nothing" in ending.message
