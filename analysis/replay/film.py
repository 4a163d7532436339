"""A window as a film: what every page was at some moments, in the kernel and in a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import BundleError
from analysis.memory.geometry import Geometry, Zone, geometry_of
from analysis.memory.state import FreeState, free_state
from analysis.replay.engine import apply
from analysis.replay.events import operations
from analysis.replay.exact import start
from analysis.replay.flight import all_free, announced
from analysis.replay.model_snapshot import ModelSnapshot
from analysis.replay.page_use import FREE, PageUse, UseTracker, free_codes, use_in_sample
from analysis.replay.predicted_states import ModelStates
from analysis.replay.quiet import choose_moments
from analysis.replay.rules import rules_of
from analysis.replay.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One picture of the film; page indices are those of the film's ``Geometry``."""

    counter: int
    """Its place in the order of all events."""
    operations: int
    """How many times pages had moved since the window began."""
    sample: str | None
    """Label of the memory sample it was read from; None: exact replay tells it."""
    kernel: NDArray[np.uint8]
    """``PageUse`` of every page, or ``FREE`` + order."""
    nr_free: NDArray[np.int64]
    """The kernel's free blocks, zone by order."""
    model: NDArray[np.uint8] | None
    """As ``kernel``, of the model; equal where the model is right. None: nothing predicted it."""
    model_nr_free: NDArray[np.int64] | None

    @property
    def differing(self) -> NDArray[np.int64]:
        """Indices of the pages that the model has otherwise than the kernel."""
        if self.model is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.model != self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """All moments of a window, ascending; the first and the last are memory samples."""

    window: str
    kernel: str
    arch: str
    page_size_bytes: int
    geometry: Geometry
    moments: tuple[Moment, ...]
    curve_operations: NDArray[np.int64]
    """Places of ``curve``, as ``Moment.operations``, ascending."""
    curve: NDArray[np.int64]
    """The kernel's free blocks by exact replay, by place, zone and order."""

    @property
    def zones(self) -> tuple[Zone, ...]:
        return self.geometry.zones

    @property
    def orders(self) -> int:
        return self.geometry.max_order + 1

    @property
    def predicted(self) -> bool:
        """A model was asked too."""
        return self.moments[0].model is not None

    def pages(self, zone: Zone) -> slice:
        """A zone's pages, as indices."""
        first = zone.start_pfn - self.geometry.first_pfn
        return slice(first, first + zone.spanned_pages)

    def differing(self, moment: Moment, zone: Zone) -> int:
        """Pages of a zone that the model has otherwise than the kernel."""
        found = moment.differing
        pages = self.pages(zone)
        return int(((found >= pages.start) & (found < pages.stop)).sum())

    def touched(self, zone: Zone) -> bool:
        """Whether any page of the zone changed in the window, or differs."""
        first = self.moments[0].kernel[self.pages(zone)]
        return any(
            (moment.kernel[self.pages(zone)] != first).any() or self.differing(moment, zone)
            for moment in self.moments
        )


def film_window(
    window: Window, *, moments: int = 30, curve: int = 200, model: ModelStates | None = None
) -> Film:
    """Takes a film of an opened window: its memory samples, and ``moments`` in between.

    At a memory sample the kernel's free blocks and per-cpu lists are those read in guest memory,
    in between those of exact replay, which cannot tell per-cpu lists from pages taken in bulk:
    there ``OFF_LISTS`` is both, and the model differs only if it has such a page free.

    Raises:
        BundleError: events, release or cuts are not known, or the model cannot be asked.
    """
    release, cuts, stream = window.release, window.cuts, window.stream
    if release is None or cuts is None or stream is None or len(window.samples) < 2:
        raise BundleError(f"window {window.name}: it cannot be replayed, so there is no film of it")
    rules = rules_of(release)
    geometry = geometry_of(window.samples[0])
    states = [free_state(sample, geometry) for sample in window.samples]
    late = announced(stream, rules, geometry, cut=cuts[0])
    late = late[~all_free(late, states[0].free, geometry)]
    found = operations(stream, rules, geometry, begin=cuts[0], end=cuts[-1]).records
    records = np.concatenate([late, found]) if len(late) else found
    sampled = np.searchsorted(records["counter"], cuts, "right")
    sampled[0] = 0
    chosen = np.setdiff1d(choose_moments(records, moments), sampled)
    sample_at = dict(zip(sampled.tolist(), range(len(states)), strict=True))
    even = np.linspace(0, len(records), curve + 1).astype(np.int64)
    places = np.unique(np.concatenate([even, chosen, sampled]))
    pictured = np.unique(np.concatenate([chosen, sampled]))
    counters = [
        cuts[sample_at[place]] if place in sample_at else int(records["counter"][place - 1])
        for place in pictured.tolist()
    ]
    predicted = [None] * len(pictured) if model is None else model(window, geometry, counters)

    cpus = 1 + int(max((int(records["cpu"].max(initial=0)), len(window.samples[0].cpus))))
    arrays = start(geometry, states[0], rules, cpus=cpus)
    tracker = UseTracker(
        use_in_sample(window.samples[0], states[0], geometry), stream, geometry.first_pfn
    )
    series = np.zeros((len(places), *arrays.nr_free.shape), np.int64)
    taken: list[Moment] = []
    done = row = 0
    for place, counter, snapshot in zip(pictured.tolist(), counters, predicted, strict=True):
        last = int(np.searchsorted(places, place)) + 1
        apply(arrays, records, done, places[row:last], series[row:last])
        tracker.apply(records[done:place])
        done, row = place, last
        number = sample_at.get(place)
        read = None if number is None else states[number]
        kernel = _codes(read.head if read else arrays.head, tracker.use, read)
        taken.append(
            Moment(
                counter=counter,
                operations=place,
                sample=None if number is None else window.samples[number].label,
                kernel=kernel,
                nr_free=(read.nr_free if read else arrays.nr_free).copy(),
                model=None if snapshot is None else _model_codes(snapshot, kernel, bool(read)),
                model_nr_free=None if snapshot is None else snapshot.nr_free,
            )
        )
    return Film(
        window=window.name,
        kernel=window.kernel,
        arch=window.arch,
        page_size_bytes=int(window.samples[0].meta["page_size_bytes"]),
        geometry=geometry,
        moments=tuple(taken),
        curve_operations=places,
        curve=series,
    )


def _codes(
    head: NDArray[np.int8], use: NDArray[np.uint8], read: FreeState | None
) -> NDArray[np.uint8]:
    """Free blocks over the use of the other pages; a sample knows its per-cpu lists."""
    free = free_codes(head)
    codes = np.where(free > 0, free, use)
    if read is not None:
        codes[(codes == PageUse.OFF_LISTS) & ~read.on_pcp] = PageUse.IN_USE
        codes[read.on_pcp] = PageUse.OFF_LISTS
    return codes


def _model_codes(
    snapshot: ModelSnapshot, kernel: NDArray[np.uint8], sampled: bool
) -> NDArray[np.uint8]:
    """The model's pages. Of what for a page is used it knows nothing: there it is as the kernel."""
    free = free_codes(snapshot.head)
    model = np.where(free > 0, free, kernel)
    # In the kernel free, in the model not.
    model[(free == 0) & (kernel >= FREE)] = PageUse.IN_USE
    if sampled:
        model[(kernel == PageUse.OFF_LISTS) & (free == 0)] = PageUse.IN_USE
    model[snapshot.on_pcp] = PageUse.OFF_LISTS
    return model
