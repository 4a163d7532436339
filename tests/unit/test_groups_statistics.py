"""The statistics of comparisons: calibrated on simulated runs, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from analysis.compare.groups.effect import CONFIDENCE, effects, noise, t_quantile, t_share
from analysis.compare.groups.pair import ALPHA
from analysis.compare.groups.significance import (
    WAYS_MAX,
    least_p,
    permutation_test,
    repeats_needed,
)

RUNS = 5
MEASURES = 72
TRIALS = 400
SPREAD = 5.0

Array = npt.NDArray[np.float64]


def runs_of_one_configuration(random: np.random.Generator, runs: int = RUNS) -> Array:
    """What measures look like: correlated and not, skewed, small counts, two-valued, constant."""
    quarter = MEASURES // 4
    shared = random.normal(size=(runs, 1))
    own = random.normal(size=(runs, quarter))
    return np.concatenate(
        [
            100 + SPREAD * (0.6 * shared + 0.8 * own),
            np.exp(random.normal(3, 0.5, size=(runs, quarter))),
            random.poisson(2, size=(runs, quarter)).astype(float),
            np.where(random.random((runs, quarter - 4)) < 0.3, 1000.0, 0.0),
            np.full((runs, 4), 42.0),
        ],
        axis=1,
    )


def floors(first: Array, second: Array) -> Array:
    mean = np.abs(np.concatenate([first, second])).mean(axis=0)
    least: Array = np.maximum(3.0, 0.01 * mean)
    return least


def adjusted(first: Array, second: Array) -> Array:
    return permutation_test(first, second, floors(first, second)).p


def test_a_configuration_against_itself_gives_a_false_finding_in_one_of_twenty_at_most() -> None:
    random = np.random.default_rng(7)
    false = sum(
        bool(
            (
                adjusted(runs_of_one_configuration(random), runs_of_one_configuration(random))
                <= ALPHA
            ).any()
        )
        for _ in range(TRIALS)
    )
    # The bound, and three standard errors of counting so few trials.
    assert false / TRIALS <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)
    # Smaller still by the terms that keep two-valued counters quiet, but the test does fire.
    uncorrected = permutation_test(
        np.arange(5.0).reshape(5, 1), np.arange(10.0, 15.0).reshape(5, 1), np.ones(1)
    )
    assert uncorrected.p[0] == least_p(RUNS, RUNS) <= ALPHA


@pytest.mark.parametrize(("spreads", "share"), [(5.0, 0.8), (8.0, 0.95)])
def test_real_differences_are_found_among_many_measures(spreads: float, share: float) -> None:
    random = np.random.default_rng(8)
    real = 6
    found = false = 0.0
    trials = 120
    for _ in range(trials):
        first, second = runs_of_one_configuration(random), runs_of_one_configuration(random)
        second[:, :real] += spreads * SPREAD
        p = adjusted(first, second)
        found += float((p[:real] <= ALPHA).mean())
        false += bool((p[real:] <= ALPHA).any())
    assert found / trials >= share
    assert false / trials <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_bonferroni_could_find_nothing_here() -> None:
    assert MEASURES * least_p(RUNS, RUNS) > ALPHA


@pytest.mark.parametrize("kind", ["normal", "skewed", "unequal"])
def test_intervals_cover_the_truth_as_often_as_they_say(kind: str) -> None:
    random = np.random.default_rng(9)
    many = 1000
    if kind == "skewed":
        first, second = np.exp(random.normal(3, 0.5, size=(2, RUNS, many)))
    else:
        first = random.normal(100, 5, size=(RUNS, many))
        second = random.normal(100, 30 if kind == "unequal" else 5, size=(RUNS, many))
    found = effects(first, second)
    covered = float(((found.difference_low <= 0) & (found.difference_high >= 0)).mean())
    quiet = float((np.abs(second.mean(axis=0) - first.mean(axis=0)) <= noise(first, second)).mean())
    # Resamples of five never reach beyond the five: where only one group spreads, that shows.
    low = 0.90 if kind == "unequal" else CONFIDENCE - 0.03
    assert low <= covered <= CONFIDENCE + 0.03
    assert quiet == pytest.approx(CONFIDENCE, abs=0.03)


def test_plain_percentiles_would_not() -> None:
    """Why the intervals are widened: resamples of five spread too little."""
    random = np.random.default_rng(10)
    first, second = random.normal(100, 5, size=(2, RUNS, 800))
    drawn = random.integers(0, RUNS, size=(2, 2000, RUNS))
    means = [
        np.stack([(each == run).sum(axis=1) for run in range(RUNS)], axis=1) @ group / RUNS
        for each, group in zip(drawn, (first, second), strict=True)
    ]
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975], axis=0)
    assert float(((low <= 0) & (high >= 0)).mean()) < 0.92


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 8, 9])
def test_student_s_distribution_is_its_density_summed(degrees: int) -> None:
    scale = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
    at = np.linspace(0, 2.5, 20_001)
    density = scale * (1 + at**2 / degrees) ** (-(degrees + 1) / 2)
    summed = 0.5 + float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(at)))
    assert t_share(2.5, degrees) == pytest.approx(summed, abs=1e-8)
    assert t_share(t_quantile(0.975, degrees), degrees) == pytest.approx(0.975, abs=1e-9)


def test_means_of_both_signs_have_no_ratio() -> None:
    """The least run of each is below 0, and the resampled means are of either sign."""
    random = np.random.default_rng(12)
    mixed = random.normal(0, 5, size=(2, RUNS, 1)) - [[[1.0]], [[1.0]]]
    assert (mixed.min(axis=1) < 0).all()
    assert (mixed.max(axis=1) > 0).all()
    found = effects(mixed[0], mixed[1])
    assert math.isnan(found.ratio_low[0])
    assert math.isnan(found.ratio_high[0])
    below = effects(-np.abs(mixed[0]) - 1, -np.abs(mixed[1]) - 1)
    assert 0 < below.ratio_low[0] < below.ratio_high[0]


def test_how_many_runs_are_needed() -> None:
    assert least_p(5, 5) == pytest.approx(2 / 252)
    assert least_p(3, 3) > ALPHA >= least_p(4, 4)
    assert repeats_needed(ALPHA) == 4
    assert repeats_needed(ALPHA / 4) == 5


def test_more_runs_than_can_be_gone_through_are_drawn() -> None:
    random = np.random.default_rng(11)
    first, second = random.normal(size=(2, 12, 3))
    second[:, 0] += 20
    found = permutation_test(first, second, np.full(3, 0.1))
    assert found.ways == WAYS_MAX < math.comb(24, 12)
    assert found.p[0] <= 1e-3
    assert (found.p[1:] > ALPHA).all()


def test_no_measures_and_no_spread() -> None:
    assert not permutation_test(np.empty((2, 0)), np.empty((2, 0)), np.empty(0)).p.size
    same = np.full((5, 1), 3.0)
    assert permutation_test(same, same, np.ones(1)).p[0] == 1.0
    found = effects(same, same + 1)
    assert (found.difference_low[0], found.difference_high[0]) == (1.0, 1.0)
    assert noise(same, same + 1)[0] == 0.0
    assert math.isnan(found.hedges_g[0])
    assert math.isnan(effects(same, same - 3).ratio_low[0]), "a mean of 0 has no ratio"
