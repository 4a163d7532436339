"""Free blocks of every order over a traced window: the kernel's beside the model's."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from analysis.figures import style
from analysis.memory.geometry import Zone
from analysis.replay.film import Film

NAME = "blocks"
TITLE = "Free blocks per order: kernel and model"
READING = (
    "Each panel is one order of one zone on its own scale. The line is the kernel's free blocks, "
    "read in guest memory at the window's ends and carried through every traced event in between; "
    "the circles are the model's, which is told only what was asked for and picks pages itself. "
    "A circle off the line is a wrong count."
)
COLUMNS = 4


@style.applied()
def draw(film: Film) -> Figure:
    """One panel an order and touched zone."""
    zones = shown_zones(film)
    caption = film_caption(film)
    if not zones:
        figure, panels = style.new_sheet(_title(film), caption, [style.Row(height_in=1.2)])
        style.notice(panels[0][0], "no free block moved in this window")
        return figure
    lines = -(-film.orders // COLUMNS)
    rows = [
        style.Row(
            height_in=0.8,
            widths=(1.0,) * COLUMNS,
            gap_above_in=0.55 if not line and number else 0.38,
            gap_between_in=0.42,
        )
        for number in range(len(zones))
        for line in range(lines)
    ]
    figure, panels = style.new_sheet(_title(film), caption, rows, right_in=0.25)
    for number, zone in enumerate(zones):
        flat = [axes for row in panels[number * lines : (number + 1) * lines] for axes in row]
        for order, axes in enumerate(flat):
            if order >= film.orders:
                axes.axis("off")
                continue
            draw_order(axes, film, zone, order)
            axes.set_title(f"order {order}" if order else f"{zone}: order 0")
            if order + COLUMNS >= film.orders and number == len(zones) - 1:
                axes.set_xlabel(X_LABEL)
            else:
                axes.tick_params(labelbottom=False)
        if number == 0:
            _key(flat[film.orders :], film)
    return figure


X_LABEL = "page moves since the window began"
"""Of operations: pages that left or joined the free lists, were handed out or freed."""


def shown_zones(film: Film) -> list[Zone]:
    """Zones in which something happened."""
    return [zone for zone in film.zones if film.touched(zone)]


def film_caption(film: Film) -> str:
    """Under the title: window, kernel, and what was left alone."""
    caption = f"window {film.window} · Linux {film.kernel} on {film.arch}"
    still = [str(zone) for zone in film.zones if not film.touched(zone)]
    if still:
        caption += f" · untouched: {', '.join(still)}"
    if not film.predicted:
        caption += " · the model did not predict this window"
    return caption


def scale_operations(axes: Axes, film: Film) -> None:
    """The x axis from the window's begin to its end, thousands abbreviated."""
    axes.set_xlim(0, max(int(film.curve_operations[-1]), 1))
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short_number(value)))


def draw_order(axes: Axes, film: Film, zone: Zone, order: int) -> None:
    """Free blocks of one order over the window, the kernel's and the model's."""
    kernel = film.curve[:, zone.index, order]
    axes.step(film.curve_operations, kernel, where="post", color=style.BLUE, linewidth=1.2)
    top = int(kernel.max(initial=0))
    low = int(kernel.min(initial=0))
    if film.predicted:
        model = model_counts(film)[:, zone.index, order]
        at = [moment.operations for moment in film.moments]
        axes.plot(
            at, model, linestyle="none", marker="o", markersize=3.4, markerfacecolor="none",
            markeredgecolor=style.VERMILION, markeredgewidth=0.8, clip_on=False, zorder=3,
        )  # fmt: skip
        top, low = max(top, int(model.max())), min(low, int(model.min()))
    scale_operations(axes, film)
    if low > 0.5 * top:
        margin = max(1.0, 0.08 * (top - low))
        axes.set_ylim(low - margin, top + margin)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        style.scale_counts(axes, float(top), ticks=3)


def _key(spare: list[Axes], film: Film) -> None:
    """What line and circles are, where the grid has room for it."""
    if not spare:
        return
    axes = spare[-1]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.plot([0.02, 0.16], [0.75, 0.75], color=style.BLUE, linewidth=1.2)
    axes.text(0.2, 0.75, "kernel", va="center", size=8)
    if film.predicted:
        axes.plot(
            [0.09], [0.45], linestyle="none", marker="o", markersize=3.4, markerfacecolor="none",
            markeredgecolor=style.VERMILION, markeredgewidth=0.8,
        )  # fmt: skip
        axes.text(0.2, 0.45, "model", va="center", size=8)


def model_counts(film: Film) -> NDArray[np.int64]:
    """The model's free blocks by moment, zone and order."""
    return np.stack(
        [moment.model_nr_free for moment in film.moments if moment.model_nr_free is not None]
    )


def _title(film: Film) -> str:
    if not film.predicted:
        return f"{film.window}: free blocks per order in the kernel"
    kernel = np.stack([moment.nr_free for moment in film.moments])
    equal = int((kernel == model_counts(film)).sum())
    return (
        f"{film.window}: the model has the kernel's free blocks in {equal:,} of "
        f"{kernel.size:,} counts at {len(film.moments)} moments"
    )
