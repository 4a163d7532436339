"""Instruments that read and trace nothing, but remember in which order they were asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.experiment.instruments import Instruments
from harness.experiment.window import Sampler, Tracer
from harness.record.memory import (
    AREA,
    BLOCK,
    CPU,
    META_KEYS,
    PAGEBLOCK,
    PCP,
    PCP_PAGE,
    ZONE,
    ZONELIST,
    MemorySample,
)
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest


def empty_sample(
    label: str, *, free_pfns: Sequence[int] = (), counter: int | None = None
) -> MemorySample:
    """A sample without zones, with these free pages and this value of the event counter."""
    blocks = np.zeros(len(free_pfns), BLOCK)
    blocks["pfn"] = free_pfns
    values: dict[str, object] = dict.fromkeys(META_KEYS, "")
    meta = values | {
        "schema": 1,
        "label": label,
        "trace_counter": counter,
        "sound": True,
        "problems": [],
    }
    return MemorySample(
        meta=meta,
        zones=np.zeros(0, ZONE),
        areas=np.zeros(0, AREA),
        blocks=blocks,
        pcps=np.zeros(0, PCP),
        pcp_pages=np.zeros(0, PCP_PAGE),
        pageblocks=np.zeros(0, PAGEBLOCK),
        zonelists=np.zeros(0, ZONELIST),
        cpus=np.zeros(0, CPU),
    )


class Journal:
    """What was asked, in order; the entry named ``failing`` raises ``error`` instead."""

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        self.entries: list[str] = []
        self._failing = failing
        self._error = error

    def note(self, entry: str) -> None:
        self.entries.append(entry)
        if entry == self._failing and self._error is not None:
            raise self._error


class FakeSampler:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def sample(self, label: str, *, full: bool) -> MemorySample:
        if not label.startswith("quiet/"):
            self._journal.note(f"sample {label}{' full' if full else ''}")
        return empty_sample(label)


@dataclass(frozen=True)
class Lost:
    lost: int


class FakeTracer:
    """``lost``: what the windows to come lose, in their order; after that none does."""

    def __init__(self, journal: Journal, lost: list[int] | None = None) -> None:
        self._journal = journal
        self._lost = [] if lost is None else lost

    def begin(self, window: str, *, groups: Sequence[str] | None = None) -> str:
        self._journal.note(f"begin {window}")
        return f"trace/{window}"

    def end(self) -> Lost:
        self._journal.note("end")
        return Lost(self._lost.pop(0) if self._lost else 0)


class FakeInstruments(Instruments):
    """The same fakes for every guest."""

    def __init__(self, journal: Journal, lost: Sequence[int] = ()) -> None:
        self.journal = journal
        self.lost = list(lost)

    def prepare(self, guest: Guest) -> object:
        self.journal.note("prepare")
        return "prepared"

    @contextlib.contextmanager
    def on(
        self, guest: Guest, directory: RunDirectory, prepared: object = None
    ) -> Iterator[tuple[Sampler, Tracer]]:
        self.journal.note(f"on {'a clone' if prepared else 'the machine'}")
        yield FakeSampler(self.journal), FakeTracer(self.journal, self.lost)
