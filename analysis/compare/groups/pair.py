"""Two groups of runs, measure by measure: by how much they differ, and whether that is noise."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.compare.groups.effect import effects, noise
from analysis.compare.groups.measure import Measure, Measured
from analysis.compare.groups.significance import Array, least_p, permutation_test

ALPHA = 0.05
"""Probability of any false finding among the headlines of a comparison, all pairs together, of
groups that do not differ; of the details of a pair, of which a headline differs, once more."""
RELATIVE_FLOOR = 0.01
"""A difference below this share of the mean does not matter, whatever the measure's own floor."""


class Finding(enum.StrEnum):
    """What can be said of one measure."""

    DIFFERS = "differs"
    """Beyond the noise, and enough to matter."""
    SMALL = "differs a little"
    """Beyond the noise, but less than matters."""
    NOISE = "inside the noise"
    SAME = "the same"
    """The same number in every run of both groups."""
    UNDECIDED = "undecided"
    """Too few runs for any difference to be beyond the noise."""
    UNKNOWN = "unknown"
    """Not known in some run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A measure in two groups."""

    measure: Measure
    finding: Finding
    first: tuple[float, ...] = ()
    second: tuple[float, ...] = ()
    why: str = ""
    """Of UNKNOWN: the reason."""
    p: float | None = None
    """Adjusted for all measures and all pairs; None: not tested."""
    difference_interval: tuple[float, float] | None = None
    ratio_interval: tuple[float, float] | None = None
    hedges_g: float | None = None
    noise: float | None = None
    """A difference of the means up to this the repeats' spread alone makes."""
    constant: bool = False
    """Neither group varies."""

    @property
    def first_mean(self) -> float:
        return math.fsum(self.first) / len(self.first)

    @property
    def second_mean(self) -> float:
        return math.fsum(self.second) / len(self.second)

    @property
    def difference(self) -> float:
        return self.second_mean - self.first_mean

    @property
    def ratio(self) -> float | None:
        """The second mean over the first; None where the first is 0."""
        return self.second_mean / self.first_mean if self.first_mean else None

    @property
    def floor(self) -> float:
        """The smallest difference that matters here."""
        return floor_of(self.measure, (*self.first, *self.second))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two groups held against each other."""

    first: str
    second: str
    sizes: tuple[int, int]
    headlines: tuple[Compared, ...]
    details: tuple[Compared, ...]
    details_tested: bool
    """Details are looked into only when a headline differs."""
    least_p: float
    """The smallest p that so many runs can give, adjusted for the number of pairs."""

    def found(self, finding: Finding) -> list[Compared]:
        """The headlines of which that was found."""
        return [each for each in self.headlines if each.finding is finding]


def compare_pair(
    first: tuple[str, Sequence[Measured]],
    second: tuple[str, Sequence[Measured]],
    *,
    pairs: int = 1,
) -> Pair:
    """Every measure that either group has; ``pairs`` are held against each other in all.

    The headlines are one family, tested together; the details are another, looked into only if a
    headline differs: two groups of one configuration then give a false finding of either kind with
    a probability of ``ALPHA``.
    """
    names = first[0], second[0]
    groups = first[1], second[1]
    measures = list(dict.fromkeys(m for group in groups for run in group for m in _all(run)))
    heads = [measure for measure in measures if not measure.detail]
    headlines = _compare(heads, groups, pairs, test=True)
    further = any(each.finding in (Finding.DIFFERS, Finding.SMALL) for each in headlines)
    others = [measure for measure in measures if measure.detail and _large(measure, groups)]
    return Pair(
        first=names[0],
        second=names[1],
        sizes=(len(groups[0]), len(groups[1])),
        headlines=tuple(headlines),
        details=tuple(_compare(others, groups, pairs, test=further)),
        details_tested=further,
        least_p=min(1.0, pairs * least_p(len(groups[0]), len(groups[1]))),
    )


def floor_of(measure: Measure, values: Sequence[float]) -> float:
    """The smallest difference that matters: the measure's own or a hundredth of the mean."""
    mean = math.fsum(abs(value) for value in values) / len(values)
    return max(measure.floor, RELATIVE_FLOOR * mean)


def _large(measure: Measure, groups: tuple[Sequence[Measured], Sequence[Measured]]) -> bool:
    """Decided on both groups at once, which says nothing about a difference between them."""
    known = [run.values[measure] for group in groups for run in group if measure in run.values]
    return not known or max(map(abs, known)) >= measure.least


def _all(run: Measured) -> list[Measure]:
    return [*run.values, *run.unknown]


def _compare(
    measures: Sequence[Measure],
    groups: tuple[Sequence[Measured], Sequence[Measured]],
    pairs: int,
    *,
    test: bool,
) -> list[Compared]:
    known = [m for m in measures if all(m in run.values for group in groups for run in group)]
    if not known or min(len(group) for group in groups) < 2:
        alone = {m: _untested(m, groups) for m in known}
        return [alone.get(m) or _unknown(m, groups) for m in measures]
    first, second = (
        np.array([[run.values[m] for m in known] for run in group], dtype=float) for group in groups
    )
    floors = np.array(
        [floor_of(m, (*first[:, column], *second[:, column])) for column, m in enumerate(known)]
    )
    sizes = effects(first, second)
    logarithms = _as_logarithms(known, first, second)
    straight = _straightened(logarithms, first, second, floors)
    noises = noise(straight[0], straight[1])
    p = np.full(len(known), np.nan)
    least = min(1.0, pairs * least_p(len(first), len(second)))
    if test:
        p = np.minimum(1.0, pairs * permutation_test(*straight).p)
    found: dict[Measure, Compared] = {}
    for column, m in enumerate(known):
        one, other = first[:, column], second[:, column]
        constant = bool(np.ptp(one) == 0 and np.ptp(other) == 0)
        same = constant and bool(one[0] == other[0])
        difference = abs(float(other.mean() - one.mean()))
        p_value = None if math.isnan(p[column]) else float(p[column])
        found[m] = Compared(
            measure=m,
            finding=_finding(
                m,
                same=same,
                constant=constant,
                p=p_value,
                least=least,
                matters=difference >= floors[column],
            ),
            first=tuple(float(value) for value in one),
            second=tuple(float(value) for value in other),
            p=p_value,
            difference_interval=_interval(sizes.difference_low, sizes.difference_high, column),
            ratio_interval=_interval(sizes.ratio_low, sizes.ratio_high, column),
            hedges_g=_number(sizes.hedges_g[column]),
            noise=_noise(one, float(noises[column]), logarithm=bool(logarithms[column])),
            constant=constant,
        )
    return [found.get(m) or _unknown(m, groups) for m in measures]


def _noise(first: Array, straight: float, *, logarithm: bool) -> float:
    """In the measure's unit; of a logarithm, about the first group's mean."""
    return float(first.mean()) * math.expm1(straight) if logarithm else straight


def _as_logarithms(
    measures: Sequence[Measure], first: Array, second: Array
) -> npt.NDArray[np.bool_]:
    """Which measures are told by their logarithm: those that are multiplied by what disturbs them
    and are above 0 in every run of both groups."""
    multiplied = np.array([measure.multiplied for measure in measures])
    above: npt.NDArray[np.bool_] = multiplied & (first > 0).all(axis=0) & (second > 0).all(axis=0)
    return above


def _straightened(
    logarithms: npt.NDArray[np.bool_], first: Array, second: Array, floors: Array
) -> tuple[Array, Array, Array]:
    """The numbers to test: logarithms of those measures, the others as they are."""
    first, second, floors = first.copy(), second.copy(), floors.copy()
    for column in np.flatnonzero(logarithms):
        mean = float(np.concatenate([first[:, column], second[:, column]]).mean())
        floors[column] = math.log1p(floors[column] / mean)
        first[:, column] = np.log(first[:, column])
        second[:, column] = np.log(second[:, column])
    return first, second, floors


def _untested(measure: Measure, groups: tuple[Sequence[Measured], Sequence[Measured]]) -> Compared:
    first, second = (tuple(run.values[measure] for run in group) for group in groups)
    same = len({*first, *second}) == 1
    return Compared(
        measure=measure,
        finding=Finding.SAME if same else Finding.UNDECIDED,
        first=first,
        second=second,
        why="" if same else "one run in a group says nothing about noise",
    )


def _finding(
    measure: Measure,
    *,
    same: bool,
    constant: bool,
    p: float | None,
    least: float,
    matters: bool,
) -> Finding:
    if same:
        return Finding.SAME
    if measure.settled and constant:
        # What boot settles is no sample of anything: it is this number in every boot.
        return Finding.DIFFERS if matters else Finding.SMALL
    if least > ALPHA:
        return Finding.UNDECIDED
    if p is None or p > ALPHA:
        return Finding.NOISE
    return Finding.DIFFERS if matters else Finding.SMALL


def _unknown(measure: Measure, groups: tuple[Sequence[Measured], Sequence[Measured]]) -> Compared:
    reasons: Mapping[str, None] = dict.fromkeys(
        run.why_unknown(measure) for group in groups for run in group if measure not in run.values
    )
    return Compared(measure=measure, finding=Finding.UNKNOWN, why="; ".join(reasons))


def _interval(low: np.ndarray, high: np.ndarray, column: int) -> tuple[float, float] | None:
    if math.isnan(low[column]) or math.isnan(high[column]):
        return None
    return float(low[column]), float(high[column])


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
