"""A window in one picture: all pages at its most changed moment, and how it came to that."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.figures import replay_frames, style
from analysis.figures.replay_blocks import X_LABEL, draw_order, film_caption, shown_zones
from analysis.memory.geometry import Zone
from analysis.replay.film import Film

NAME = "overview"
TITLE = "Kernel beside model"
READING = (
    "Above, every page of the zone at the moment at which most of them were otherwise than at the "
    "window's begin: a dot a page, a row a pageblock, blues are free blocks, the lighter the "
    "larger. Below, free blocks of four orders over the window, lines the kernel's and circles the "
    "model's; the upright line is that moment."
)
_PANELS = 4


@style.applied()
def draw(film: Film) -> Figure:
    """Of the zone that changed most."""
    zones = shown_zones(film)
    caption = film_caption(film)
    if not zones:
        figure, panels = style.new_sheet(_title(film, None), caption, [style.Row(height_in=1.2)])
        style.notice(panels[0][0], "no page changed hands in this window")
        return figure
    moment = replay_frames.shown_moments(film)[0]
    changed = moment.kernel != film.moments[0].kernel
    zone = max(zones, key=lambda zone: int(changed[film.pages(zone)].sum()))
    caption += " · lines and left: kernel"
    caption += ", circles and right: model" if film.predicted else ""
    maps = style.Row(
        height_in=replay_frames.map_height_in(film, zone),
        widths=(replay_frames.MAP_IN,) * 2,
        gap_above_in=0.34,
        gap_between_in=replay_frames.GAP_IN,
    )
    curves = style.Row(
        height_in=0.95, widths=(1.0,) * _PANELS, gap_above_in=0.42, gap_between_in=0.42
    )
    figure, ((left, right), panels_below) = style.new_sheet(
        _title(film, zone),
        caption,
        [maps, curves],
        right_in=replay_frames.RIGHT_IN,
        dpi=replay_frames.DOTS_PER_IN,
    )
    replay_frames.draw_map(left, film, zone, moment.kernel)
    left.set_title(f"{zone}, {replay_frames.when(film, moment)}: kernel")
    replay_frames.label_rows(left, film, zone)
    if moment.model is None:
        right.axis("off")
    else:
        replay_frames.draw_map(right, film, zone, moment.model)
        right.set_title("model")
        replay_frames.ring_differing(right, film, zone, moment)
        style.note(right, replay_frames.differing_text(film, zone, moment))
    replay_frames.draw_legend(figure, right, film)
    for order, axes in zip(shown_orders(film), panels_below, strict=False):
        draw_order(axes, film, zone, order)
        axes.axvline(moment.operations, color=style.INK, linewidth=0.8)
        axes.set_title(f"free blocks, order {order}" if not order else f"order {order}")
    panels_below[0].set_xlabel(X_LABEL, loc="left")
    for axes in panels_below[len(shown_orders(film)) :]:
        axes.axis("off")
    return figure


def shown_orders(film: Film) -> list[int]:
    """Four orders from the smallest to the largest."""
    spread = np.linspace(0, film.orders - 1, _PANELS).astype(np.int64)
    return sorted(set(map(int, spread)))


def _title(film: Film, zone: Zone | None) -> str:
    if zone is None or not film.predicted:
        return f"{film.window}: the kernel's pages and free blocks"
    worst = max(len(moment.differing) for moment in film.moments)
    pages = sum(zone.spanned_pages for zone in film.zones)
    if worst:
        return (
            f"{film.window}: of {pages:,} pages the model never has more than {worst:,} otherwise "
            "than the kernel"
        )
    return (
        f"{film.window}: the model has each of {pages:,} pages as the kernel has it, "
        f"at all {len(film.moments)} moments"
    )
