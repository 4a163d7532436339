"""Prediction with the compiled model against prediction with the plain one."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.model.allocator.allocator import Allocator
from analysis.model.compiled.layout import Memory
from analysis.model.compiled.pack import pack, page_rows
from analysis.replay.compiled_prediction import CompiledPredictor
from analysis.replay.compiled_state import CompiledState
from analysis.replay.misses import Prediction
from analysis.replay.prediction import Predictor
from analysis.replay.step_arrays import pack_steps
from tests.property.test_compiled_allocator import differences
from tests.random_window import TYPES, Trust, random_window

pytestmark = pytest.mark.timeout(900)
"""The first call compiles, which takes long on a machine that does much else."""


def unequal(one: Prediction, other: Prediction) -> dict[str, tuple[object, object]]:
    return {
        field.name: (getattr(one, field.name), getattr(other, field.name))
        for field in fields(Prediction)
        if getattr(one, field.name) != getattr(other, field.name)
    }


@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from(Trust))
@settings(max_examples=200, deadline=None)
def test_both_predict_the_same(seed: int, actions: int, trust: Trust) -> None:
    window = random_window(seed, actions, trust)
    allocator = window.begin
    state = CompiledState(pack(allocator), allocator.cpu_nodes)
    zones, nodes = window.zone_pointers, window.node_pointers
    plain = Predictor(allocator, TYPES, zone_pointers=zones, node_pointers=nodes)
    compiled = CompiledPredictor(state, TYPES, zone_pointers=zones, node_pointers=nodes)
    arrays = pack_steps(window.steps)
    expected, found = plain.run(window.steps), compiled.run_arrays(arrays)
    assert unequal(expected, found) == {}
    assert differences(allocator, state.memory) == []
    assert pages_in_two_places(allocator) == set()


@given(st.integers(0, 2**32), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_what_a_model_did_is_predicted_without_a_miss(seed: int, actions: int) -> None:
    window = random_window(seed, actions, Trust.FAITHFUL)
    state = CompiledState(pack(window.begin), window.begin.cpu_nodes)
    predictor = CompiledPredictor(
        state, TYPES, zone_pointers=window.zone_pointers, node_pointers=window.node_pointers
    )
    result = predictor.run_arrays(pack_steps(window.steps))
    assert (result.exact, result.misses, result.unexplained) == (result.requests, {}, {})
    assert (result.refills_exact, result.drains_exact) == (result.refills, result.drains)
    # Which CPU acted last in a zone is not told by what changed nothing.
    left = [found for found in differences(window.kernel, state.memory) if " cpu: " not in found]
    assert left == []


@given(st.integers(0, 2**32), st.lists(st.integers(0, 900), max_size=4), st.sampled_from(Trust))
@settings(max_examples=50, deadline=None)
def test_stopping_on_the_way_changes_nothing(seed: int, counters: list[int], trust: Trust) -> None:
    results: list[Prediction] = []
    memories: list[Memory] = []
    for stops in ([], sorted(counters)):
        window = random_window(seed, 200, trust)
        state = CompiledState(pack(window.begin), window.begin.cpu_nodes)
        predictor = CompiledPredictor(state, TYPES, zone_pointers=window.zone_pointers)
        predictor.begin(pack_steps(window.steps))
        for counter in stops:
            predictor.advance(counter)
        results.append(predictor.advance())
        memories.append(state.memory)
    assert unequal(*results) == {}
    assert np.array_equal(page_rows(memories[0]), page_rows(memories[1]))


def pages_in_two_places(allocator: Allocator) -> set[int]:
    """Pages that are on two lists of any kind at once."""
    seen: set[int] = set()
    twice: set[int] = set()
    blocks = [(block.pfn, block.order) for zone in allocator.zones for block in zone.free.blocks()]
    for pcp in allocator.pcps.values():
        for pindex, pages in enumerate(pcp.lists):
            blocks += [(pfn, pcp.order(pindex)) for pfn in pages]
    for pfn, order in blocks:
        pages_of_block = set(range(pfn, pfn + (1 << order)))
        twice |= seen & pages_of_block
        seen |= pages_of_block
    return twice
