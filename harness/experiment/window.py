"""A window: a load between two memory samples, every allocation in between traced.

Tracing begins before the first sample and ends after the last, so that each sample's value of
the event counter lies within the trace and cuts it exactly.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from harness.errors import MmscopeError
from harness.experiment.quiet import wait_quiet
from harness.record.manifest import WindowRecord
from harness.record.memory import MemorySample, save_memory_sample
from harness.record.rundir import RunDirectory

_JOIN_S = 60.0


class Sampler(Protocol):
    """Reads the allocator's state in a stopped guest."""

    def sample(self, label: str, *, full: bool) -> MemorySample:
        """Stops the guest, reads, and lets it go on."""


class Ended(Protocol):
    """What a tracer says in the end."""

    @property
    def lost(self) -> int:
        """Events that are known to be lost."""


class Tracer(Protocol):
    """Traces one guest."""

    def begin(self, window: str, *, groups: Sequence[str] | None = None) -> str:
        """Begins to trace, into that directory below ``trace/``; its path in the run's."""

    def end(self) -> Ended:
        """Ends tracing and writes what is left; the directory is complete then."""


class Watched(Protocol):
    """Whoever waits for the load asks these checks."""

    def add_check(self, check: Callable[[], None]) -> None:
        """See ``MachineVitals``."""


class SampleShelf:
    """Where the memory samples of a run go, numbered through."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._taken = 0

    def keep(self, sample: MemorySample) -> str:
        """Writes the next sample; its path relative to the run directory."""
        window, _, moment = sample.label.rpartition("/")
        name = f"{self._taken:04d}-{window}-{moment}.npz"
        sample.meta["sequence"] = self._taken
        save_memory_sample(sample, self._directory.memory_path / name)
        self._taken += 1
        return f"{self._directory.memory_path.name}/{name}"


class Window:
    """One window on one guest. ``record`` grows as it goes; ``save`` writes it down each time.

    ``stem`` names the directory of its trace, ``groups`` are its probes'.
    """

    def __init__(
        self,
        record: WindowRecord,
        *,
        stem: str,
        groups: Sequence[str],
        sampler: Sampler,
        tracer: Tracer,
        shelf: SampleShelf,
        save: Callable[[], None],
        note: Callable[[str], None],
        every_ms: int = 0,
    ) -> None:
        self._record = record
        self._stem = stem
        self._groups = tuple(groups)
        self._sampler = sampler
        self._tracer = tracer
        self._shelf = shelf
        self._save = save
        self._note = note
        self._every_ms = every_ms

    def run(self, load: Callable[[], None], vitals: Watched) -> int:
        """Trace on, sample, load, sample, trace off; ``load`` returns when all of it has ended.

        Returns:
            How many events are known to be lost.

        Raises:
            MmscopeError: the guest, its memory or its trace failed; what was had is kept.
        """
        self._record.trace = self._tracer.begin(self._stem, groups=self._groups)
        with self._ended_on_error():
            self._save()
            self._record.quiet_begin = wait_quiet(self._sampler)
            self._sample("begin", full=True)
            with self._between(vitals):
                load()
            self._record.quiet_end = wait_quiet(self._sampler)
            self._sample("end", full=True)
        return self._tracer.end().lost

    @contextlib.contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        """Ends the trace when something fails; the first failure is the one that is told."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(MmscopeError, OSError):
                self._tracer.end()
            raise

    def _sample(self, moment: str, *, full: bool) -> None:
        sample = self._sampler.sample(f"{self._record.name}/{moment}", full=full)
        self._record.samples.append(self._shelf.keep(sample))
        if not sample.sound:
            problems = "; ".join(sample.meta["problems"])
            self._note(f"memory sample {sample.label} is not sound: {problems}")
        self._save()

    @contextlib.contextmanager
    def _between(self, vitals: Watched) -> Iterator[None]:
        """Takes light samples by time meanwhile. The load is watched through the vitals, which
        also tell when sampling has failed."""
        if not self._every_ms:
            yield
            return
        stop = threading.Event()
        failures: list[MmscopeError] = []

        def sample() -> None:
            number = 1
            while not stop.wait(self._every_ms / 1000):
                try:
                    self._sample(str(number), full=False)
                except MmscopeError as error:
                    failures.append(error)
                    return
                number += 1

        def check() -> None:
            if failures:
                raise failures[0]

        vitals.add_check(check)
        thread = threading.Thread(target=sample, name="light samples", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_JOIN_S)
        check()
