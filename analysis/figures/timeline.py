"""The common time axis: seconds since the first round, and what ran when."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from analysis.compare.facts import Tables
from analysis.figures import style
from analysis.figures.facts import table

_LABEL_SIZE = 8.0
_CHAR_IN = 0.58 * _LABEL_SIZE / 72
_ROW_IN = 0.16
_BAR_IN = 0.09
_MAX_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the run between its begin and end marks."""

    name: str
    start_s: float
    end_s: float
    ended: bool
    """False when no end mark came: the run stopped inside this phase."""

    @property
    def label(self) -> str:
        return self.name if self.ended else f"{self.name} (cut short)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Where the axis starts and ends, with phases and single marks on it."""

    origin_ns: int
    end_s: float
    phases: tuple[Phase, ...]
    marks_s: tuple[float, ...]
    """Marks that neither begin nor end a phase."""

    def seconds(self, frame: pd.DataFrame, column: str = "t_ns") -> npt.NDArray[np.float64]:
        """The column's times, shifted to the axis."""
        return (frame[column].to_numpy(dtype=np.int64) - self.origin_ns) / 1e9


def read_timeline(tables: Tables) -> Timeline:
    """The time axis that ``rounds`` spans (else all tables together), phases from ``marks``.

    An end without a begin starts with the run; a begin without an end lasts until its end.
    """
    rounds = table(tables, "rounds")
    timed = (
        [rounds]
        if rounds is not None
        else [frame for frame in tables.values() if "t_ns" in frame and not frame.empty]
    )
    if not timed:
        return Timeline(origin_ns=0, end_s=1.0, phases=(), marks_s=())
    origin_ns = min(int(frame["t_ns"].min()) for frame in timed)
    end_ns = max(int(frame["t_ns"].max()) for frame in timed)
    end_s = max((end_ns - origin_ns) / 1e9, 1e-3)
    marks = table(tables, "marks")
    if marks is None:
        return Timeline(origin_ns=origin_ns, end_s=end_s, phases=(), marks_s=())
    phases: list[Phase] = []
    open_s: dict[str, float] = {}
    steps_s: list[float] = []
    for t_ns, label in sorted(zip(marks["t_ns"].astype(int), marks["label"], strict=True)):
        at_s = (t_ns - origin_ns) / 1e9
        name, _, action = str(label).rpartition("/")
        if name and action == "begin":
            open_s[name] = at_s
        elif name and action == "end":
            start_s = open_s.pop(name, 0.0)
            phases.append(Phase(name=name, start_s=start_s, end_s=at_s, ended=True))
        else:
            steps_s.append(at_s)
    phases += [
        Phase(name=name, start_s=start_s, end_s=end_s, ended=False)
        for name, start_s in open_s.items()
    ]
    phases.sort(key=lambda phase: (phase.start_s, phase.end_s))
    return Timeline(origin_ns=origin_ns, end_s=end_s, phases=tuple(phases), marks_s=tuple(steps_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    phase: Phase
    row: int
    center_in: float


def strip_row(
    timeline: Timeline, *, columns: int = 1, right_in: float = style.RIGHT_IN
) -> style.Row:
    """The row that a sheet of equal columns needs above its panels for the phase strip."""
    row = style.Row(height_in=0.0, widths=(1.0,) * columns, gap_above_in=0.08)
    placed = _place(timeline, style.column_in(row, right_in=right_in))
    rows = 1 + max((label.row for label in placed), default=-1)
    return dataclasses.replace(row, height_in=_BAR_IN + _ROW_IN * rows + 0.02)


def draw_strip(axes: Axes, timeline: Timeline) -> None:
    """Names of the phases over the time axis, ticks for the marks inside them."""
    axes.set_xlim(0.0, timeline.end_s)
    total_in = style.height_in(axes)
    axes.set_ylim(0.0, total_in)
    axes.axis("off")
    per_in = timeline.end_s / style.width_in(axes)
    placed = _place(timeline, style.width_in(axes))
    for i, phase in enumerate(timeline.phases):
        color = style.MUTED if i % 2 == 0 else style.SKY
        # A phase too short to see still gets a visible sliver.
        width_s = max(phase.end_s - phase.start_s, 0.015 * per_in)
        axes.broken_barh([(phase.start_s, width_s)], (0.0, _BAR_IN * 0.55), color=color)
    if timeline.marks_s:
        axes.vlines(timeline.marks_s, 0.0, _BAR_IN * 0.95, color=style.INK, linewidth=0.4)
    for label in placed:
        base_in = _BAR_IN + _ROW_IN * label.row
        middle_s = (label.phase.start_s + label.phase.end_s) / 2
        if label.row:
            axes.plot(
                [middle_s, middle_s], [_BAR_IN * 0.55, base_in], color=style.MUTED, linewidth=0.5
            )
        axes.text(
            label.center_in * per_in, base_in + 0.02, label.phase.label, size=_LABEL_SIZE,
            ha="center", va="bottom", color=style.INK,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    dropped = len(timeline.phases) - len(placed)
    if dropped:
        axes.text(
            1.008, 0.0, f"+{dropped} more", transform=axes.transAxes, size=_LABEL_SIZE,
            color=style.MUTED,
        )  # fmt: skip


def shade(axes: Axes, timeline: Timeline, *, last: bool) -> None:
    """The time axis of a panel under the strip: alternate phases shaded, seconds if last."""
    axes.set_xlim(0.0, timeline.end_s)
    for i, phase in enumerate(timeline.phases):
        if i % 2:
            axes.axvspan(phase.start_s, phase.end_s, color=style.BAND, linewidth=0, zorder=0)
    if last:
        axes.set_xlabel("seconds since the first round")
    else:
        axes.tick_params(labelbottom=False)


def turning_points(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Indices of the rows (rounds) that a line through all of them needs: lossless thinning.

    ``values`` has one row a round. A row equal to both its neighbours is left out.
    """
    if len(values) < 3:
        return np.arange(len(values))
    changed = (np.diff(values, axis=0) != 0).reshape(len(values) - 1, -1).any(axis=1)
    keep = np.ones(len(values), dtype=bool)
    keep[1:-1] = changed[:-1] | changed[1:]
    return np.flatnonzero(keep)


def _place(timeline: Timeline, width_in: float) -> list[_Placed]:
    """Puts each label over its phase in the lowest row where it fits."""
    taken_in: list[list[tuple[float, float]]] = [[] for _ in range(_MAX_ROWS)]
    placed: list[_Placed] = []
    for phase in timeline.phases:
        half_in = (len(phase.label) * _CHAR_IN + 0.06) / 2
        middle_in = (phase.start_s + phase.end_s) / 2 / timeline.end_s * width_in
        center_in = min(max(middle_in, half_in), max(width_in - half_in, half_in))
        span = (center_in - half_in, center_in + half_in)
        for row, spans in enumerate(taken_in):
            if all(span[1] <= left or right <= span[0] for left, right in spans):
                spans.append(span)
                placed.append(_Placed(phase=phase, row=row, center_in=center_in))
                break
    return placed
