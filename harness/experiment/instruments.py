"""The instruments of a window on one guest: its memory sampler and its tracer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from harness.experiment.window import Sampler, Tracer
from harness.kernel.package import Kernel
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.sampling.trace import TraceSession, prepare_trace
from harness.session.guest import Guest


class Instruments:
    """Sets the instruments up. Tests put others in their place.

    ``groups`` are those of all windows, ``buffer_kb`` each CPU's ring.
    """

    def __init__(self, kernel: Kernel, *, groups: Sequence[str], buffer_kb: int) -> None:
        self._kernel = kernel
        self._groups = tuple(groups)
        self._buffer_kb = buffer_kb

    def prepare(self, guest: Guest) -> Any:
        """Does before the guest is saved what then need not be done in each of its clones."""
        return prepare_trace(guest.agent, groups=self._groups, buffer_kb=self._buffer_kb)

    @contextlib.contextmanager
    def on(
        self, guest: Guest, directory: RunDirectory, prepared: Any = None
    ) -> Iterator[tuple[Sampler, Tracer]]:
        """The instruments for this guest, until the window is over; ``prepared`` is what
        ``prepare`` gave for the guest that this one is a clone of."""
        if prepared is None:
            session = TraceSession(guest, directory, groups=self._groups, buffer_kb=self._buffer_kb)
        else:
            session = TraceSession.on_clone(guest, directory, prepared)
        with MemorySampler(guest.machine, self._kernel) as sampler, session as tracer:
            yield sampler, tracer
