"""The allocator model's state at chosen moments of a window, while it picks pages for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.errors import BundleError
from analysis.memory.geometry import Geometry
from analysis.model.allocator.allocator import Allocator
from analysis.model.compiled.pack import pack
from analysis.replay.allocator_state import load_allocator, migratetypes_of, zone_starts_of
from analysis.replay.compiled_prediction import CompiledPredictor
from analysis.replay.compiled_reader import read_steps
from analysis.replay.compiled_state import CompiledState
from analysis.replay.model_snapshot import ModelSnapshot, snapshot_of, snapshot_of_memory
from analysis.replay.pointers import addresses_of, pointers_of
from analysis.replay.prediction import Predictor
from analysis.replay.requests import RequestReader
from analysis.replay.step_arrays import ArraySteps
from analysis.replay.timeline import PageAddresses, timeline
from analysis.replay.window import Window

ModelStates = Callable[[Window, Geometry, Sequence[int]], Sequence[ModelSnapshot]]
"""A model's states in an opened window, each after all that took effect up to a counter, the
counters ascending. Raises BundleError when it cannot predict the window."""


def predicted_states(
    window: Window, geometry: Geometry, counters: Sequence[int]
) -> list[ModelSnapshot]:
    """``ModelStates`` of the compiled model. Moments should be quiet ones.

    Raises:
        BundleError: the first sample is light or not sound, or holds what the model does not know.
    """
    model = _model(window)
    state = CompiledState(pack(model), model.cpu_nodes)
    predictor = CompiledPredictor(
        state, migratetypes_of(window.samples[0]), **pointers_of(window.samples[0])
    )
    states: list[ModelSnapshot] = []
    rows, addresses = _timeline(window, counters[-1])
    steps = read_steps(
        rows,
        addresses,
        pfns=range(geometry.first_pfn, geometry.first_pfn + geometry.pages),
        huge_order=model.huge_order,
        era=model.era,
        zone_starts=zone_starts_of(window.samples[0]),
    )
    for part in _parts(steps.rows["effect"], counters):
        predictor.run_arrays(ArraySteps(rows=steps.rows[part], blocks=steps.blocks))
        states.append(snapshot_of_memory(state.memory, geometry))
    return states


def plainly_predicted_states(
    window: Window, geometry: Geometry, counters: Sequence[int]
) -> list[ModelSnapshot]:
    """The same of the plain model, some hundred times slower."""
    model = _model(window)
    predictor = Predictor(
        model, migratetypes_of(window.samples[0]), **pointers_of(window.samples[0])
    )
    states: list[ModelSnapshot] = []
    rows, addresses = _timeline(window, counters[-1])
    reader = RequestReader(
        addresses,
        huge_order=model.huge_order,
        era=model.era,
        zone_starts=zone_starts_of(window.samples[0]),
    )
    steps = reader.read(rows)
    for part in _parts([step.effect for step in steps], counters):
        predictor.run(steps[part])
        states.append(snapshot_of(model, geometry))
    return states


def _model(window: Window) -> Allocator:
    sample = window.samples[0]
    if not sample.meta["full"]:
        raise BundleError(
            f"memory sample {sample.label}: it does not say which pages are movable, and the "
            "model must know",
            fix="begin the window with a full sample",
        )
    return load_allocator(sample)


def _timeline(window: Window, end: int) -> tuple[NDArray[np.void], PageAddresses]:
    """The window's events up to a counter, and where struct pages lie."""
    sample = window.samples[0]
    assert window.stream is not None
    begin = int(sample.meta["trace_counter"])
    return timeline(window.stream, begin, end), addresses_of(sample)


def _parts(effects: Sequence[int] | NDArray[np.int64], counters: Sequence[int]) -> list[slice]:
    """Steps that took effect up to each counter and after the one before."""
    ends = np.searchsorted(effects, counters, "right").tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
