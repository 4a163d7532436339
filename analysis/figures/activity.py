"""Rates of allocation, reclaim and compaction, and the time that tasks stalled for memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.facts import Tables
from analysis.figures import style
from analysis.figures.facts import FigureFacts, table
from analysis.figures.timeline import (
    Timeline,
    draw_strip,
    read_timeline,
    shade,
    strip_row,
    turning_points,
)

NAME = "activity"
TITLE = "Allocation, reclaim, compaction and stalls"
READING = (
    "Pages or events a second from /proc/vmstat, and below them the share of time in which some or "
    "all tasks waited for memory. "
    "Scanning that rises without allocation falling is reclaim keeping pace; stalls that rise with "
    "it are the price that tasks paid."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    label: str
    color: str
    prefixes: tuple[str, ...]
    """vmstat counters whose name is one of these, or begins with one that ends in ``_``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    unit: str
    quiet: str
    """What to say when none of the counters moved."""
    lines: tuple[_Line, ...]


_PANELS = (
    _Panel(
        title="allocation",
        unit="pages/s",
        quiet="no page was allocated",
        lines=(
            _Line(label="allocated", color=style.BLUE, prefixes=("pgalloc_",)),
            _Line(label="freed", color=style.ORANGE, prefixes=("pgfree",)),
        ),
    ),
    _Panel(
        title="reclaim",
        unit="pages/s",
        quiet="no reclaim in this run",
        lines=(
            _Line(label="scanned, kswapd", color=style.BLUE, prefixes=("pgscan_kswapd",)),
            _Line(label="scanned, direct", color=style.VERMILION, prefixes=("pgscan_direct",)),
            _Line(
                label="reclaimed", color=style.GREEN, prefixes=("pgsteal_kswapd", "pgsteal_direct")
            ),
        ),
    ),
    _Panel(
        title="compaction",
        unit="pages/s",
        quiet="no compaction in this run",
        lines=(
            _Line(
                label="scanned, movable", color=style.BLUE, prefixes=("compact_migrate_scanned",)
            ),
            _Line(label="scanned, free", color=style.PURPLE, prefixes=("compact_free_scanned",)),
            _Line(label="migrated", color=style.GREEN, prefixes=("pgmigrate_success",)),
        ),
    ),
)


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """Rates over time; needs ``vmstat``, and ``pressure`` for the stalls."""
    timeline = read_timeline(tables)
    vmstat, pressure = table(tables, "vmstat"), table(tables, "pressure")
    rows = [strip_row(timeline)]
    rows += [style.Row(height_in=1.05, gap_above_in=0.3) for _ in _PANELS]
    if pressure is not None:
        pressure = pressure[pressure["resource"] == "memory"]
    stalls = pressure is not None and not pressure.empty
    # Without stalls to draw, the time axis stands under the last of the other panels.
    rows.append(style.Row(height_in=1.05 if stalls else 0.5, gap_above_in=0.3 if stalls else 0.65))
    figure, panels = style.new_sheet(_title(vmstat), facts.caption, rows)
    draw_strip(panels[0][0], timeline)
    for panel, (axes,) in zip(_PANELS, panels[1:], strict=False):
        axes.set_title(panel.title)
        if vmstat is None:
            style.notice(axes, "no vmstat samples: /proc/vmstat was not recorded")
        else:
            shade(axes, timeline, last=panel is _PANELS[-1] and not stalls)
            _draw_rates(axes, panel, vmstat, timeline)
    axes = panels[-1][0]
    axes.set_title("stalled for memory")
    if pressure is None or pressure.empty:
        style.notice(
            axes, "no pressure samples: the kernel runs without PSI (psi=0, or no CONFIG_PSI)"
        )
    else:
        shade(axes, timeline, last=True)
        _draw_stalls(axes, pressure, timeline)
    return figure


def _total(vmstat: pd.DataFrame, line: _Line) -> pd.DataFrame | None:
    """Rounds with time and the summed counters of a line; None when the kernel has none of them."""
    names = [
        name
        for name in vmstat["field"].unique()
        if any(name == p or (p.endswith("_") and name.startswith(p)) for p in line.prefixes)
    ]
    if not names:
        return None
    rows = vmstat[vmstat["field"].isin(names)]
    return rows.groupby("round", sort=True).agg(t_ns=("t_ns", "min"), value=("value", "sum"))


def _rate(total: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Change a second in the interval that begins with each round; 0 for the last."""
    change = np.diff(total["value"].to_numpy(dtype=float))
    interval_s = np.diff(total["t_ns"].to_numpy(dtype=float)) / 1e9
    rate = np.divide(change, interval_s, out=np.zeros_like(change), where=interval_s > 0)
    return np.append(rate, 0.0)


def _draw_rates(axes: Axes, panel: _Panel, vmstat: pd.DataFrame, timeline: Timeline) -> None:
    labels: list[tuple[float, str, str]] = []
    missing: list[str] = []
    tops: list[float] = []
    for line in panel.lines:
        total = _total(vmstat, line)
        if total is None:
            missing.append(line.label)
            continue
        labels.append(_draw_step(axes, line.label, line.color, total, _rate(total), timeline))
        tops.append(labels[-1][0])
    axes.set_ylabel(panel.unit)
    _finish(axes, labels, max(tops, default=0.0))
    remarks = [f"{', '.join(missing)}: not counted by this kernel"] if missing else []
    if not any(tops):
        remarks.append(panel.quiet)
    if remarks:
        style.note(axes, " · ".join(remarks))


def _draw_stalls(axes: Axes, pressure: pd.DataFrame, timeline: Timeline) -> None:
    labels: list[tuple[float, str, str]] = []
    for kind, color in (("some", style.ORANGE), ("full", style.VERMILION)):
        rows = pressure[pressure["kind"] == kind].sort_values("round")
        if rows.empty:
            continue
        total = rows[["round", "t_ns"]].assign(value=rows["total_us"].astype(float) / 1e4)
        labels.append(_draw_step(axes, kind, color, total, _rate(total), timeline))
    top = max((label[0] for label in labels), default=0.0)
    axes.set_ylabel("% of time")
    _finish(axes, labels, top)
    if not top:
        style.note(axes, "no task stalled")


def _draw_step(
    axes: Axes,
    label: str,
    color: str,
    total: pd.DataFrame,
    rate: npt.NDArray[np.float64],
    timeline: Timeline,
) -> tuple[float, str, str]:
    """Draws one rate; returns its peak with the label for it."""
    keep = turning_points(rate[:, None])
    axes.step(timeline.seconds(total)[keep], rate[keep], where="post", color=color, linewidth=1.0)
    return float(rate.max()), label, color


def _finish(axes: Axes, labels: list[tuple[float, str, str]], top: float) -> None:
    """Scales the panel and names the lines, highest peak first from the top."""
    style.scale_counts(axes, top, ticks=3)
    ranked = sorted(labels, key=lambda label: label[0])
    # Lines end near zero, so the labels form a key in the order of the peaks.
    middle = axes.get_ylim()[1] / 2
    step = axes.get_ylim()[1] / 5
    keyed = [
        (middle + (i - (len(ranked) - 1) / 2) * step, text, color)
        for i, (_, text, color) in enumerate(ranked)
    ]
    style.end_labels(axes, keyed)


def _title(vmstat: pd.DataFrame | None) -> str:
    """Pages allocated, reclaimed and migrated over the whole run."""
    if vmstat is None:
        return TITLE
    parts = []
    for panel, index, verb in ((0, 0, "allocated"), (1, 2, "reclaimed"), (2, 2, "migrated")):
        total = _total(vmstat, _PANELS[panel].lines[index])
        if total is not None:
            pages = total["value"].iloc[-1] - total["value"].iloc[0]
            parts.append(f"{pages:,.0f} {verb}")
    return f"Pages over the run: {', '.join(parts)}" if parts else TITLE
