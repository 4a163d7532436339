"""What the figures of a comparison share: a colour a group, and which measures are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.compare.groups.comparison import Comparison
from analysis.compare.groups.conclusion import importance
from analysis.compare.groups.measure import Measure
from analysis.compare.groups.pair import Compared, Finding
from analysis.figures import style

_PALETTE = (
    style.BLUE,
    style.VERMILION,
    style.GREEN,
    style.PURPLE,
    style.ORANGE,
    style.SKY,
    style.MUTED,
)


_MOMENTS = 5
_LEAST = 8


def group_colors(names: Sequence[str]) -> dict[str, str]:
    """Group → its colour, the same in every figure."""
    return {name: _PALETTE[number % len(_PALETTE)] for number, name in enumerate(names)}


def telling(found: Comparison, most: int) -> list[Measure]:
    """The headline measures that differ in any pair, by importance; where they are few, also those
    whose groups lie furthest apart for their noise. Each thing once before any of
    its other moments."""
    ranks: dict[Measure, float] = {}
    fallback: dict[Measure, float] = {}
    for held in found.held:
        for each in held.pair.headlines:
            if not each.first or not each.second:
                continue
            fallback[each.measure] = max(fallback.get(each.measure, 0.0), _apart(each))
            if each.finding is Finding.DIFFERS:
                ranks[each.measure] = max(ranks.get(each.measure, 0.0), importance(each))
    others = sorted(fallback, key=lambda measure: -fallback[measure])
    ordered = sorted(ranks, key=lambda measure: -ranks[measure])
    ordered += [measure for measure in others if measure not in ranks][
        : max(0, _LEAST - len(ranks))
    ]
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int, Measure]] = []
    for place, measure in enumerate(ordered):
        turn = turns[measure.title] = turns.get(measure.title, -1) + 1
        if turn < _MOMENTS:
            ranked.append((turn, place, measure))
    ranked.sort(key=lambda row: row[:2])
    return [measure for _, _, measure in ranked[:most]]


def of_measure(found: Comparison, measure: Measure) -> Mapping[str, Compared]:
    """Second group's name → the measure in that pair, where both have numbers."""
    return {
        held.pair.second: each
        for held in found.held
        for each in held.pair.headlines
        if each.measure == measure and each.first and each.second
    }


def caption(found: Comparison) -> str:
    """Which groups, of how many runs."""
    told = ", ".join(
        f"{group.name} ({len(group.runs)} runs of {group.runs[0].configured.release})"
        for group in found.groups
    )
    return f"{found.groups[0].runs[0].configured.arch}: {told}"


def _apart(each: Compared) -> float:
    return abs(each.difference) / (each.floor + (each.noise or 0.0))
