"""One run of a sweep in a process of its own: it may crash, hang or be ended alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from harness.cli.prepare import checked_spec, prepare
from harness.errors import MmscopeError
from harness.experiment.outcome import outcome_of
from harness.experiment.runner import Run, RunRequest, machine_spec
from harness.experiment.sweep import Ending, Job
from harness.record.manifest import OutcomeKind

_POLITE_S = 30.0
_HARD_S = 5.0


class JobProcess:
    """A job in a child process; see ``harness.experiment.sweep.Process``."""

    def __init__(self, job: Job, tell: Callable[[str], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, child_end = context.Pipe(duplex=False)
        self._tell = tell
        self._ending: Ending | None = None
        self._directory: Path | None = None
        self._child = context.Process(target=_run, args=(job, child_end), name="run")
        self._child.start()
        child_end.close()

    def ended(self) -> Ending | None:
        """How it ended; None while it runs."""
        alive = self._child.is_alive()
        self._listen()
        if alive:
            return None
        self._child.join()
        return self._ending or Ending(
            outcome=OutcomeKind.KILLED,
            message=f"its process ended with status {self._child.exitcode} and told nothing",
            directory=self._directory,
        )

    def stop(self, reason: str) -> Ending:
        """Ends it: politely, so that the guest is shut down, then hard."""
        self._child.terminate()
        self._child.join(_POLITE_S)
        if self._child.is_alive():
            self._child.kill()
            self._child.join(_HARD_S)
        self._listen()
        told = self._ending
        return Ending(
            outcome=told.outcome if told else OutcomeKind.KILLED,
            message=reason,
            directory=told.directory if told else self._directory,
        )

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self._told.poll():
                message = self._told.recv()
                match message:
                    case Ending():
                        self._ending = message
                    case Path():
                        self._directory = message
                    case str():
                        self._tell(message)


class _Told:
    """Progress as messages to the parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def stage(self, text: str) -> None:
        self._send(text)

    def note(self, text: str) -> None:
        self._send(text)

    def _send(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(text)


def _run(job: Job, pipe: Connection) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    told = _Told(pipe)
    directory: Path | None = None
    try:
        prepared = prepare(job.variant.arch, job.variant.kernel, told.note)
        request = RunRequest(
            plan=job.plan,
            kernel=prepared.kernel,
            image=prepared.image,
            accel="tcg",
            runs_root=job.runs_root,
        )
        spec = checked_spec(machine_spec(request), prepared.kernel, job.accel, told.note)
        run = Run(replace(request, accel=spec.accel), told)
        directory = run.directory.path
        pipe.send(directory)
        run.execute()
        outcome = run.manifest.outcome
    except BaseException as error:  # noqa: BLE001 - whatever it is, the sweep is told and goes on
        outcome = outcome_of(error)
        if isinstance(error, MmscopeError):
            outcome = outcome.model_copy(update={"message": error.message})
    with contextlib.suppress(OSError):
        pipe.send(Ending(outcome=outcome.kind, message=outcome.message, directory=directory))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
