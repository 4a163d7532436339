"""What was asked of a kernel's allocator in one window, with the state it was asked in.

Everything that prediction and counterfactuals need, and nothing of a run directory: it comes from
an opened window (``stream_of_window``) or from files (``analysis.replay.stream_files``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError
from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.eras import era_of
from analysis.model.freelist import Migratetype
from analysis.model.release import parse_release
from analysis.replay.allocator_state import (
    Comparison,
    compare_allocator,
    load_allocator,
    zone_starts_of,
)
from analysis.replay.allocator_state import migratetypes_of as types_of
from analysis.replay.exact import Timeline
from analysis.replay.misses import Prediction
from analysis.replay.model_state import PlainState
from analysis.replay.open_order import SEARCH
from analysis.replay.pointers import addresses_of, pointers_of
from analysis.replay.prediction import Predictor
from analysis.replay.requests import RequestReader
from analysis.replay.step import Kind, Step
from analysis.replay.timeline import timeline
from analysis.replay.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStream:
    """The requests of a window, and the allocator's state at its ends."""

    name: str
    """Of the window."""
    begin: MemorySample
    end: MemorySample | None
    """None: nobody looked."""
    steps: Sequence[Step]
    """By effect; those between ``begin`` and ``end``."""
    zone_pointers: Mapping[int, int]
    """What a step names a zone by → number of the zone in ``begin``."""
    node_pointers: Mapping[int, int]
    """What a step names a node by → the node."""
    real: Timeline | None
    """Free blocks meanwhile, from exact replay; None where that could not be done."""

    @property
    def kernel(self) -> str:
        return str(self.begin.meta["release"])

    @property
    def arch(self) -> str:
        return str(self.begin.meta["arch"])

    @property
    def page_shift(self) -> int:
        return int(self.begin.meta["page_size_bytes"]).bit_length() - 1

    def allocator(self) -> Allocator:
        """The model in the state at the begin.

        Raises:
            BundleError: the sample is not sound, or holds what the model cannot.
        """
        return load_allocator(self.begin)


def stream_of_window(window: Window, real: Timeline | None = None) -> RequestStream:
    """The requests of an opened window.

    Raises:
        BundleError: it lacks samples or a readable trace, or they do not say where they meet.
    """
    cuts = window.cuts
    if window.stream is None or len(window.samples) < 2 or cuts is None:
        reasons = "; ".join(window.doubts) or "it has not two memory samples in order"
        raise BundleError(f"window {window.name}: {reasons}", fix="run the experiment again")
    begin, end = window.samples[0], window.samples[-1]
    if begin.meta["vmemmap"] is None:
        raise BundleError(
            f"window {window.name}: its samples do not say where struct pages lie",
            fix="use a kernel with SPARSEMEM_VMEMMAP",
        )
    era = era_of(parse_release(str(begin.meta["release"])))
    reader = RequestReader(
        addresses_of(begin),
        huge_order=int(begin.meta["pageblock_order"]),
        era=era,
        zone_starts=zone_starts_of(begin),
    )
    steps = reader.read(timeline(window.stream, cuts[0], cuts[-1]))
    for number, step in enumerate(steps):
        step.number = number
    pointers = pointers_of(begin)
    return RequestStream(
        name=window.name,
        begin=begin,
        end=end,
        steps=steps,
        zone_pointers=pointers["zone_pointers"],
        node_pointers=pointers["node_pointers"],
        real=real,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A prediction that was set right where it missed, and what it found out on the way."""

    result: Prediction
    comparison: Comparison | None
    """With the sample at the end, if there is one."""
    turns: NDArray[np.int64]
    """Numbers of the steps in the order of contexts that fits what the kernel answered."""
    bulk_pages: Mapping[int, tuple[int, ...]]
    """Number of a bulk request → its pages, which no event tells."""
    nodes: Mapping[int, int]
    """Number of an allocation → the node with room for dirty pages, where not the one asked."""


def follow(stream: RequestStream) -> Followed:
    """Predicts the stream with the plain model.

    Raises:
        BundleError: the begin cannot be loaded.
    """
    state = _NotingState(stream.allocator())
    follower = _Follower(
        state,
        types_of(stream.begin),
        zone_pointers=stream.zone_pointers,
        node_pointers=stream.node_pointers,
        page_shift=stream.page_shift,
    )
    asked = [step.node for step in stream.steps]
    result = follower.run(stream.steps)
    end = stream.end
    nodes: dict[int, int] = {}
    for step, node in zip(stream.steps, asked, strict=True):
        if step.node != node:
            nodes[step.number] = step.node
            step.node = node
    return Followed(
        result=result,
        comparison=None if end is None else compare_allocator(state.allocator, end),
        turns=np.array(follower.turns, np.int64),
        bulk_pages=follower.bulk_pages,
        nodes=nodes,
    )


class _NotingState(PlainState):
    """Remembers which pages the last bulk request got."""

    def __init__(self, allocator: Allocator) -> None:
        super().__init__(allocator)
        self.last_bulk: list[int] = []

    def allocate_bulk(self, request: Request, wanted: int) -> int:
        self.last_bulk = self.allocator.allocate_bulk(request, wanted)
        return len(self.last_bulk)


@dataclass(slots=True)
class _Order:
    """Numbers of steps in the order of their turns."""

    turns: list[int] = field(default_factory=list)

    def place(self, number: int) -> int:
        """Where a step is that had its turn not long ago."""
        for at in range(len(self.turns) - 1, -1, -1):
            if self.turns[at] == number:
                return at
        raise ValueError(f"step {number} had no turn")

    def move(self, number: int, before: int) -> None:
        """Gives a step its turn before another that comes earlier."""
        at = self.place(before)
        self.turns.pop(self.place(number))
        self.turns.insert(at, number)


class _Follower(Predictor):
    """Writes down the order of contexts that the prediction settles on."""

    def __init__(
        self,
        model: _NotingState,
        migratetypes: Sequence[Migratetype],
        *,
        zone_pointers: Mapping[int, int],
        node_pointers: Mapping[int, int],
        page_shift: int,
    ) -> None:
        super().__init__(
            model,
            migratetypes,
            zone_pointers=zone_pointers,
            node_pointers=node_pointers,
            page_shift=page_shift,
        )
        self._noting = model
        self._order = _Order()
        self._placed: set[int] = set()
        """Numbers of steps that had their turn before another's."""
        self.bulk_pages: dict[int, tuple[int, ...]] = {}

    @property
    def turns(self) -> list[int]:
        return self._order.turns

    def _take(self, step: Step) -> None:
        late = list(self._late)
        if late:
            self._finish_late(step)
            for put_off in late:
                if put_off not in self._late:
                    self.turns.append(put_off[0].number)
            late = list(self._late)
        if not (step.kind is Kind.ALLOCATE and self._early[step.number]):
            self.turns.append(step.number)
        self._act[step.kind](step)
        for put_off in self._late:
            if put_off not in late:
                self.turns.pop(self._order.place(put_off[0].number))

    def _bulk(self, step: Step) -> None:
        self._noting.last_bulk = []
        super()._bulk(step)
        self.bulk_pages[step.number] = tuple(self._noting.last_bulk)

    def _reorder(self, step: Step, choice: Choice) -> Step | None:
        place = choice.zone, step.cpu, self._pindex(step)
        later = [choice.pfn]
        if self._freed_after(step, choice.pfn) and self.state.listed(*place, step.pfn):
            later += self.state.above(*place, step.pfn)
        other = super()._reorder(step, choice)
        if other is step:
            numbers = [number for pfn in later if (number := self._notes.last_free(pfn)) >= 0]
            if numbers:
                first = min(numbers, key=self._order.place)
                self._order.move(step.number, first)
        elif other is not None and other.kind is Kind.ALLOCATE:
            self._place_before(step, other)
        return other

    def _let_finish(self, step: Step) -> bool:
        done = super()._let_finish(step)
        if done:
            for other in self._steps.interrupted_by(step, SEARCH):
                if self._early[other.number] and other.number not in self._placed:
                    self._place_before(step, other)
        return done

    def _place_before(self, step: Step, other: Step) -> None:
        self._placed.add(other.number)
        self.turns.insert(self._order.place(step.number), other.number)
