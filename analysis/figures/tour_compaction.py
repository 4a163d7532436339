"""Free memory by order before and after compaction, and scores between kcompactd's marks.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import style

_DPI = 120


@style.applied()
def orders(before: Mapping[str, tuple[int, ...]], after: Mapping[str, tuple[int, ...]]) -> Figure:
    """Pages in free blocks of each order, by zone: before (light) and after (dark)."""
    zones = [zone for zone in before if zone in after]
    figure = Figure(figsize=(7.6, 1.0 + 1.6 * len(zones)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(zones), 1, squeeze=False)
    for axes, zone in zip(panels[:, 0], zones, strict=True):
        for blocks, shift, color in (
            (before[zone], -0.2, style.SKY),
            (after[zone], 0.2, style.BLUE),
        ):
            pages = [count << order for order, count in enumerate(blocks)]
            axes.bar(np.arange(len(pages)) + shift, pages, width=0.38, color=color)
            for order, count in enumerate(blocks):
                if count:
                    axes.text(
                        order + shift,
                        count << order,
                        f"{count}",
                        ha="center",
                        va="bottom",
                        size=6.5,
                    )
        axes.set_title(zone)
        axes.set_xticks(range(len(before[zone])))
        axes.set_ylabel("pages")
        axes.margins(y=0.15)
    panels[0, 0].set_title("t0", loc="center", color=style.SKY, size=8)
    panels[0, 0].set_title("t1", loc="right", color=style.BLUE, size=8)
    panels[-1, 0].set_xlabel("order")
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One look of kcompactd at its node."""

    second: float
    score: int
    low: int
    high: int
    proactiveness: int
    began: bool


@style.applied()
def scores(looks: Sequence[Score]) -> Figure:
    """Score of the node at every look, between the marks of the sysctl's value at that time."""
    figure = Figure(figsize=(7.6, 3.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    seconds = [look.second for look in looks]
    if seconds:
        edges = [*seconds, seconds[-1] + 0.5]
        for name, color in (("high", style.VERMILION), ("low", style.GREEN)):
            values = [getattr(look, name) for look in looks]
            axes.stairs(values, edges, baseline=None, color=color, linewidth=1.2)
        axes.fill_between(
            seconds, [look.low for look in looks], [look.high for look in looks], step="post",
            color=style.BAND, linewidth=0,
        )  # fmt: skip
        axes.plot(seconds, [look.score for look in looks], color=style.BLUE, linewidth=0.8)
    for began in (True, False):
        chosen = [look for look in looks if look.began is began]
        axes.plot(
            [look.second for look in chosen], [look.score for look in chosen], "o",
            color=style.BLUE, markerfacecolor=style.BLUE if began else style.PAPER, markersize=5,
            label="proactive_compact_node()" if began else "kcompactd_sleep",
        )  # fmt: skip
    seen: set[int] = set()
    for look in looks:
        if look.proactiveness not in seen:
            seen.add(look.proactiveness)
            axes.text(look.second, 112, f"{look.proactiveness}", size=7, color=style.MUTED)
    axes.set_ylim(0, 118)
    if looks:
        marks = ((looks[-1].high, "high", style.VERMILION), (looks[-1].low, "low", style.GREEN))
        style.end_labels(axes, marks)
    axes.set_ylabel("fragmentation_score_node()")
    axes.set_xlabel("s")
    axes.set_title("compaction_proactiveness", loc="right", size=8, color=style.MUTED)
    axes.legend(loc="lower left", frameon=False, fontsize=7)
    return figure
