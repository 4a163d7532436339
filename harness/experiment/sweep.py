"""A sweep: the runs of a comparison, each in a process of its own, in the order on record.

A run that fails is written down and does not end the sweep. What was finished is kept: a sweep
that was interrupted goes on where it was, and one that is asked for more repeats adds them.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import harness
from harness.errors import UsageError
from harness.experiment.comparison import Comparison, Variant
from harness.experiment.plan import Plan
from harness.record.manifest import OutcomeKind
from harness.record.sweep import (
    SWEEP_NAME,
    SweepRecord,
    SweepRun,
    read_sweep,
    write_sweep,
)

_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run that is to be made."""

    variant: Variant
    plan: Plan
    runs_root: Path
    accel: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended."""

    outcome: OutcomeKind
    message: str
    directory: Path | None


class Process(Protocol):
    """A job under way."""

    def ended(self) -> Ending | None:
        """How it ended; None while it runs. Hands on what it told meanwhile."""

    def stop(self, reason: str) -> Ending:
        """Ends it in bounded time."""


Starter = Callable[[Job, Callable[[str], None]], Process]
"""Starts a job's process; it tells its progress by the second argument."""


class Sweep:
    """A sweep's directory and record, and the loop that fills them."""

    def __init__(self, directory: Path, record: SweepRecord, comparison: Comparison) -> None:
        self.directory = directory
        self.record = record
        self._comparison = comparison

    @classmethod
    def open(cls, comparison: Comparison, runs: Path, repeats: int, jobs: int) -> Sweep:
        """A new sweep below ``runs``, or the one that is there, if it is of the same comparison.

        Raises:
            UsageError: there is one of another comparison.
            RecordError: its record is damaged.
        """
        directory = runs / comparison.name
        definition = comparison.model_dump(mode="json")
        if (directory / SWEEP_NAME).is_file():
            record = read_sweep(directory)
            differing = [
                key
                for key in definition
                if key != "repeat" and record.comparison.get(key) != definition[key]
            ]
            if differing:
                raise UsageError(
                    f"{directory}: holds a sweep of another {comparison.name}: "
                    f"{', '.join(differing)} differ",
                    fix="sweep into another directory with --runs, or remove this one",
                )
            repeats = max(repeats, record.repeats)
        else:
            record = SweepRecord(
                name=comparison.name,
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                mmscope=harness.__version__,
                comparison=definition,
                repeats=repeats,
                order=[],
            )
        record.repeats = repeats
        record.order = comparison.order(repeats)
        record.jobs = jobs
        directory.mkdir(parents=True, exist_ok=True)
        write_sweep(directory, record)
        return cls(directory, record, comparison)

    def left(self, only: Sequence[str] = ()) -> list[tuple[int, str]]:
        """(repeat, variant) of the runs that are still to be made."""
        runs = {(run.repeat, run.variant) for run in self.record.runs if run.kept}
        return [
            pair for pair in self.record.order if pair not in runs and (not only or pair[1] in only)
        ]

    def execute(
        self,
        start: Starter,
        *,
        only: Sequence[str] = (),
        accel: str | None = None,
        stage: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        """Makes the runs that are left, ``jobs`` at once.

        Raises:
            KeyboardInterrupt: after the runs under way were ended and written down.
        """
        waiting = self.left(only)
        total = len(waiting)
        running: list[_Running] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.record.jobs:
                    repeat, name = waiting.pop(0)
                    number = total - len(waiting)
                    stage(f"{number} of {total}: {name}, repeat {repeat}")
                    running.append(self._start(start, name, repeat, accel, note))
                running = [job for job in running if not self._over(job, note)]
                if running:
                    time.sleep(_POLL_S)
        except BaseException:
            for job in running:
                self._finish(job, job.process.stop("interrupted"))
            raise

    def _start(
        self,
        start: Starter,
        name: str,
        repeat: int,
        accel: str | None,
        note: Callable[[str], None],
    ) -> _Running:
        variant = self._comparison.variant(name)
        plan = self._comparison.plan_of(variant, repeat)
        run = SweepRun(variant=name, repeat=repeat, seed=plan.seed)
        self.record.put(run)
        write_sweep(self.directory, self.record)
        job = Job(variant=variant, plan=plan, runs_root=self.directory / name, accel=accel)
        process = start(job, lambda text: note(f"{name}: {text}"))
        return _Running(run=run, process=process, started_s=time.monotonic())

    def _over(self, job: _Running, note: Callable[[str], None]) -> bool:
        ending = job.process.ended()
        ceiling_s = self._comparison.ceiling_s
        if ending is None and time.monotonic() - job.started_s > ceiling_s:
            stopped = job.process.stop(f"not done after {ceiling_s:g} s (ceiling_s)")
            ending = Ending(
                outcome=OutcomeKind.TIMED_OUT,
                message=stopped.message,
                directory=stopped.directory,
            )
        if ending is None:
            return False
        self._finish(job, ending)
        if not job.run.kept:
            note(f"{job.run.variant}, repeat {job.run.repeat}: {ending.outcome}: {ending.message}")
        return True

    def _finish(self, job: _Running, ending: Ending) -> None:
        job.run.outcome = ending.outcome
        job.run.message = ending.message
        job.run.wall_s = round(time.monotonic() - job.started_s, 3)
        if ending.directory is not None:
            job.run.directory = str(ending.directory.relative_to(self.directory))
        write_sweep(self.directory, self.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    run: SweepRun
    process: Process
    started_s: float
