"""Several groups of runs, each held against the first; as data and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compare.groups.conclusion import conclusion
from analysis.compare.groups.configuration import (
    Differing,
    check_alike,
    check_comparable,
    differences,
)
from analysis.compare.groups.measuring import measured_run
from analysis.compare.groups.pair import ALPHA, Compared, Pair, compare_pair
from analysis.compare.groups.run import MeasuredRun
from analysis.compare.groups.selection import Selected
from analysis.errors import SelectionError

METHOD = (
    "Each measure of each pair of groups is tested by permuting whole runs between the two groups "
    "(Westfall and Young, step down), which holds the probability of any false finding among the "
    "headline measures of all pairs at 5 %, whatever their number; the p of a pair is multiplied "
    "by the number of pairs. Details (by node, zone, order, phase or cache) are a family of their "
    "own, tested the same way, only where a headline differs. What boot settles and no run of a "
    "group varies in is told without a test. "
    "Intervals are 95 % percentile intervals of 10,000 bootstrap resamples of whole runs, widened "
    "for small groups. Noise is the difference of two means that the spread of repeats makes by "
    "itself (95 %). A difference below a hundredth of the mean, or below the measure's own floor, "
    "is said to be little even where it is beyond the noise."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Repeated runs of one configuration."""

    name: str
    about: str
    runs: tuple[MeasuredRun, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A group held against the first."""

    pair: Pair
    configuration: tuple[Differing, ...]
    conclusion: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    question: str
    groups: tuple[Group, ...]
    held: tuple[Held, ...]
    warnings: tuple[str, ...]


def compare(
    selected: Sequence[Selected], *, note: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Reads every run and holds each group against the first.

    Raises:
        SelectionError: a group is empty or mixed, or groups cannot be held against each other.
        BundleError, ParseError, RecordError: a run cannot be read.
    """
    groups = [_group(each, note) for each in selected]
    names = [group.name for group in groups]
    check_comparable(names, [group.runs[0].configured for group in groups])
    base = groups[0]
    held = []
    for group in groups[1:]:
        note(f"{group.name} against {base.name}")
        pair = compare_pair(
            (base.name, [run.measured for run in base.runs]),
            (group.name, [run.measured for run in group.runs]),
            pairs=len(groups) - 1,
        )
        held.append(
            Held(
                pair=pair,
                configuration=tuple(differences(base.runs[0].configured, group.runs[0].configured)),
                conclusion=tuple(conclusion(pair, len(groups) - 1)),
            )
        )
    return Comparison(
        question=selected[0].question,
        groups=tuple(groups),
        held=tuple(held),
        warnings=tuple(_warnings(groups)),
    )


def to_json(found: Comparison) -> dict[str, Any]:
    """Everything, for scripts."""
    return {
        "question": found.question,
        "groups": [
            {
                "name": group.name,
                "about": group.about,
                "runs": [str(run.path) for run in group.runs],
                "seeds": [run.seed for run in group.runs],
                "missing": list(group.missing),
                "release": group.runs[0].configured.release,
                "arch": group.runs[0].configured.arch,
            }
            for group in found.groups
        ],
        "method": METHOD,
        "alpha": ALPHA,
        "warnings": list(found.warnings),
        "pairs": [_pair_json(held) for held in found.held],
    }


def _pair_json(held: Held) -> dict[str, Any]:
    pair = held.pair
    return {
        "first": pair.first,
        "second": pair.second,
        "least_p": pair.least_p,
        "configuration": [
            {"kind": each.kind, "name": each.name, "first": each.first, "second": each.second}
            for each in held.configuration
        ],
        "conclusion": list(held.conclusion),
        "summary": dict(Counter(each.finding.value for each in pair.headlines)),
        "details_tested": pair.details_tested,
        "measures": [_measure_json(each) for each in (*pair.headlines, *pair.details)],
    }


def _measure_json(each: Compared) -> dict[str, Any]:
    measure = each.measure
    row: dict[str, Any] = {
        "id": measure.id,
        "subject": measure.subject,
        "title": measure.title,
        "moment": measure.moment,
        "unit": measure.unit,
        "detail": measure.detail,
        "finding": each.finding.value,
        "why": each.why,
    }
    if each.first and each.second:
        row |= {
            "first": list(each.first),
            "second": list(each.second),
            "first_mean": each.first_mean,
            "second_mean": each.second_mean,
            "difference": each.difference,
            "difference_interval": each.difference_interval,
            "ratio": each.ratio,
            "ratio_interval": each.ratio_interval,
            "hedges_g": each.hedges_g,
            "noise": each.noise,
            "floor": each.floor,
            "p": each.p,
        }
    return row


def _group(selected: Selected, note: Callable[[str], None]) -> Group:
    if not selected.paths:
        raise SelectionError(
            f"{selected.name}: none of its runs is there",
            fix="run the sweep to its end: the same `mmscope sweep` goes on with it",
            details={"missing": "\n".join(selected.missing)} if selected.missing else None,
        )
    runs = []
    for number, path in enumerate(selected.paths, start=1):
        note(f"{selected.name}: run {number} of {len(selected.paths)}")
        runs.append(measured_run(path))
    check_alike(selected.name, [run.configured for run in runs])
    return Group(
        name=selected.name, about=selected.about, runs=tuple(runs), missing=selected.missing
    )


def _warnings(groups: Sequence[Group]) -> Iterable[str]:
    for group in groups:
        yield from group.missing
        for run in group.runs:
            yield from (f"{run.path}: {line}" for line in run.damage)
    sizes = {len(group.runs) for group in groups}
    if len(sizes) > 1:
        told = ", ".join(f"{group.name} {len(group.runs)}" for group in groups)
        yield f"the groups have different numbers of runs: {told}"
    seeds = {tuple(sorted(run.seed for run in group.runs)) for group in groups}
    if len(seeds) > 1:
        yield "the groups were not run with the same seeds: the loads differ as well"
    accels = {run.configured.accel for group in groups for run in group.runs}
    if "tcg" in accels:
        yield (
            "the guests ran under TCG, on a host that others use as well: times are those of an "
            "emulated machine and say less than counts"
        )
    images = {run.configured.image for group in groups for run in group.runs}
    if len(images) > 1:
        yield "the guests had different user lands"
