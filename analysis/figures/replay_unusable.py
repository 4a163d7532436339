"""The unusable free space index over a traced window: kernel, model, and "nothing changes"."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from analysis.figures import style
from analysis.figures.replay_blocks import (
    X_LABEL,
    film_caption,
    model_counts,
    scale_operations,
    shown_zones,
)
from analysis.memory.geometry import Zone
from analysis.replay.film import Film
from analysis.replay.unusable import unusable_milli

NAME = "unusable"
TITLE = "Unusable free space: kernel, model and null model"
READING = (
    "The share of a zone's free memory that lies in blocks too small for one allocation of the "
    "order. The line is the kernel's, the circles the model's. The dashed line is the null model: "
    "nothing changes after the window's begin. Predicting means to stay nearer to the line than it."
)
_SMALL_ORDER = 4


@style.applied()
def draw(film: Film) -> Figure:
    """A row a touched zone, a column for each of two orders."""
    zones, orders = shown_zones(film), shown_orders(film)
    caption = film_caption(film)
    if not zones:
        figure, panels = style.new_sheet(_title(film, zones), caption, [style.Row(height_in=1.2)])
        style.notice(panels[0][0], "no free block moved in this window")
        return figure
    rows = [
        style.Row(height_in=1.35, widths=(1.0,) * len(orders), gap_above_in=0.38) for _ in zones
    ]
    figure, panels = style.new_sheet(_title(film, zones), caption, rows, right_in=0.95)
    for zone, axes_row in zip(zones, panels, strict=True):
        for order, axes in zip(orders, axes_row, strict=True):
            _draw(axes, film, zone, order)
            axes.set_title(f"{zone}: order {order}")
            if zone == zones[-1]:
                axes.set_xlabel(X_LABEL)
            else:
                axes.tick_params(labelbottom=False)
    return figure


def shown_orders(film: Film) -> list[int]:
    """A middling order and that of a pageblock, or the largest there is."""
    return sorted({min(_SMALL_ORDER, film.orders - 1), film.geometry.pageblock_order})


def index(
    nr_free: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Shares from 0 to 1; axes as in ``nr_free``."""
    return unusable_milli(nr_free) / 1000.0


def _draw(axes: Axes, film: Film, zone: Zone, order: int) -> None:
    kernel = index(film.curve)[:, zone.index, order]
    null = float(index(film.moments[0].nr_free)[zone.index, order])
    axes.step(film.curve_operations, kernel, where="post", color=style.BLUE, linewidth=1.3)
    scale_operations(axes, film)
    axes.axhline(null, color=style.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    top = max(float(kernel.max()), null)
    labels = [(null, "null", style.MUTED), (float(kernel[-1]), "kernel", style.BLUE)]
    if film.predicted:
        model = index(model_counts(film))[:, zone.index, order]
        axes.plot(
            [moment.operations for moment in film.moments], model, linestyle="none", marker="o",
            markersize=3.6, markerfacecolor="none", markeredgecolor=style.VERMILION,
            markeredgewidth=0.9, clip_on=False, zorder=3,
        )  # fmt: skip
        top = max(top, float(model.max()))
        labels.append((float(model[-1]), "model", style.VERMILION))
    axes.set_ylim(0.0, top * 1.1 or 0.01)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    style.end_labels(axes, labels)


def _title(film: Film, zones: list[Zone]) -> str:
    picked = [zone.index for zone in zones]
    kernel = np.stack([index(moment.nr_free) for moment in film.moments])[:, picked]
    null = float(np.abs(kernel - kernel[:1]).max(initial=0.0))
    if not film.predicted:
        return f"{film.window}: the unusable index moved by up to {null:.3f}"
    model = index(model_counts(film))[:, picked]
    off = float(np.abs(kernel - model).max(initial=0.0))
    if not off:
        return (
            f"{film.window}: the model's unusable index is the kernel's at all "
            f"{len(film.moments)} moments; the null model's is off by up to {null:.3f}"
        )
    return (
        f"{film.window}: the model's unusable index is off by {off:.3f} at most, "
        f"the null model's by {null:.3f}"
    )
