"""Exact replay of a window: state at its first sample + events = state at every later sample."""

from __future__ import annotations

import copy
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import BundleError
from analysis.memory.geometry import Geometry, Zone, geometry_of
from analysis.memory.state import FreeState, free_state
from analysis.replay.comparison import Comparison, compare
from analysis.replay.engine import FREE, OUT, Arrays, apply
from analysis.replay.events import operations
from analysis.replay.flight import all_free, announced
from analysis.replay.ledger import ENTRY, KINDS, LISTED, Entry, Ledger, ledger
from analysis.replay.operation import OPERATION, Op
from analysis.replay.parts import compile_merge
from analysis.replay.rules import Rules, rules_of
from analysis.replay.window import Window
from analysis.trace import EventStream
from analysis.verdict import Verdict

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Free blocks over a window, as replayed."""

    counter: NDArray[np.int64]
    """Moments in the order of events, ascending."""
    nr_free: NDArray[np.int64]
    """By moment, zone and order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A window that could be replayed."""

    geometry: Geometry
    begin: NDArray[np.int64]
    """Free blocks at the first sample, zone by order."""
    comparisons: tuple[Comparison, ...]
    """At every later sample, in order; the last is the window's end."""
    ledger: Ledger
    operations: int
    replay_s: float
    """Time to order the events and replay them, without reading files and comparing."""
    timeline: Timeline

    @property
    def zones(self) -> tuple[Zone, ...]:
        return self.geometry.zones

    @property
    def end(self) -> Comparison:
        return self.comparisons[-1]

    @property
    def pages_differing(self) -> int:
        """Pages that differ at the sample where most do."""
        return max(int(one.pages_differing.sum()) for one in self.comparisons)

    @property
    def blocks_differing(self) -> int:
        """Blocks that differ at the sample where most do."""
        return max(int(one.blocks_differing.sum()) for one in self.comparisons)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReplay:
    """What became of a window. ``replay`` is None when there was nothing to replay."""

    window: Window
    replay: Replay | None
    doubts: tuple[str, ...]
    """Why the verdict is unknown; the window's own and what replay found."""

    @property
    def verdict(self) -> Verdict:
        """Holds only without any doubt, difference or contradiction."""
        if self.doubts or self.replay is None:
            return Verdict.UNKNOWN
        exact = all(one.is_exact for one in self.replay.comparisons)
        if exact and not self.replay.ledger.unexplained:
            return Verdict.HOLDS
        return Verdict.FAILS

    @property
    def why(self) -> str:
        """Reasons of the verdict; empty when it holds."""
        reasons = [*self.doubts, *(_findings(self.replay) if self.replay else ())]
        if len(reasons) > _NAMED:
            reasons = [*reasons[:_NAMED], f"and {len(reasons) - _NAMED} more reasons"]
        return "; ".join(reasons)


def replay_window(window: Window, *, moments: int = 200) -> WindowReplay:
    """Replays a window and compares it with its samples; never raises for what was recorded."""
    doubts = list(window.doubts)
    replay: Replay | None = None
    release = window.release
    if window.stream is not None and release is not None and len(window.samples) > 1:
        cuts = window.cuts
        if cuts is not None:
            try:
                replay = _replay(window, rules_of(release), cuts, moments, doubts)
            except BundleError as error:
                doubts.append(error.message)
    if replay is None and not doubts:
        doubts.append("it could not be replayed")
    return WindowReplay(window=window, replay=replay, doubts=tuple(dict.fromkeys(doubts)))


def _replay(
    window: Window, rules: Rules, cuts: tuple[int, ...], moments: int, doubts: list[str]
) -> Replay:
    assert window.stream is not None
    geometry = geometry_of(window.samples[0])
    states = [free_state(sample, geometry) for sample in window.samples]
    arrays = start(geometry, states[0], rules, cpus=_cpu_numbers(window))
    warm_up(arrays)
    begin_s = time.perf_counter()
    found = operations(window.stream, rules, geometry, begin=cuts[0], end=cuts[-1])
    doubts += found.problems
    late = announced(window.stream, rules, geometry, cut=cuts[0])
    late = late[~all_free(late, states[0].free, geometry)]
    records = np.concatenate([late, found.records]) if len(late) else found.records
    counters = np.ascontiguousarray(records["counter"])
    cut_at = np.searchsorted(counters, cuts, "right")
    even = np.linspace(0, len(records), moments + 1).astype(np.int64)
    stops = np.unique(np.concatenate([even, cut_at]))
    series = np.zeros((len(stops), *arrays.nr_free.shape), np.int64)
    replay_s = time.perf_counter() - begin_s
    comparisons: list[Comparison] = []
    done = first = 0
    for number in range(1, len(cuts)):
        last = int(np.searchsorted(stops, cut_at[number])) + 1
        begin_s = time.perf_counter()
        apply(arrays, records, done, stops[first:last], series[first:last])
        replay_s += time.perf_counter() - begin_s
        done, first = int(cut_at[number]), last
        here = _Moment(
            label=window.samples[number].label,
            cut=cuts[number],
            state=states[number],
            stream=window.stream,
        )
        comparisons.append(_compare(arrays, here, rules, geometry))
    return Replay(
        geometry=geometry,
        begin=states[0].nr_free,
        comparisons=tuple(comparisons),
        ledger=ledger(arrays.counts, arrays.entries[: arrays.used[0]]),
        operations=len(records),
        replay_s=replay_s,
        timeline=Timeline(counter=_moments(counters, stops, cuts), nr_free=series),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """A memory sample that a prediction is held against."""

    label: str
    cut: int
    state: FreeState
    stream: EventStream


def _compare(arrays: Arrays, here: _Moment, rules: Rules, geometry: Geometry) -> Comparison:
    """Compares; frees that were announced and had not yet happened are taken back."""
    now = _held_against(arrays, here, geometry)
    if now.is_exact:
        return now
    late = announced(here.stream, rules, geometry, cut=here.cut)
    free = all_free(late, arrays.status == FREE, geometry)
    late = late[free & ~all_free(late, here.state.free, geometry)]
    if not len(late):
        return now
    late["op"] = Op.TAKE
    without = copy.deepcopy(arrays)
    apply(without, late, 0, np.array([len(late)]), np.zeros((1, *arrays.nr_free.shape), np.int64))
    pages = int(np.left_shift(np.int64(1), late["order"].astype(np.int64)).sum())
    return dataclasses.replace(_held_against(without, here, geometry), in_flight=pages)


def _held_against(arrays: Arrays, here: _Moment, geometry: Geometry) -> Comparison:
    return compare(
        arrays.head,
        arrays.status == FREE,
        arrays.nr_free,
        here.state,
        geometry,
        label=here.label,
        counter=here.cut,
    )


def warm_up(arrays: Arrays) -> None:
    """Compiles what replay runs, so that no measured time holds it; changes nothing."""
    no_stops = np.zeros(0, np.int64)
    apply(arrays, np.zeros(1, OPERATION), 0, no_stops, np.zeros((0, *arrays.nr_free.shape), int))
    compile_merge()


def start(geometry: Geometry, state: FreeState, rules: Rules, *, cpus: int) -> Arrays:
    """Replay's arrays in the state of a memory sample; ``cpus``: one above the largest number."""
    status = np.zeros(geometry.pages, np.uint8)
    status[state.on_pcp] = OUT
    status[state.free] = FREE
    return Arrays(
        first_pfn=geometry.first_pfn,
        max_order=geometry.max_order,
        pageblock_order=geometry.pageblock_order,
        pcp_types=geometry.pcp_types,
        largest_give=geometry.pageblock_order if rules.splits_large else geometry.max_order,
        isolate=geometry.isolate,
        retypes=rules.retypes,
        zone_of=geometry.zone_of,
        status=status,
        head=state.head.copy(),
        block_type=state.block_type.copy(),
        true_type=state.true_type.copy(),
        nr_free=state.free_cells.copy(),
        last_taken=np.full(cpus, -1, np.int64),
        counts=np.zeros(KINDS, np.int64),
        entries=np.zeros(LISTED * KINDS, ENTRY),
        used=np.zeros(1 + KINDS, np.int64),
        listed=LISTED,
    )


def _cpu_numbers(window: Window) -> int:
    assert window.stream is not None
    return 1 + max((int(array["cpu"].max()) for array in window.stream.arrays.values()), default=0)


def _moments(
    counters: NDArray[np.int64], stops: NDArray[np.int64], cuts: tuple[int, ...]
) -> NDArray[np.int64]:
    """Counter at which each stop was reached: that of the operation before it."""
    if not len(counters):
        return np.full(len(stops), cuts[0], np.int64)
    at = np.where(stops > 0, counters[np.maximum(stops, 1) - 1], cuts[0])
    return np.asarray(at, np.int64)


def _findings(replay: Replay) -> list[str]:
    """What the replay itself found, a sentence each."""
    found: list[str] = []
    for one in replay.comparisons:
        pages, blocks = int(one.pages_differing.sum()), int(one.blocks_differing.sum())
        counts = int((one.predicted != one.observed).sum())
        if pages:
            first = one.pages[0]
            state = "free" if first.predicted_free else "not free"
            found.append(
                f"{one.label}: {pages} pages differ, first {first.pfn:#x} held for {state}"
            )
        elif blocks or counts:
            found.append(f"{one.label}: {blocks} blocks differ and {counts} counts of free blocks")
    first_entry: Entry | None = replay.ledger.first_unexplained()
    if first_entry is not None:
        found.append(f"{replay.ledger.unexplained} events unexplained, first {first_entry}")
    return found
