"""The unusable index of tables against the rule for one zone, and errors between states."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.model.fragmentation import unusable_index_milli
from analysis.replay.unusable import change_error, state_error, unusable_milli

rows = st.lists(st.integers(0, 1000), min_size=11, max_size=11)


@given(rows)
def test_tables_follow_the_rule_for_one_zone(free_blocks: list[int]) -> None:
    table = unusable_milli(np.array([free_blocks]))

    assert table.tolist() == [[unusable_index_milli(free_blocks, order) for order in range(11)]]


def test_an_error_is_the_largest_over_zones_and_orders() -> None:
    whole = np.array([[0, 0, 4], [0, 0, 4]])
    halves = np.array([[0, 0, 4], [0, 8, 0]])

    assert state_error(whole, whole) == 0
    assert state_error(whole, halves) == 1.0


def test_equal_changes_from_different_states_are_no_noise() -> None:
    whole, halves = np.array([[0, 0, 4]]), np.array([[0, 8, 0]])

    assert change_error(whole, halves, whole, halves) == 0
    assert change_error(whole, halves, halves, halves) == 1.0
