"""Every run as a dot: the most telling measures, group by group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.compare.groups.comparison import Comparison
from analysis.compare.groups.measure import Measure
from analysis.figures import style
from analysis.figures.compare_groups import caption, group_colors, telling

NAME = "compare_strips"
TITLE = "Every run"
READING = (
    "One panel a measure, one column a group, one dot a run; the line is the group's mean. The "
    "spread of the dots within a column is the noise that a difference between columns must "
    "exceed. Axes begin at 0."
)

_PANELS = 12
_COLUMNS = 4
_ASIDE = 0.16


@style.applied()
def draw(found: Comparison) -> Figure:
    """Up to a dozen panels."""
    measures = telling(found, _PANELS)
    names = [group.name for group in found.groups]
    rows = [measures[at : at + _COLUMNS] for at in range(0, len(measures), _COLUMNS)] or [[]]
    layout = [
        style.Row(height_in=1.45, widths=(1.0,) * _COLUMNS, gap_above_in=0.62, gap_between_in=0.55)
        for _ in rows
    ]
    title = f"Runs of {', '.join(names)} one by one"
    figure, panels = style.new_sheet(title, caption(found), layout, right_in=0.25)
    colors = group_colors(names)
    for shown, line in zip(rows, panels, strict=True):
        for number, axes in enumerate(line):
            if number < len(shown):
                _panel(axes, found, shown[number], names, colors)
            else:
                axes.set_axis_off()
    return figure


def _panel(
    axes: Axes,
    found: Comparison,
    measure: Measure,
    names: Sequence[str],
    colors: Mapping[str, str],
) -> None:
    scale, unit = _scale(measure.unit, _largest(found, measure))
    top = 0.0
    for at, group in enumerate(found.groups):
        values = [
            run.measured.values[measure] / scale
            for run in group.runs
            if measure in run.measured.values
        ]
        if not values:
            axes.text(at, 0.0, "?", ha="center", va="bottom", color=style.MUTED)
            continue
        top = max(top, *values)
        aside = np.linspace(-_ASIDE, _ASIDE, len(values)) if len(values) > 1 else [0.0]
        axes.plot(
            [at + each for each in aside], values, linestyle="none", marker="o", markersize=3.6,
            color=colors[group.name], markeredgewidth=0, alpha=0.85, clip_on=False, zorder=3,
        )  # fmt: skip
        mean = float(np.mean(values))
        axes.plot([at - 0.3, at + 0.3], [mean, mean], color=colors[group.name], linewidth=1.4)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0.0, top * 1.12 or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short_number(value)))
    lines = textwrap.wrap(f"{measure.title}, {measure.moment}", 36)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2][:34]}…"]
    axes.set_title("\n".join(lines), size=7.5)
    axes.set_ylabel(unit, size=7.5)


def _largest(found: Comparison, measure: Measure) -> float:
    return max(
        run.measured.values.get(measure, 0.0) for group in found.groups for run in group.runs
    )


def _scale(unit: str, top: float) -> tuple[float, str]:
    if unit == "kB":
        return (1024.0, "MiB") if top >= 10 * 1024 else (1.0, "KiB")
    if unit == "ms" and top >= 1000:
        return 1000.0, "s"
    return 1.0, unit
