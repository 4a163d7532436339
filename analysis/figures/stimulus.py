"""An exact stimulus for the buddy allocator: what the kernel did beside what the model says.

Drawn from the table ``stimulus`` (``analysis.compare.buddy.stimulus_table``): one row a step, zone
and order.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from analysis.compare.facts import Tables
from analysis.compare.prediction import EXACT_ORDER
from analysis.figures import style
from analysis.figures.facts import FigureFacts, table
from analysis.figures.zones import Zone, zone_caption, zones_of

NAME = "stimulus"
TITLE = "Packet-ring stimulus: kernel against model"
READING = (
    "Packet rings take and release blocks of a known order; on the left, each order's free blocks "
    "on their own scale, the kernel's as a line and the model's as circles, on the right the "
    "kernel's counts. "
    "Green cells are equal to the model to the block; orange ones print the difference (orders "
    "below the dashed line are expected to drift by a few pages of per-cpu lists and slabs), and "
    "of grey ones the model says nothing."
)

_EXACT, _OFF, _UNKNOWN = "#cdebdf", "#f7c999", "#e6e9ee"
_MAX_CELLS_WITH_TEXT = 34
_PHASE_CHAR_IN = 0.062
_TIMES = "\N{MULTIPLICATION SIGN}"
_STEP = re.compile(r"^[^/]+/\d+/(?P<action>[^/]+)(?P<args>(?:/[^/]+)*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Counts of one zone, arrays of shape (orders, steps); NaN where the model is silent."""

    orders: npt.NDArray[np.int64]
    observed: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]

    @property
    def difference(self) -> npt.NDArray[np.float64]:
        """Observed less predicted."""
        return self.observed - self.predicted


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """Lines and a matrix of differences, one row a zone; needs ``stimulus``."""
    caption = zone_caption(tables, facts.caption)
    frame = table(tables, "stimulus")
    if frame is None:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(
            panels[0][0],
            "no stimulus steps: the run has no packet-ring phase, or stopped before its first mark",
        )
        return figure
    zones = zones_of(frame)
    grids = {zone: _grid(zone.rows(frame)) for zone in zones}
    labels = frame.drop_duplicates("step").sort_values("step")["label"].astype(str).tolist()
    steps = _Steps(labels=tuple(labels))
    drawn = [zone for zone in zones if _moves(grids[zone], steps)]
    still = [zone for zone in zones if zone not in drawn]
    if still:
        names = ", ".join(zone.label for zone in still)
        caption += f" · untouched and as the model says: {names}"
    if not drawn:
        figure, panels = style.new_sheet(_title(grids), caption, [style.Row(height_in=1.2)])
        style.notice(panels[0][0], "no count moved in any zone, and the model said so")
        return figure
    text_in = 0.075 * max(len(name) for name in steps.names)
    rows = [
        style.Row(
            height_in=max(1.3, 0.235 * len(grids[zone].orders)),
            widths=(1.0, 1.9),
            gap_above_in=0.5 + (text_in if i else 0.0),
            gap_between_in=1.0,
        )
        for i, zone in enumerate(drawn)
    ]
    rows.append(style.Row(height_in=0.02, gap_above_in=max(0.0, text_in - 0.35)))
    figure, panels = style.new_sheet(_title(grids), caption, rows, right_in=0.2)
    for zone, (lines_axes, matrix_axes) in zip(drawn, panels, strict=False):
        lines_axes.set_title(f"{zone.label}: lowest … highest count", pad=17)
        matrix_axes.set_title(f"{zone.label}: {_tally(grids[zone])}", pad=17)
        _draw_lines(lines_axes, grids[zone], steps)
        _draw_matrix(matrix_axes, grids[zone], steps)
    panels[-1][0].axis("off")
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """The marked steps in their order; neighbours of one phase belong together."""

    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """Short names, for the axis."""
        return [step_label(label) for label in self.labels]

    @property
    def phases(self) -> list[tuple[str, int, int]]:
        """Phase, its first step, and the step after its last."""
        starts = [
            i
            for i, label in enumerate(self.labels)
            if i == 0 or label.split("/")[0] != self.labels[i - 1].split("/")[0]
        ]
        ends = [*starts[1:], len(self.labels)]
        return [
            (self.labels[start].split("/")[0], start, end)
            for start, end in zip(starts, ends, strict=True)
        ]


def step_label(label: str) -> str:
    """``pktring/1/take/64/5`` → 64 times order 5 in short; other labels lose phase and index."""
    match = _STEP.match(label)
    if match is None:
        return label
    args = match["args"].split("/")[1:]
    if match["action"] == "take" and len(args) >= 2:
        return " ".join([f"take {args[0]}{_TIMES}o{args[1]}", *(f"n{node}" for node in args[2:])])
    if match["action"] == "drop" and len(args) == 1:
        return f"drop step {args[0]}"
    return " ".join([match["action"], *args])


def _grid(rows: pd.DataFrame) -> _Grid:
    observed = rows.pivot(index="order", columns="step", values="observed_blocks")
    predicted = rows.pivot(index="order", columns="step", values="predicted_blocks")
    return _Grid(
        orders=observed.index.to_numpy(dtype=np.int64),
        observed=observed.to_numpy(dtype=float, na_value=np.nan),
        predicted=predicted.to_numpy(dtype=float, na_value=np.nan),
    )


def _moves(grid: _Grid, steps: _Steps) -> bool:
    """Whether there is anything to see: an exact order that changes in a phase, or a miss."""
    exact = grid.observed[grid.orders >= EXACT_ORDER]
    within = [exact[:, start:end] for _, start, end in steps.phases]
    changed = any(bool((np.diff(part, axis=1) != 0).any()) for part in within)
    known = ~np.isnan(grid.difference)
    return changed or bool((grid.difference[known] != 0).any())


def _tally(grid: _Grid) -> str:
    exact = grid.orders >= EXACT_ORDER
    high, low = grid.difference[exact], grid.difference[~exact]
    text = f"{_equal(high)} equal at orders ≥ {EXACT_ORDER}"
    return f"{text}, {_equal(low)} below" if low.size else text


def _equal(difference: npt.NDArray[np.float64]) -> str:
    known = ~np.isnan(difference)
    return f"{int((difference == 0).sum()):,} of {int(known.sum()):,}"


def _title(grids: dict[Zone, _Grid]) -> str:
    high = np.concatenate(
        [grid.difference[grid.orders >= EXACT_ORDER].ravel() for grid in grids.values()]
    )
    known = high[~np.isnan(high)]
    if not known.size:
        return f"{TITLE}: the model says nothing about orders ≥ {EXACT_ORDER}"
    off = int((known != 0).sum())
    if not off:
        return (
            f"Kernel and model agree to the block at orders ≥ {EXACT_ORDER}: "
            f"all {known.size:,} counts equal"
        )
    return (
        f"Kernel and model differ in {off:,} of {known.size:,} counts at orders ≥ {EXACT_ORDER}, "
        f"by at most {np.abs(known).max():,.0f}"
    )


def _draw_lines(axes: Axes, grid: _Grid, steps: _Steps) -> None:
    """A small curve an order, level with the matrix row of that order, on a scale of its own."""
    x = np.arange(len(steps))
    labels: list[tuple[float, str, str]] = []
    for order, observed, predicted in zip(grid.orders, grid.observed, grid.predicted, strict=True):
        both = np.concatenate([observed, predicted])
        low, high = float(np.nanmin(both)), float(np.nanmax(both))
        scale = 0.62 / (high - low) if high > low else 0.0
        base = order - 0.31 if high > low else order
        axes.plot(x, base + (observed - low) * scale, color=style.BLUE, linewidth=1.3)
        axes.plot(
            x, base + (predicted - low) * scale, linestyle="none", marker="o", markersize=3.2,
            markerfacecolor="none", markeredgecolor=style.INK, markeredgewidth=0.6,
        )  # fmt: skip
        span = f"{low:,.0f}…{high:,.0f}" if high > low else f"{low:,.0f}"
        labels.append((float(order), span, style.MUTED))
    axes.axhline(EXACT_ORDER - 0.5, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.grid(visible=False)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_ylim(grid.orders[0] - 0.5, grid.orders[-1] + 0.5)
    axes.set_yticks(grid.orders)
    axes.set_ylabel("order")
    axes.tick_params(length=0)
    _step_ticks(axes, steps, limit=18)
    style.end_labels(axes, labels, size=7)


def _draw_matrix(axes: Axes, grid: _Grid, steps: _Steps) -> None:
    """A cell an order and step, green when equal, with counts while they fit."""
    difference = grid.difference
    state = np.where(np.isnan(difference), 2, np.where(difference == 0, 0, 1))
    axes.pcolormesh(
        np.arange(len(steps) + 1) - 0.5,
        np.append(grid.orders, grid.orders[-1] + 1) - 0.5,
        state,
        cmap=ListedColormap([_EXACT, _OFF, _UNKNOWN]),
        vmin=-0.5,
        vmax=2.5,
        edgecolors=style.PAPER,
        linewidth=1.0 if len(steps) <= _MAX_CELLS_WITH_TEXT else 0.0,
    )
    axes.grid(visible=False)
    axes.axhline(EXACT_ORDER - 0.5, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    roomy = len(steps) <= _MAX_CELLS_WITH_TEXT
    size = (
        7.0 if len(steps) <= 14 else 6.5 if len(steps) <= 20 else 5.6 if len(steps) <= 28 else 4.8
    )
    for order, observed, off in zip(
        grid.orders.tolist(), grid.observed.tolist(), difference.tolist(), strict=True
    ):
        for step, (count, miss) in enumerate(zip(observed, off, strict=True)):
            wrong = miss != 0 and not math.isnan(miss)
            text = _cell_text(count, miss, roomy=roomy)
            if text:
                axes.text(
                    step, order, text, ha="center", va="center", size=size,
                    color=style.INK if wrong else style.MUTED,
                    weight="bold" if wrong and order >= EXACT_ORDER else "normal",
                )  # fmt: skip
    axes.set_yticks(grid.orders)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _step_ticks(axes, steps, limit=40)


def _cell_text(observed: float, off: float, *, roomy: bool) -> str:
    """The kernel's count, or by how much it differs from the model."""
    if not math.isnan(off) and off != 0:
        return f"{off:+.0f}"
    if not roomy or math.isnan(observed):
        return ""
    return f"{observed:.0f}" if observed < 10000 else style.short_number(observed)


def _step_ticks(axes: Axes, steps: _Steps, *, limit: int) -> None:
    """Step names under a panel, and over it the phases that they belong to."""
    every = -(-len(steps) // limit)
    shown = list(range(0, len(steps), every))
    names = steps.names
    axes.set_xticks(shown, [names[i] for i in shown], rotation=90, size=7)
    step_in = style.width_in(axes) / len(steps)
    for name, start, end in steps.phases:
        if start:
            axes.axvline(start - 0.5, color=style.INK, linewidth=0.8)
        fits = int((end - start) * step_in / _PHASE_CHAR_IN)
        text = name if len(name) <= fits else f"{name[: max(fits - 1, 0)]}…"
        if fits > 2:
            axes.text(
                (start + end - 1) / 2, 1.02, text, transform=axes.get_xaxis_transform(),
                ha="center", va="bottom", size=7, color=style.MUTED,
            )  # fmt: skip
