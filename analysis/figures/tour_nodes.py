"""Free pages of every zone before and after a request that outgrew its node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures import style

_WIDTH_IN = 8.2
_ROW_IN = 0.55
_LEFT_IN = 0.95
_RIGHT_IN = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFree:
    """One zone; pages."""

    label: str
    before: int
    after: int
    low: int


@style.applied()
def draw(zones: Sequence[ZoneFree]) -> Figure:
    """Two bars a zone, and its low watermark across both."""
    height_in = 0.95 + _ROW_IN * len(zones)
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=style.DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (
            _LEFT_IN / _WIDTH_IN,
            0.5 / height_in,
            1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN,
            1 - 0.85 / height_in,
        )
    )
    top = max((zone.before for zone in zones), default=1) or 1
    for row, zone in enumerate(reversed(zones)):
        for offset, pages, colour in (
            (0.19, zone.before, style.FAINT),
            (-0.19, zone.after, style.BLUE),
        ):
            axes.barh(row + offset, pages, height=0.34, color=colour)
            axes.text(
                pages + top * 0.008, row + offset, f"{pages:,}".replace(",", "\u202f"),
                va="center", size=7.5,
            )  # fmt: skip
        axes.plot([zone.low, zone.low], [row - 0.42, row + 0.42], color=style.VERMILION, lw=1.2)
    axes.set_yticks(range(len(zones)), [zone.label for zone in reversed(zones)])
    axes.set_ylim(-0.6, len(zones) - 0.4)
    axes.set_xlim(0, top * 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("nr_free_pages")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short_number(value)))
    key = ((0.0, "before", style.MUTED), (0.1, "after", style.BLUE), (0.18, "low", style.VERMILION))
    for x, text, colour in key:
        axes.text(x, 1.02, text, transform=axes.transAxes, color=colour, size=8.5, weight="bold")
    return figure
