"""One run of a sweep in a process of its own: it may crash, hang or be ended alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

from harness.cli.prepare import checked_spec, prepare
from harness.cli.signals import heed_signals
from harness.errors import MmscopeError
from harness.experiment.outcome import outcome_of
from harness.experiment.runner import Run, RunRequest, machine_spec
from harness.experiment.sweep import Ending, Job
from harness.record.manifest import OutcomeKind


class JobProcess:
    """A job in a child process; see ``harness.experiment.sweep.Process``."""

    def __init__(self, job: Job, tell: Callable[[str], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, child_end = context.Pipe(duplex=False)
        self._tell = tell
        self._ending: Ending | None = None
        self._directory: Path | None = None
        self._child = context.Process(target=_run, args=(job, child_end), name="run")
        with _no_interrupt():
            self._child.start()
        child_end.close()

    def ended(self) -> Ending | None:
        """How it ended; None while it runs."""
        if self.poll() is None:
            return None
        self._child.join()
        return self._ending or Ending(
            outcome=OutcomeKind.KILLED,
            message=f"its process ended with status {self._child.exitcode} and told nothing",
            directory=self._directory,
        )

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        status = self._child.exitcode
        self._listen()
        return status

    def terminate(self) -> None:
        """Asks it to shut down its guest, record that, and end."""
        self._child.terminate()

    def kill(self) -> None:
        """Ends it."""
        self._child.kill()

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
    # A Ctrl-C is for the sweep, which ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    heed_signals()
    told = _Told(pipe)
    directory: Path | None = None
    try:
        variant = job.variant
        prepared = prepare(variant.arch, variant.kernel, told.note, files=variant.files)
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
        if not isinstance(error, MmscopeError | KeyboardInterrupt):
            told.note(traceback.format_exc())
    with contextlib.suppress(OSError):
        pipe.send(Ending(outcome=outcome.kind, message=outcome.message, directory=directory))


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """What is started meanwhile does not hear a Ctrl-C until it is ready to ignore it."""
    resource_tracker.ensure_running()  # which would end the blocking when it is started in it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
