"""One look for all figures: sizes, colours, and a sheet of panels laid out in inches.

Figures are made through the object interface; matplotlib's settings are changed only inside
``applied()`` and put back after, whatever the user's own configuration says.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import ColorType

WIDTH_IN = 10.0
LEFT_IN = 0.85
RIGHT_IN = 1.25
BOTTOM_IN = 0.55
DPI = 110

INK = "#1f2933"
MUTED = "#5f6b7a"
FAINT = "#d5dae1"
PAPER = "#ffffff"
BAND = "#f1f4f8"
_LIGHT = 0.3
"""Relative luminance from which writing is dark: a little more than where both contrast alike
(0.22), so that it is light on all saturated colours below."""

# Okabe and Ito's palette: told apart with any colour vision.
BLUE = "#0072b2"
ORANGE = "#e69f00"
GREEN = "#009e73"
VERMILION = "#d55e00"
PURPLE = "#b0578d"
SKY = "#56b4e9"

_SETTINGS: dict[Any, object] = {
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.titlecolor": INK,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e8ed",
    "grid.linewidth": 0.6,
    "xtick.color": "#9aa5b1",
    "ytick.color": "#9aa5b1",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "butt",
    "hatch.linewidth": 0.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmscope",
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Our settings on top of matplotlib's own defaults, for as long as the block lasts."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of panels on a sheet."""

    height_in: float
    widths: tuple[float, ...] = (1.0,)
    """Relative widths of its panels."""
    gap_above_in: float = 0.32
    gap_between_in: float = 0.75


def new_sheet(
    title: str,
    caption: str,
    rows: Sequence[Row],
    *,
    right_in: float = RIGHT_IN,
    dpi: int = DPI,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure as tall as its rows need, with title and caption set; axes row by row.

    ``dpi`` is that of its PNG.
    """
    title_lines = textwrap.wrap(title, 104) or [""]
    caption_lines = textwrap.wrap(caption, 150) or [""]
    head_in = 0.16 + 0.2 * len(title_lines) + 0.16 * len(caption_lines)
    body_in = sum(row.height_in + row.gap_above_in for row in rows)
    height_in = head_in + body_in + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=dpi)
    FigureCanvasAgg(figure)
    x = 0.18 / WIDTH_IN
    top_in = 0.12
    figure.text(
        x, 1 - top_in / height_in, "\n".join(title_lines), size=11.5, weight="bold", va="top",
        linespacing=1.25,
    )  # fmt: skip
    top_in += 0.2 * len(title_lines) + 0.03
    figure.text(
        x, 1 - top_in / height_in, "\n".join(caption_lines), size=8.5, color=MUTED, va="top",
        linespacing=1.25,
    )  # fmt: skip
    y_in = head_in
    panels: list[list[Axes]] = []
    for row in rows:
        y_in += row.gap_above_in
        usable_in = WIDTH_IN - LEFT_IN - right_in - row.gap_between_in * (len(row.widths) - 1)
        x_in = LEFT_IN
        axes_row: list[Axes] = []
        for width in row.widths:
            width_in = usable_in * width / sum(row.widths)
            axes_row.append(
                figure.add_axes(
                    (
                        x_in / WIDTH_IN,
                        1 - (y_in + row.height_in) / height_in,
                        width_in / WIDTH_IN,
                        row.height_in / height_in,
                    )
                )
            )
            x_in += width_in + row.gap_between_in
        panels.append(axes_row)
        y_in += row.height_in
    return figure, panels


def column_in(row: Row, *, right_in: float = RIGHT_IN) -> float:
    """Width in inches of the first panel of a row."""
    gaps_in = row.gap_between_in * (len(row.widths) - 1)
    return (WIDTH_IN - LEFT_IN - right_in - gaps_in) * row.widths[0] / sum(row.widths)


def width_in(axes: Axes) -> float:
    """Width of a panel in inches."""
    return float(axes.get_position().width) * WIDTH_IN


def height_in(axes: Axes) -> float:
    """Height of a panel in inches."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(axes.get_position().height * figure.get_figheight())


def notice(axes: Axes, text: str) -> None:
    """Says inside an empty panel why it is empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_facecolor(BAND)
    for spine in axes.spines.values():
        spine.set_visible(False)
    wrapped = textwrap.fill(text, max(20, int(width_in(axes) * 13)))
    axes.text(0.5, 0.5, wrapped, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def note(axes: Axes, text: str) -> None:
    """A remark above the panel, at the right end of its title line."""
    axes.set_title(text, loc="right", size=8, weight="normal", color=MUTED)


def order_colors(orders: int) -> list[tuple[float, float, float, float]]:
    """One colour an order, dark for small blocks to light for large ones."""
    return [tuple(rgba) for rgba in _cmap("YlGnBu_r")(np.linspace(0.0, 0.88, max(orders, 1)))]


def ink_on(color: ColorType) -> str:
    """The colour of writing on a colour: dark where its relative luminance (WCAG) is ``_LIGHT`` or
    more."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return INK if linear @ np.array([0.2126, 0.7152, 0.0722]) >= _LIGHT else PAPER


def index_colormap() -> Colormap:
    """Light for 0, dark for 1."""
    return _cmap("magma_r")


def _cmap(name: str) -> Colormap:
    return mpl.colormaps[name]


def scale_counts(axes: Axes, top: float, *, ticks: int = 4) -> None:
    """A y axis from zero to a little above ``top``; a few round ticks, thousands abbreviated.

    When nothing moved (``top`` 0) the axis shows zero and no more.
    """
    axes.set_ylim(0.0, top * 1.08 or 1.0)
    if not top:
        axes.set_yticks([0])
        return
    axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def milliseconds(value_ms: float) -> str:
    """``4,776 ms``, or three digits when there are fewer."""
    return f"{value_ms:,.0f} ms" if value_ms >= 100 else f"{value_ms:.3g} ms"


def short_number(value: float) -> str:
    """1234 → ``1.23k``; three digits that matter."""
    size = abs(value)
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def end_labels(
    axes: Axes, labels: Sequence[tuple[float, str, str]], *, size: float = 8, x: float = 1.008
) -> None:
    """Writes (y in data units, text, colour) beside the right edge, pushed apart to be readable.

    A label that had to move keeps a thin line to where it belongs.
    """
    if not labels:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    x_data = axes.get_xlim()[1]
    wanted = [float(to_axes.transform((x_data, y))[1]) for y, _, _ in labels]
    lines = max(text.count("\n") + 1 for _, text, _ in labels)
    gap = size * 1.25 * lines / 72 / height_in(axes)
    # A label of one line may stand half below the panel, but not more.
    margin = gap / 2 - gap / (2 * lines)
    placed = spread(wanted, gap, margin, 1.0 - margin)
    for (_, text, color), at, target in zip(labels, placed, wanted, strict=True):
        moved = abs(at - target) > gap / 3
        start = x + 0.018 if moved else x
        if moved and 0 <= target <= 1:
            axes.plot(
                [1.0, start - 0.003], [target, at], transform=axes.transAxes, color=color,
                linewidth=0.6, clip_on=False,
            )  # fmt: skip
        axes.text(start, at, text, transform=axes.transAxes, size=size, color=color, va="center")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least ``gap`` apart, in the same order.

    They stay within ``low`` and ``high`` when that many fit there.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    at = [min(max(wanted[i], low), high) for i in order]
    for _ in range(60):
        for i in range(1, len(at)):
            if at[i] - at[i - 1] < gap - 1e-9:
                middle = (at[i] + at[i - 1]) / 2
                at[i - 1], at[i] = middle - gap / 2, middle + gap / 2
        if at and at[-1] > high:
            at[-1] = high
        if at and at[0] < low:
            at[0] = low
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    result = [0.0] * len(wanted)
    for position, i in zip(at, order, strict=True):
        result[i] = position
    return result
