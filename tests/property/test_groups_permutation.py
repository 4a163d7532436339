"""The permutation test does not depend on names, order or origin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.compare.groups.significance import least_p, permutation_test

RUNS = 4
_NUMBERS = st.integers(-1000, 1000).map(float)
_GROUP = arrays(np.float64, (RUNS, 3), elements=_NUMBERS)

Array = npt.NDArray[np.float64]


def p_of(first: Array, second: Array) -> Array:
    return permutation_test(first, second, np.ones(first.shape[1])).p


@given(_GROUP, _GROUP)
def test_exchanging_the_groups_changes_nothing(first: Array, second: Array) -> None:
    p = p_of(first, second)
    assert np.allclose(p, p_of(second, first))
    assert (p >= least_p(RUNS, RUNS) - 1e-12).all()
    assert (p <= 1.0).all()


@given(_GROUP, _GROUP, st.permutations(range(3)), st.permutations(range(RUNS)))
def test_order_of_measures_and_runs_changes_nothing(
    first: Array, second: Array, measures: list[int], runs: list[int]
) -> None:
    p = p_of(first, second)
    assert np.allclose(p[measures], p_of(first[runs][:, measures], second[:, measures]))


@given(_GROUP, _GROUP, st.integers(-500, 500))
def test_a_common_origin_changes_nothing(first: Array, second: Array, by: int) -> None:
    assert np.allclose(p_of(first, second), p_of(first + by, second + by))


@given(_GROUP, _GROUP)
def test_more_measures_never_make_one_more_certain(first: Array, second: Array) -> None:
    together = p_of(first, second)
    for column in range(3):
        alone = p_of(first[:, [column]], second[:, [column]])
        assert together[column] >= alone[0] - 1e-12
