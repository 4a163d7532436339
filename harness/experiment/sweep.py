"""A sweep: the runs of a comparison, each in a process of its own, in the order on record.

A run that fails is written down and does not end the sweep. What was finished is kept: a sweep
that was interrupted goes on where it was, and one that is asked for more repeats adds them.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import harness
from harness.errors import MmscopeError, UsageError
from harness.experiment.comparison import Comparison, Variant
from harness.experiment.plan import Plan
from harness.mortal import Endable, end_all
from harness.record.manifest import OutcomeKind
from harness.record.sweep import (
    KEPT,
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


class Process(Endable, Protocol):
    """A job under way."""

    def ended(self) -> Ending | None:
        """How it ended; None while it runs. Hands on what it told meanwhile."""


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
                for job in list(running):
                    ending = self._ending(job)
                    if ending is None:
                        continue
                    running.remove(job)
                    job.finish(ending, self.directory)
                    write_sweep(self.directory, self.record)
                    if not job.run.kept:
                        said = f"{ending.outcome}: {ending.message}"
                        note(f"{job.run.variant}, repeat {job.run.repeat}: {said}")
                if running:
                    time.sleep(_POLL_S)
        except BaseException:
            self._stop(running, note)
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

    def _ending(self, job: _Running) -> Ending | None:
        """How a job ended, be it by us because it took too long; None while it may run."""
        ending = job.process.ended()
        ceiling_s = self._comparison.ceiling_s
        if ending is not None or time.monotonic() - job.started_s <= ceiling_s:
            return ending
        end_all([job.process])
        ending = job.ended_by_us(f"not done after {ceiling_s:g} s (ceiling_s)")
        return ending if ending.outcome in KEPT else replace(ending, outcome=OutcomeKind.TIMED_OUT)

    def _stop(self, running: Sequence[_Running], note: Callable[[str], None]) -> None:
        """Ends what is under way, all at once, and only then writes it down."""
        end_all([job.process for job in running])
        for job in running:
            job.finish(job.ended_by_us("interrupted"), self.directory)
        try:
            write_sweep(self.directory, self.record)
        except MmscopeError as error:
            note(error.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    run: SweepRun
    process: Process
    started_s: float

    def ended_by_us(self, reason: str) -> Ending:
        """How a job ended that was told to; one that was through before it heard is as it is."""
        ending = self.process.ended()
        if ending is None:
            return Ending(outcome=OutcomeKind.KILLED, message=reason, directory=None)
        return ending if ending.outcome in KEPT else replace(ending, message=reason)

    def finish(self, ending: Ending, sweep: Path) -> None:
        """Puts it into the record."""
        self.run.outcome = ending.outcome
        self.run.message = ending.message
        self.run.wall_s = round(time.monotonic() - self.started_s, 3)
        if ending.directory is not None:
            self.run.directory = str(ending.directory.relative_to(sweep))
