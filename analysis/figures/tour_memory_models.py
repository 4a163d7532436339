"""Page frames above, the arrays of their struct pages below, and which belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from analysis.figures import style
from analysis.figures.tour_map import Scale, scale_of

_COLOURS = (style.BLUE, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, style.VERMILION)
_WIDTH_IN = 8.2
_HEIGHT_IN = 2.9
_LEFT_IN = 1.0
_RIGHT_IN = 0.3
_ROW = 0.62
"""Height of a row of boxes; the upper one begins at 2, the lower at 0."""
_SAID_LETTER = {"bold": 0.0098, "normal": 0.0082}
"""What a letter in a box takes of the width: words that do not fit are left out."""
_MAX_TICKS = 7
_LETTER = 0.0125
"""What a letter of a tick takes of the width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array of struct pages."""

    name: str
    first_pfn: int
    frames: int
    address: int
    """Of its first struct page, virtual."""
    struct_bytes: int

    @property
    def end_pfn(self) -> int:
        return self.first_pfn + self.frames

    @property
    def end(self) -> int:
        """One behind its last struct page."""
        return self.address + self.frames * self.struct_bytes


@style.applied()
def draw(arrays: Sequence[Array], *, page_bytes: int) -> Figure:
    """Two rows of boxes, and a bridge from each stretch of frames to its array.

    Raises:
        ValueError: there is no array.
    """
    if not arrays:
        raise ValueError("no array of struct pages")
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=style.DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (_LEFT_IN / _WIDTH_IN, 0.16, 1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN, 0.68)
    )
    frames = scale_of([0, *(edge for each in arrays for edge in (each.first_pfn, each.end_pfn))])
    places = scale_of([edge for each in arrays for edge in (each.address, each.end)])
    for number, each in enumerate(arrays):
        colour = _COLOURS[number % len(_COLOURS)]
        above = frames.at(each.first_pfn), frames.at(each.end_pfn)
        below = places.at(each.address), places.at(each.end)
        axes.add_patch(
            Polygon(
                [(above[0], 2), (above[1], 2), (below[1], _ROW), (below[0], _ROW)],
                closed=True,
                facecolor=colour,
                alpha=0.16,
                lw=0,
            )
        )
        size_mib = each.frames * page_bytes / (1 << 20)
        _box(axes, above, 2, colour, each.name, f"{size_mib:,.0f} MiB")
        array_kib = (each.end - each.address) / 1024
        _box(axes, below, 0, colour, "struct page", f"{array_kib:,.0f} KiB")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 2 + _ROW + 0.02)
    axes.set_yticks([_ROW / 2, 2 + _ROW / 2], ["memmap", "pfn"])
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    _ticks(axes, places, [each.address for each in arrays], top=False)
    _ticks(
        axes, frames, [edge for each in arrays for edge in (each.first_pfn, each.end_pfn)], top=True
    )
    return figure


def _box(
    axes: Axes, ends: tuple[float, float], bottom: float, colour: str, name: str, size: str
) -> None:
    width = ends[1] - ends[0]
    axes.add_patch(
        Rectangle((ends[0], bottom), width, _ROW, facecolor=colour, edgecolor=style.PAPER, lw=1.2)
    )
    words = [
        (text, weight) for text, weight in ((name, "bold"), (size, "normal"))
        if _SAID_LETTER[weight] * len(text) < width
    ]  # fmt: skip
    heights = ((), (0.5,), (0.64, 0.3))[len(words)]
    for (text, weight), part in zip(words, heights, strict=True):
        axes.text(
            ends[0] + width / 2, bottom + part * _ROW, text, ha="center", va="center",
            color=style.ink_on(colour), weight=weight, fontsize=7.5, clip_on=True,
        )  # fmt: skip


def _ticks(axes: Axes, scale: Scale, wanted: Sequence[int], *, top: bool) -> None:
    shown: list[int] = []
    for value in sorted(set(wanted)):
        room = _LETTER * len(f"{value:#x}")
        if all(abs(scale.at(value) - scale.at(other)) > room for other in shown):
            shown.append(value)
    for value in shown[:_MAX_TICKS]:
        at = scale.at(value)
        axes.annotate(
            f"{value:#x}",
            (at, 2 + _ROW if top else 0),
            xytext=(0, 5 if top else -6),
            textcoords="offset points",
            ha="left" if at < 0.02 else "right" if at > 0.98 else "center",
            va="bottom" if top else "top",
            fontsize=7,
            color=style.INK,
            annotation_clip=False,
        )
