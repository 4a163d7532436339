"""One colour for everything that a page can be: the maps of page frames and their legend."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from analysis.replay.page_use import FREE, PageUse

DIFFERENCE = "#000000"
"""Of the rings around pages that differ; on a white one, so that it shows on any colour."""

USES: tuple[tuple[PageUse, str, str], ...] = (
    (PageUse.OFF_LISTS, "#00a37a", "per-cpu list"),
    (PageUse.MOVABLE, "#f2b83b", "movable"),
    (PageUse.UNMOVABLE, "#c44e00", "unmovable"),
    (PageUse.RECLAIMABLE, "#9b4a86", "reclaimable"),
    (PageUse.IN_USE, "#5c4a2f", "in use, unknown"),
    (PageUse.RESERVED, "#8b95a1", "reserved"),
    (PageUse.NONE, "#eef0f3", "no page"),
)
"""Colours of pages that are not free, by Okabe and Ito's palette, and how they are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swatch:
    """An entry of the legend."""

    code: int
    color: str
    label: str


def free_colors(orders: int) -> list[str]:
    """Blues, dark for single pages to light for the largest blocks."""
    ramp = mpl.colormaps["Blues_r"](np.linspace(0.0, 0.78, max(orders, 1)))
    return [to_hex(color) for color in ramp]


def legend(orders: int) -> list[Swatch]:
    """Free orders from the largest down, then the uses."""
    free = [
        Swatch(code=FREE + order, color=color, label=f"free, order {order}")
        for order, color in enumerate(free_colors(orders))
    ]
    used = [Swatch(code=int(use), color=color, label=label) for use, color, label in USES]
    return free[::-1] + used


def paint(codes: NDArray[np.uint8], orders: int) -> NDArray[np.uint8]:
    """Codes of pages → their colours; one more axis of red, green and blue."""
    table = np.zeros((256, 3), np.uint8)
    for swatch in legend(orders):
        table[swatch.code] = [int(swatch.color[at : at + 2], 16) for at in (1, 3, 5)]
    return np.asarray(table[codes])


def rows_of(codes: NDArray[np.uint8], first_pfn: int, pageblock_order: int) -> NDArray[np.uint8]:
    """Codes of neighbouring pages in rows of a pageblock, at most ``ROW_PAGES`` long.

    Rows begin at pageblocks; what a first or last row has no page for is ``PageUse.NONE``.
    """
    width = min(1 << pageblock_order, ROW_PAGES)
    before = first_pfn % width
    rows = -(-(before + len(codes)) // width)
    padded = np.full(rows * width, PageUse.NONE, np.uint8)
    padded[before : before + len(codes)] = codes
    return padded.reshape(rows, width)


ROW_PAGES = 512
"""A pageblock with more pages takes several rows."""
