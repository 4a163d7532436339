"""Predicts a traced window: from its samples and events to what the model made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError
from analysis.model.compiled import layout as at
from analysis.model.compiled import view
from analysis.model.eras import era_of
from analysis.model.release import parse_release
from analysis.replay.allocator_state import (
    Comparison,
    Tunables,
    compare_allocator,
    load_allocator,
    migratetypes_of,
    zone_starts_of,
)
from analysis.replay.compiled_load import compare_compiled, load_compiled
from analysis.replay.compiled_prediction import CompiledPredictor
from analysis.replay.compiled_reader import read_steps
from analysis.replay.misses import Prediction
from analysis.replay.outcome import Prediction as Shown
from analysis.replay.pointers import addresses_of, pointers_of
from analysis.replay.prediction import Predictor
from analysis.replay.requests import RequestReader
from analysis.replay.step_arrays import ArraySteps
from analysis.replay.timeline import timeline
from analysis.replay.window import Window
from analysis.trace.events import EventStream

Engine = Literal["compiled", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionResult:
    """What the model made of a window, and how long it took."""

    prediction: Prediction
    comparison: Comparison
    """The model at the end beside the sample there."""
    nr_free: NDArray[np.int64]
    """The model's free blocks at the end, zone by order."""
    engine: Engine
    steps: int
    """Requests of all kinds."""
    load_s: float
    read_s: float
    """From events to steps."""
    predict_s: float

    @property
    def steps_per_s(self) -> float:
        """Requests of all kinds that were predicted in a second."""
        return self.steps / self.predict_s if self.predict_s else 0.0


def predict_window(
    begin: MemorySample,
    end: MemorySample,
    stream: EventStream,
    *,
    tunables: Tunables | None = None,
    engine: Engine = "compiled",
) -> PredictionResult:
    """Predicts what happened between two samples of a window.

    Raises:
        BundleError: a sample is not sound, does not say where it cuts the trace or where struct
            pages lie, or holds what the model cannot; or a CPU came online in the window.
    """
    _check(begin, end)
    rows = timeline(stream, int(begin.meta["trace_counter"]), int(end.meta["trace_counter"]))
    unknown = set(np.unique(rows["cpu"]).tolist()) - set(begin.cpus["cpu"].tolist())
    if unknown:
        raise BundleError(
            f"sample {begin.label}: it has no lists of cpu {min(unknown)}, which has events",
            fix="bring CPUs online before the window begins",
        )
    return (_compiled if engine == "compiled" else _plain)(begin, end, rows, tunables)


def show_prediction(window: Window) -> Shown | None:
    """Predicts an opened window for ``mmscope replay``; None when it cannot."""
    if window.stream is None or len(window.samples) < 2:
        return None
    try:
        result = predict_window(window.samples[0], window.samples[-1], window.stream)
    except BundleError:
        return None
    prediction, comparison = result.prediction, result.comparison
    return Shown(
        pfn_match_pct=prediction.match_pct,
        ambiguous=prediction.ambiguous,
        lists_in_order=comparison.lists_in_order,
        nr_free=result.nr_free,
        details={
            "requests": prediction.requests,
            "exact": prediction.exact,
            "given": prediction.given,
            "turned": prediction.turned,
            "misses": {miss.value: count for miss, count in prediction.misses.items()},
            "refills": prediction.refills,
            "refills_exact": prediction.refills_exact,
            "drains": prediction.drains,
            "drains_exact": prediction.drains_exact,
            "unexplained": dict(prediction.unexplained),
            "pages_differing": comparison.pages_differing,
            "requests_per_s": round(result.steps_per_s),
        },
    )


def _check(begin: MemorySample, end: MemorySample) -> None:
    for sample in (begin, end):
        if sample.meta["trace_counter"] is None:
            raise BundleError(
                f"sample {sample.label} does not say where it cuts the trace",
                fix="run the experiment again",
            )
    if begin.meta["vmemmap"] is None:
        raise BundleError(
            f"sample {begin.label} does not say where struct pages lie",
            fix="use a kernel with SPARSEMEM_VMEMMAP",
        )
    if not begin.meta["full"]:
        raise BundleError(
            f"sample {begin.label} does not say which pages are movable, and the model must know",
            fix="begin the window with a full sample",
        )


def _compiled(
    begin: MemorySample, end: MemorySample, rows: NDArray[np.void], tunables: Tunables | None
) -> PredictionResult:
    started = time.perf_counter()
    state = load_compiled(begin, tunables)
    loaded = time.perf_counter()
    steps = compiled_steps(begin, rows, state.huge_order)
    predictor = CompiledPredictor(state, migratetypes_of(begin), **pointers_of(begin))
    # What is compiled is compiled, or loaded, before it is timed.
    predictor.run_arrays(ArraySteps(rows=steps.rows[:0], blocks=steps.blocks))
    state.moves()
    read = time.perf_counter()
    prediction = predictor.run_arrays(steps)
    done = time.perf_counter()
    m = state.memory
    nr_free = np.zeros((int(m[at.ZONES]), int(m[at.MAX_ORDER]) + 1), np.int64)
    blocks = view.free_blocks(m)
    np.add.at(nr_free, (blocks[:, 0], blocks[:, 1]), 1)
    return PredictionResult(
        prediction=prediction,
        comparison=compare_compiled(state, end),
        nr_free=nr_free,
        engine="compiled",
        steps=len(steps),
        load_s=loaded - started,
        read_s=read - loaded,
        predict_s=done - read,
    )


def _plain(
    begin: MemorySample, end: MemorySample, rows: NDArray[np.void], tunables: Tunables | None
) -> PredictionResult:
    started = time.perf_counter()
    allocator = load_allocator(begin, tunables)
    loaded = time.perf_counter()
    steps = RequestReader(
        addresses_of(begin),
        huge_order=allocator.huge_order,
        era=allocator.era,
        zone_starts=zone_starts_of(begin),
    ).read(rows)
    read = time.perf_counter()
    predictor = Predictor(allocator, migratetypes_of(begin), **pointers_of(begin))
    prediction = predictor.run(steps)
    done = time.perf_counter()
    return PredictionResult(
        prediction=prediction,
        comparison=compare_allocator(allocator, end),
        nr_free=np.array([zone.free.free_blocks() for zone in allocator.zones], np.int64),
        engine="plain",
        steps=len(steps),
        load_s=loaded - started,
        read_s=read - loaded,
        predict_s=done - read,
    )


def compiled_steps(
    begin: MemorySample, rows: NDArray[np.void], huge_order: int | None
) -> ArraySteps:
    """The steps of a timeline that begins with a sample."""
    zones = begin.zones
    first = int(zones["start_pfn"].min())
    last = int((zones["start_pfn"] + zones["spanned_pages"]).max())
    return read_steps(
        rows,
        addresses_of(begin),
        pfns=range(first, last),
        huge_order=huge_order,
        era=era_of(parse_release(str(begin.meta["release"]))),
        zone_starts=zone_starts_of(begin),
    )
