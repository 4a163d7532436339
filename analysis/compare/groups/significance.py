"""Which of many measures differ between two groups of runs, with the error of all of them held.

A permutation test of Westfall and Young: if the configuration made no difference, the runs might
as well have been dealt to the two groups otherwise. All ways to deal them are gone through (252 for
five and five), the largest statistic among all measures is noted for each, and a measure's adjusted
p is the share of ways whose largest is at least its own; step down, so that a measure competes only
with those below it. Runs are dealt whole, so measures that move together are not counted twice, and
the smallest p is that of the number of ways, however many measures there are: with five and five
1 / 126, whereas Bonferroni's would exceed 5 % from the seventh measure on.

The statistic is the difference of the means over its standard error plus half the smallest
difference that matters (``floor``). Without the latter, a counter that is 0 or 1 would have no
spread in some way of dealing and outdo every real difference there.

Holds the probability of any false finding (family-wise) when the groups are exchangeable; a finding
may also be that the spread differs, not the mean. Ignores: that repeats of one number share a seed,
which makes the test more careful, not less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WAYS_MAX = 20_000
"""More ways than these are not gone through, but drawn, so many."""
_DRAW_SEED = 20_250_101
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The test of all measures of a pair of groups."""

    p: Array
    """Adjusted, by measure."""
    ways: int
    """Ways to deal the runs that were gone through."""


def least_p(first: int, second: int) -> float:
    """The smallest adjusted p that groups of these sizes can give.

    The same runs with the groups' names exchanged give the same statistic.
    """
    ways = math.comb(first + second, first)
    return (2 if first == second else 1) / ways


def repeats_needed(alpha: float) -> int:
    """How many runs two groups need each, so that a difference can be found at ``alpha``."""
    runs = 2
    while least_p(runs, runs) > alpha:
        runs += 1
    return runs


def permutation_test(first: Array, second: Array, floor: Array) -> Tested:
    """Adjusted p of each measure; rows are runs, columns measures, all known.

    ``floor`` is the smallest difference of each measure that matters, above 0.
    """
    runs = np.concatenate([first, second])
    count, size = len(runs), len(first)
    chosen = _ways(count, size)
    if not runs.shape[1]:
        return Tested(p=np.empty(0), ways=len(chosen))
    statistics = _statistics(runs, chosen, floor)
    observed = _statistics(runs, _first_way(count, size), floor)[0]
    order = np.argsort(-observed, kind="stable")
    # The largest statistic among this measure and all that are below it.
    among = np.maximum.accumulate(statistics[:, order][:, ::-1], axis=1)[:, ::-1]
    tolerance = _EPSILON * (1.0 + observed[order])
    reached = (among >= observed[order] - tolerance).mean(axis=0)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(reached)
    return Tested(p=adjusted, ways=len(chosen))


def _statistics(runs: Array, chosen: npt.NDArray[np.bool_], floor: Array) -> Array:
    """By way and measure; ``chosen`` says by way and run who is in the first group."""
    sizes = chosen.sum(axis=1, keepdims=True).astype(float)
    others = chosen.shape[1] - sizes
    # Sums about the mean lose fewer digits.
    centred = runs - runs.mean(axis=0)
    squares = centred**2
    member = chosen.astype(float)
    sums = member @ centred
    total_squares = squares.sum(axis=0)
    mean = sums / sizes
    mean_other = -sums / others
    within = total_squares - sizes * mean**2 - others * mean_other**2
    spread = np.sqrt(np.maximum(within, 0.0) / (sizes + others - 2))
    error = spread * np.sqrt(1.0 / sizes + 1.0 / others)
    statistics: Array = np.abs(mean - mean_other) / (error + floor / 2.0)
    return statistics


def _ways(count: int, size: int) -> npt.NDArray[np.bool_]:
    total = math.comb(count, size)
    if total <= WAYS_MAX:
        chosen = np.zeros((total, count), dtype=bool)
        for row, members in enumerate(combinations(range(count), size)):
            chosen[row, list(members)] = True
        return chosen
    random = np.random.default_rng(_DRAW_SEED)
    drawn = np.argsort(random.random((WAYS_MAX - 1, count)), axis=1) < size
    return np.concatenate([_first_way(count, size), drawn])


def _first_way(count: int, size: int) -> npt.NDArray[np.bool_]:
    """The groups as they are: among the ways, so that no p is 0."""
    return np.arange(count)[np.newaxis, :] < size
