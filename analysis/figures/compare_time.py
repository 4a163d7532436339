"""Phase by phase: how fragmented memory is, what slabs take and what is free, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.groups.comparison import Comparison
from analysis.figures import style
from analysis.figures.compare_groups import caption, group_colors

NAME = "compare_time"
TITLE = "Over time"
READING = (
    "One column a phase, a thin line a run, a colour a group; time begins with the phase. "
    "Above: the share of free memory that lies in blocks below 2 MiB. Then what slabs take, and "
    "what is free. Where the lines of one colour part, the same load took another course in each "
    "repeat."
)

_ROWS = (
    ("broken_percent", "free memory in\nblocks < 2 MiB, %"),
    ("slab_mib", "slabs, MiB"),
    ("free_mib", "free, MiB"),
)


@style.applied()
def draw(found: Comparison) -> Figure:
    """Columns as wide as the phases are long."""
    runs = [(group.name, run.series) for group in found.groups for run in group.runs]
    phases = _phases([series for _, series in runs])
    names = [group.name for group in found.groups]
    if not phases:
        figure, panels = style.new_sheet(TITLE, caption(found), [style.Row(height_in=1.4)])
        style.notice(panels[0][0], "no phase has samples in every run")
        return figure
    lengths = [_length(phase, [series for _, series in runs]) for phase in phases]
    widths = tuple(max(length, 0.08 * sum(lengths)) for length in lengths)
    layout = [
        style.Row(height_in=1.5, widths=widths, gap_above_in=gap, gap_between_in=0.12)
        for gap in (0.5, 0.16, 0.16)
    ]
    title = f"The same phases under {', '.join(names)}"
    figure, panels = style.new_sheet(title, caption(found), layout, right_in=0.3)
    colors = group_colors(names)
    for (column, label), line in zip(_ROWS, panels, strict=True):
        top = max((float(series[column].max()) for _, series in runs if len(series)), default=1.0)
        for phase, length, axes in zip(phases, lengths, line, strict=True):
            _panel(axes, runs, phase, column, colors)
            axes.set_xlim(0.0, length)
            axes.set_ylim(0.0, (100.0 if column == "broken_percent" else top) * 1.03 or 1.0)
            if axes is not line[0]:
                axes.set_yticklabels([])
                axes.tick_params(axis="y", length=0)
            if line is not panels[-1]:
                axes.set_xticklabels([])
            if line is panels[0]:
                axes.set_title(phase, size=8)
        line[0].set_ylabel(label)
    panels[-1][0].set_xlabel("seconds in the phase", loc="left")
    _legend(panels[0][0], names, colors)
    return figure


def _panel(
    axes: Axes,
    runs: Sequence[tuple[str, pd.DataFrame]],
    phase: str,
    column: str,
    colors: Mapping[str, str],
) -> None:
    for name, series in runs:
        rows = series[series["phase"] == phase]
        axes.plot(
            rows["seconds"], rows[column], color=colors[name], linewidth=0.8, alpha=0.75,
            solid_joinstyle="round",
        )  # fmt: skip


def _phases(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Those that every run has, in order."""
    found: list[str] = []
    if tables and all(len(table) for table in tables):
        shared = set.intersection(*(set(table["phase"]) for table in tables))
        found = [phase for phase in dict.fromkeys(tables[0]["phase"]) if phase in shared]
    return found


def _length(phase: str, tables: Sequence[pd.DataFrame]) -> float:
    return (
        max(float(table.loc[table["phase"] == phase, "seconds"].max()) for table in tables) or 1.0
    )


def _legend(axes: Axes, names: Sequence[str], colors: Mapping[str, str]) -> None:
    x = 0.0
    for name in names:
        axes.annotate(
            f"━ {name}", (0, 1), xycoords="axes fraction", xytext=(x, 20),
            textcoords="offset points", size=8.5, color=colors[name], weight="bold",
        )  # fmt: skip
        x += 7.0 * (len(name) + 4)
