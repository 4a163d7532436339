"""By how much each group differs from the first: ratios with intervals, and the noise."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.groups.comparison import Comparison
from analysis.compare.groups.measure import Measure
from analysis.compare.groups.pair import Compared, Finding
from analysis.compare.groups.wording import amount, change
from analysis.figures import style
from analysis.figures.compare_groups import caption, group_colors, of_measure, telling

NAME = "compare_forest"
TITLE = "Differences and their intervals"
READING = (
    "Each line is a measure; a dot is a group's mean over the first group's, its bar the 95 % "
    "bootstrap interval. Full dots are beyond the noise of the repeats, hollow ones inside it; the "
    "grey band is what the repeats' spread alone makes. A triangle lies beyond the scale, or has "
    "no ratio because a mean is 0."
)

_MEASURES = 18
_REACH = 4.0
"""Octaves to each side."""
_LABEL_IN = 3.35
_NAME_WIDTH = 50
_VALUES_IN = 2.75
_ROW_IN = 0.2


@style.applied()
def draw(found: Comparison) -> Figure:
    """The most telling headline measures, all groups on one line each."""
    measures = telling(found, _MEASURES)
    names = [group.name for group in found.groups]
    others = names[1:]
    line_in = _ROW_IN * max(1, len(others)) + 0.16
    row = style.Row(height_in=max(0.8, line_in * len(measures)), gap_above_in=0.45)
    figure, panels = style.new_sheet(_title(found), caption(found), [row], right_in=_VALUES_IN)
    axes = panels[0][0]
    if not measures:
        style.notice(axes, "no measure is known in all groups")
        return figure
    _shift_left(axes)
    colors = group_colors(names)
    reach = _reach(found, measures)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(measures) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.axvline(0.0, color=style.MUTED, linewidth=0.9)
    apart = 1.0 if reach > 1.2 else 0.5 if reach > 0.6 else 0.25 if reach > 0.3 else 0.125
    ticks = [tick for tick in _TICKS if abs(tick) <= reach and tick % apart == 0]
    axes.set_xticks(ticks, [_TICKS[tick] for tick in ticks])
    axes.set_xlabel(f"mean over that of {names[0]}")
    axes.set_yticks(range(len(measures)), [_name(measure) for measure in measures])
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    for at, measure in enumerate(measures):
        if at % 2:
            axes.axhspan(at - 0.5, at + 0.5, color=style.BAND, linewidth=0, zorder=0)
        _line(axes, at, of_measure(found, measure), others, colors, reach)
    _legend(axes, others, colors)
    return figure


_TICKS: Mapping[float, str] = {
    -4.0: "1/16", -3.0: "1/8", -2.0: "1/4", -1.0: "1/2", -0.5: "0.71", -0.25: "0.84",
    -0.125: "0.92", 0.0: "1", 0.125: "1.09", 0.25: "1.19", 0.5: "1.41", 1.0: "2", 2.0: "4",
    3.0: "8", 4.0: "16",
}  # fmt: skip


def _name(measure: Measure) -> str:
    """On two lines where it is long."""
    return "\n".join(textwrap.wrap(str(measure), _NAME_WIDTH, max_lines=2, placeholder=" …"))


def _reach(found: Comparison, measures: Sequence[Measure]) -> float:
    """Octaves that most of what is shown needs."""
    needed = 0.25
    for measure in measures:
        for each in of_measure(found, measure).values():
            if each.first_mean > 0 and each.second_mean > 0:
                needed = max(needed, 1.25 * abs(math.log2(each.second_mean / each.first_mean)))
    for step in (0.3, 0.6, 1.2, 2.2):
        if needed <= step:
            return step
    return _REACH + 0.2


def _line(
    axes: Axes,
    at: int,
    pairs: Mapping[str, Compared],
    others: Sequence[str],
    colors: Mapping[str, str],
    reach: float,
) -> None:
    count = len(others)
    for number, name in enumerate(others):
        each = pairs.get(name)
        if each is None:
            continue
        y = at + (number - (count - 1) / 2) * 0.8 / max(count, 1)
        color = colors[name]
        beyond = each.finding is Finding.DIFFERS
        face = color if beyond else style.PAPER
        x = _place(each)
        if each.noise and each.first_mean > 0:
            _band(axes, y, each, count, reach)
        if each.ratio_interval is not None and min(each.ratio_interval) > 0:
            low, high = (math.log2(bound) for bound in each.ratio_interval)
            axes.plot(
                [max(low, -reach), min(high, reach)], [y, y], color=color, linewidth=1.2, zorder=3
            )
        marker = "o"
        if abs(x) > reach * 0.985:
            marker = ">" if x > 0 else "<"
            x = math.copysign(reach * 0.985, x)
        axes.plot(
            [x], [y], marker=marker, markersize=4.5, color=color, markerfacecolor=face, zorder=4,
            linestyle="none",
        )  # fmt: skip
        text = f"{amount(each.first_mean, each.measure.unit)} → "
        text += f"{amount(each.second_mean, each.measure.unit)}  {change(each)}"
        axes.annotate(
            text, (1.0, y), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", size=7, color=style.INK if beyond else
            style.MUTED, annotation_clip=False,
        )  # fmt: skip


def _place(each: Compared) -> float:
    """Octaves from equal; infinite where a mean is 0."""
    if each.first_mean == each.second_mean:
        return 0.0
    if each.first_mean > 0 and each.second_mean > 0:
        return math.log2(each.second_mean / each.first_mean)
    return math.copysign(math.inf, each.difference)


def _band(axes: Axes, y: float, each: Compared, count: int, reach: float) -> None:
    half = 0.36 / count
    share = (each.noise or 0.0) / each.first_mean
    high = min(reach, math.log2(1 + share))
    low = -reach if share >= 1 else max(-reach, math.log2(1 - share))
    if each.measure.multiplied:
        low = -high
    axes.fill_between([low, high], y - half, y + half, color=style.FAINT, linewidth=0, zorder=1)


def _shift_left(axes: Axes) -> None:
    """Makes room for long names at the left."""
    place = axes.get_position()
    left = _LABEL_IN / style.WIDTH_IN
    axes.set_position((left, place.y0, place.x1 - left, place.height))


def _legend(axes: Axes, others: Sequence[str], colors: Mapping[str, str]) -> None:
    x = 0.0
    for name in others:
        axes.annotate(
            f"● {name}", (0, 1), xycoords="axes fraction", xytext=(x, 6),
            textcoords="offset points", size=8.5, color=colors[name], weight="bold",
        )  # fmt: skip
        x += 7.0 * (len(name) + 4)


def _title(found: Comparison) -> str:
    parts = []
    for held in found.held:
        count = len(held.pair.found(Finding.DIFFERS))
        known = sum(each.finding is not Finding.UNKNOWN for each in held.pair.headlines)
        parts.append(f"{held.pair.second}: {count} of {known}")
    return f"Measures that differ from {found.groups[0].name} beyond the noise: {', '.join(parts)}"
