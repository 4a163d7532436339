"""Free pages against watermarks, direct reclaim, swap and the OOM killer's points.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import style

_DPI = 120
_MARKS = {"high": style.GREEN, "low": style.ORANGE, "min": style.VERMILION}


def _sheet(rows: int, height_in: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.6, height_in), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False)
    return figure, [row[0] for row in axes]


@style.applied()
def free_pages(
    samples: Sequence[tuple[float, int]],
    marks: Mapping[str, int],
    awake: Sequence[tuple[float, float]],
    direct: Sequence[tuple[float, int]],
) -> Figure:
    """NR_FREE_PAGES over time between the watermarks; kswapd awake, direct reclaim as ticks.

    ``direct``: (second, pages reclaimed) of each direct reclaim.
    """
    figure, panels = _sheet(2 if direct else 1, 4.6 if direct else 3.3)
    axes = panels[0]
    seconds = np.array([second for second, _ in samples])
    pages = np.array([count for _, count in samples])
    highest = max(marks.values())
    for begin, end in awake:
        axes.axvspan(begin, end, color=style.SKY, alpha=0.18, linewidth=0)
    for name, value in marks.items():
        axes.axhline(value, color=_MARKS[name], linewidth=1.1)
    axes.plot(seconds, pages, color=style.BLUE, linewidth=1.0)
    begin_s = seconds[np.argmax(pages < 2.2 * highest)] if len(pages) else 0.0
    end_s = max((end for _, end in awake), default=float(seconds[-1]) if len(seconds) else 1.0)
    axes.set_xlim(max(0.0, begin_s - 0.2), end_s + 0.2)
    axes.set_ylim(0, highest * 2.0)
    axes.set_ylabel("NR_FREE_PAGES")
    axes.set_title("kswapd awake" if awake else "", loc="right", color=style.BLUE, size=8)
    style.end_labels(
        axes, [(value, f"{name} {value:,}", _MARKS[name]) for name, value in marks.items()]
    )
    if direct:
        lower = panels[1]
        lower.sharex(axes)
        lower.vlines(
            [second for second, _ in direct], 0, [count for _, count in direct],
            color=style.VERMILION, linewidth=0.8,
        )  # fmt: skip
        lower.axhline(32, color=style.MUTED, linewidth=0.9, linestyle="--")
        lower.set_ylim(0, max(count for _, count in direct) * 1.25)
        lower.set_ylabel("nr_reclaimed")
        lower.set_title("try_to_free_pages()", loc="right", color=style.VERMILION, size=8)
        style.end_labels(lower, [(32, "SWAP_CLUSTER_MAX", style.MUTED)], size=7)
    panels[-1].set_xlabel("s")
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """One process before the OOM killer."""

    label: str
    memory_pages: int
    adjustment_pages: int
    killed: int | None
    """As which, from 1; None: it lived."""


@style.applied()
def oom_points(rows: Sequence[Points]) -> Figure:
    """Badness of each process: its memory, its adjustment, the sum, and who was killed when."""
    figure, (axes,) = _sheet(1, 0.9 + 0.5 * len(rows))
    for place, row in enumerate(rows):
        axes.barh(place, row.memory_pages, height=0.5, color=style.BLUE)
        axes.barh(
            place, row.adjustment_pages, left=row.memory_pages, height=0.28, color=style.ORANGE
        )
        total = row.memory_pages + row.adjustment_pages
        axes.plot([total, total], [place - 0.36, place + 0.36], color=style.INK, linewidth=2)
        text = f"{total:,}" + (f"  killed #{row.killed}" if row.killed else "")
        color = style.VERMILION if row.killed else style.INK
        axes.annotate(
            text, (max(total, row.memory_pages), place), xytext=(5, 0), textcoords="offset points",
            va="center", color=color, size=8,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.margins(x=0.2)
    axes.grid(visible=False)
    axes.set_xlabel("pages")
    axes.set_title("rss + swapents + pgtables", color=style.BLUE)
    axes.set_title("oom_score_adj · (totalpages / 1000)", loc="right", color=style.ORANGE)
    return figure


@style.applied()
def swapped(rows: Sequence[tuple[str, int, int]]) -> Figure:
    """Where the pages of a process are: (boot, present, swap entries)."""
    figure, (axes,) = _sheet(1, 0.9 + 0.55 * len(rows))
    for place, (_, present, entries) in enumerate(rows):
        axes.barh(place, present, height=0.5, color=style.BLUE)
        axes.barh(place, entries, left=present, height=0.5, color=style.PURPLE)
        for left, width in ((0, present), (present, entries)):
            axes.text(
                left + width / 2, place, f"{width:,}", ha="center", va="center", color="white"
            )
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("pages")
    axes.set_title("Rss", color=style.BLUE)
    axes.set_title("Swap", loc="right", color=style.PURPLE)
    return figure
