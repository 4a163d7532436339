"""The instruments of a window on one guest: its memory sampler and its tracer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.experiment.window import Sampler, Tracer
from harness.kernel.package import Kernel
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest


class Instruments:
    """Sets the instruments up. Tests put others in their place."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @contextlib.contextmanager
    def on(
        self, guest: Guest, directory: RunDirectory, *, groups: tuple[str, ...], buffer_kb: int
    ) -> Iterator[tuple[Sampler, Tracer]]:
        """The instruments for this guest, until the window is over."""
        from harness.sampling.memory import MemorySampler
        from harness.sampling.trace import TraceSession

        with (
            MemorySampler(guest.machine, self._kernel) as sampler,
            TraceSession(guest, directory, groups=groups, buffer_kb=buffer_kb) as tracer,
        ):
            yield sampler, tracer
