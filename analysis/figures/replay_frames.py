"""Every page of a zone as a dot, the kernel's beside the model's, at two moments of a window."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.figures import style
from analysis.figures.page_colors import DIFFERENCE, ROW_PAGES, Swatch, legend, paint, rows_of
from analysis.figures.replay_blocks import film_caption, shown_zones
from analysis.memory.geometry import Zone
from analysis.replay.film import Film, Moment

NAME = "frames"
TITLE = "Every page: kernel beside model"
READING = (
    "Each dot is a page, each row a pageblock, addresses grow downwards. Blues are free blocks, "
    "the lighter the larger. Above, the moment at which most pages were otherwise than at the "
    "begin, the kernel's by exact replay; below, the window's end as the host read it in guest "
    "memory. On the right what the model has then; pages that differ are ringed."
)
DOTS_PER_IN = 290
MAP_IN = 1024 / DOTS_PER_IN
"""Two dots of the PNG for each page of a row of 512."""
GAP_IN = 48 / DOTS_PER_IN
RIGHT_IN = style.WIDTH_IN - style.LEFT_IN - 2 * MAP_IN - GAP_IN
_LEGEND_IN = 1.25
_LINE_IN = 0.145
_CELL = (4, 8)
"""Rows and columns of pages that are ringed as one."""


@style.applied()
def draw(film: Film) -> Figure:
    """Two rows of maps for each touched zone; only the kernel's where nothing was predicted."""
    zones = shown_zones(film)
    caption = film_caption(film)
    if not zones:
        figure, panels = style.new_sheet(_title(film), caption, [style.Row(height_in=1.2)])
        style.notice(panels[0][0], "no page changed hands in this window")
        return figure
    pictured = [(zone, moment) for zone in zones for moment in shown_moments(film)]
    rows = [
        style.Row(
            height_in=map_height_in(film, zone),
            widths=(MAP_IN, MAP_IN),
            gap_above_in=0.34,
            gap_between_in=GAP_IN,
        )
        for zone, _ in pictured
    ]
    missing_in = _LINE_IN * len(_present(film)) - sum(row.height_in + 0.34 for row in rows) + 0.34
    rows.append(style.Row(height_in=0.01, gap_above_in=max(0.0, missing_in)))
    figure, panels = style.new_sheet(
        _title(film), caption, rows, right_in=RIGHT_IN, dpi=DOTS_PER_IN
    )
    panels[-1][0].axis("off")
    for (zone, moment), (left, *right) in zip(pictured, panels, strict=False):
        draw_map(left, film, zone, moment.kernel)
        left.set_title(f"{zone}, {when(film, moment)}: kernel")
        label_rows(left, film, zone)
        if moment.model is None:
            right[0].axis("off")
            continue
        draw_map(right[0], film, zone, moment.model)
        right[0].set_title("model")
        ring_differing(right[0], film, zone, moment)
        style.note(right[0], differing_text(film, zone, moment))
    draw_legend(figure, panels[0][-1], film)
    return figure


def shown_moments(film: Film) -> list[Moment]:
    """The one between the ends at which most pages are otherwise than at the begin; the end."""
    first, *between, last = film.moments
    if not between:
        return [last]
    changed = [int((moment.kernel != first.kernel).sum()) for moment in between]
    return [between[int(np.argmax(changed))], last]


def when(film: Film, moment: Moment) -> str:
    """A moment in words."""
    if moment is film.moments[-1]:
        return "the end"
    return f"after {style.short_number(moment.operations)} page moves"


def map_height_in(film: Film, zone: Zone) -> float:
    """A whole number of the PNG's dots for each row."""
    rows = len(zone_rows(film, zone, film.moments[0].kernel))
    dots = max(1.0, min(10.0, 760 / rows))
    return max(0.25, int(dots) * rows / DOTS_PER_IN)


def row_pages(film: Film) -> int:
    """Pages in a row of the map."""
    return min(1 << film.geometry.pageblock_order, ROW_PAGES)


def zone_rows(film: Film, zone: Zone, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The codes of a zone's pages in rows of pageblocks."""
    return rows_of(codes[film.pages(zone)], zone.start_pfn, film.geometry.pageblock_order)


def draw_map(axes: Axes, film: Film, zone: Zone, codes: NDArray[np.uint8]) -> None:
    """The map of a zone."""
    rows = zone_rows(film, zone, codes)
    axes.imshow(paint(rows, film.orders), interpolation="none", aspect="auto", resample=False)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)


def label_rows(axes: Axes, film: Film, zone: Zone) -> None:
    """Page frame numbers at the left, in steps that are round in hexadecimal."""
    width = row_pages(film)
    first = zone.start_pfn // width * width
    rows = -(-(zone.end_pfn - first) // width)
    step = 1
    while rows / step > 9:
        step *= 2
    at = [row for row in range(rows) if (first // width + row) % step == 0]
    axes.set_yticks(at, [f"{first + row * width:#x}" for row in at], size=7)
    axes.tick_params(axis="y", length=2)


def ring_differing(axes: Axes, film: Film, zone: Zone, moment: Moment) -> None:
    """Rings around pages that differ; one for several that lie close together."""
    pages = film.pages(zone)
    found = moment.differing
    found = found[(found >= pages.start) & (found < pages.stop)] - pages.start
    width = row_pages(film)
    place = ringed(found + zone.start_pfn % width, width)
    for color, line in (("#ffffff", 2.2), (DIFFERENCE, 1.0)):
        axes.plot(
            place % width, place // width, linestyle="none", marker="o", markersize=5,
            markerfacecolor="none", markeredgecolor=color, markeredgewidth=line, clip_on=False,
            scalex=False, scaley=False,
        )  # fmt: skip


def ringed(places: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Of places in rows of ``width``, the first one in each cell of ``_CELL``."""
    rows, columns = _CELL
    cells = places // width // rows * (width // columns + 1) + places % width // columns
    return places[np.unique(cells, return_index=True)[1]]


def differing_text(film: Film, zone: Zone, moment: Moment) -> str:
    """How many of the zone's pages differ at a moment."""
    differing = film.differing(moment, zone)
    return f"{differing:,} of {zone.spanned_pages:,} pages differ"


def draw_legend(figure: Figure, beside: Axes, film: Film) -> None:
    """The colours that occur in the film, at the right of a panel."""
    place = beside.get_position()
    height_in = float(figure.get_figheight())
    swatches = _present(film)
    axes = figure.add_axes(
        (
            place.x1 + 0.16 / style.WIDTH_IN,
            place.y1 - _LINE_IN * len(swatches) / height_in,
            _LEGEND_IN / style.WIDTH_IN,
            _LINE_IN * len(swatches) / height_in,
        )
    )
    axes.axis("off")
    axes.set_xlim(0, _LEGEND_IN)
    axes.set_ylim(len(swatches), 0)
    for line, swatch in enumerate(swatches):
        axes.add_patch(
            Rectangle(
                (0, line + 0.1), 0.16, 0.8, facecolor=swatch.color, edgecolor=style.MUTED,
                linewidth=0.3,
            )
        )  # fmt: skip
        axes.text(0.22, line + 0.5, swatch.label, va="center", size=7.5)


def _present(film: Film) -> list[Swatch]:
    """The legend's entries for what occurs in the film."""
    codes: set[int] = set()
    for moment in film.moments:
        codes.update(np.unique(moment.kernel).tolist())
        if moment.model is not None:
            codes.update(np.unique(moment.model).tolist())
    return [swatch for swatch in legend(film.orders) if swatch.code in codes]


def _title(film: Film) -> str:
    end = film.moments[-1]
    if end.model is None:
        return f"{film.window}: every page at the window's begin and end"
    pages = sum(zone.spanned_pages for zone in film.zones)
    worst = max(film.moments, key=lambda moment: len(moment.differing))
    if not len(worst.differing):
        return (
            f"{film.window}: 0 of {pages:,} pages differ between kernel and model, "
            f"at any of {len(film.moments)} moments"
        )
    return (
        f"{film.window}: {len(end.differing):,} of {pages:,} pages differ between kernel and model "
        f"at the end; at most {len(worst.differing):,}, {when(film, worst)}"
    )
