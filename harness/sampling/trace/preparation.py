"""What is set up in a guest before it can be traced, and what became of it.

It is kept apart from the session, because a guest that was prepared and then saved need not be
prepared again in the clones made of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.errors import MmscopeError
from harness.sampling.trace import instance
from harness.sampling.trace.events import EVENTS
from harness.sampling.trace.instance import GuestFiles, Setup
from harness.sampling.trace.probes import ALWAYS
from harness.sampling.trace.symbols import (
    PlannedProbe,
    functions_of,
    parse_release,
    plan_probes,
    probes_of,
)

BUFFER_KB = 8192
"""Of each CPU's ring: a quarter of a million events, more than two seconds at 100,000 a second,
which the reader may be late."""


class TracedAgent(GuestFiles, Protocol):
    @property
    def hello(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Rings that are there and probes that are set, with recording off."""

    groups: tuple[str, ...]
    """Of the probes; all of them are switched on."""
    planned: tuple[PlannedProbe, ...]
    setup: Setup
    set_probes: tuple[str, ...]
    """Names of the probes that the kernel took."""
    formats: Mapping[str, bytes]
    """Path below ``formats/`` → the kernel's description."""


def prepare_trace(
    agent: TracedAgent,
    *,
    groups: Sequence[str] = ALWAYS,
    events: Sequence[str] = EVENTS,
    buffer_kb: int = BUFFER_KB,
) -> Preparation:
    """Defines probes and makes the rings.

    Raises:
        SessionError: the guest has no tracefs, or it does not do what it should.
    """
    probes = probes_of(groups)
    symbols = instance.read_symbols(agent, functions_of(probes))
    planned = plan_probes(probes, symbols, parse_release(agent.hello["release"]))
    try:
        setup = instance.set_up(agent, tuple(events), planned, buffer_kb)
        usable = [probe.name for probe in planned if probe.symbol is not None]
        names = tuple(name for name in usable if name not in setup.probe_errors)
        formats = instance.read_formats(agent, setup, names)
    except BaseException:
        with contextlib.suppress(MmscopeError):
            instance.take_down(agent)
        raise
    return Preparation(
        groups=tuple(groups),
        planned=tuple(planned),
        setup=setup,
        set_probes=names,
        formats=formats,
    )
