"""Free memory by block size over time: what is free, and in pieces of which size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.facts import Tables
from analysis.figures import style
from analysis.figures.facts import FigureFacts, table
from analysis.figures.timeline import (
    Timeline,
    draw_strip,
    read_timeline,
    shade,
    strip_row,
    turning_points,
)
from analysis.figures.zones import populated_zones, zone_caption

NAME = "free_orders"
TITLE = "Free memory by order"
READING = (
    "Each row is one zone; the height of a colour is the memory that lies free in blocks of that "
    "order, on the left all free memory, on the right without the largest order and enlarged. "
    "A right side that grows while the left one stays level means that large blocks were broken up "
    "though memory was free: that is fragmentation, not shortage."
)


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """Stacked areas of free MiB, one panel a zone; needs ``buddyinfo``."""
    timeline = read_timeline(tables)
    caption = zone_caption(tables, facts.caption)
    frame = table(tables, "buddyinfo")
    zones = [] if frame is None else populated_zones(tables, frame)
    if frame is None or not zones:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(panels[0][0], "no buddyinfo samples: /proc/buddyinfo was not recorded")
        return figure
    frame = frame[frame["bracket"] == "before"]
    stacks = {zone: _stack(zone.rows(frame), timeline, facts) for zone in zones}
    orders = max(mib.shape[1] for _, mib in stacks.values())
    total = sum(mib.sum(axis=1) for _, mib in stacks.values())
    title = (
        f"Free memory went from {total[0]:,.0f} to {total[-1]:,.0f} MiB, "
        f"at the lowest {total.min():,.0f} MiB"
        if isinstance(total, np.ndarray) and len(total)
        else TITLE
    )
    rows = [style.Row(height_in=0.13, gap_above_in=0.08), strip_row(timeline, columns=2)]
    rows += [style.Row(height_in=1.25, widths=(1, 1), gap_above_in=0.32) for _ in zones]
    figure, panels = style.new_sheet(title, caption, rows)
    colors = style.order_colors(orders)
    _draw_key(panels[0][0], colors, facts)
    for axes in panels[1]:
        draw_strip(axes, timeline)
    for zone, (all_axes, small_axes) in zip(zones, panels[2:], strict=True):
        times_s, mib = stacks[zone]
        largest = mib.shape[1] - 1
        all_axes.set_title(f"{zone.label}: all orders")
        small_axes.set_title(f"{zone.label}: without order {largest}")
        for axes, shown in ((all_axes, mib), (small_axes, mib[:, :largest])):
            shade(axes, timeline, last=zone == zones[-1])
            _draw_stack(axes, times_s, shown, colors)
        all_axes.set_ylabel("free, MiB")
        _label_stack(small_axes, mib[:, :largest])
    return figure


def _stack(
    rows: pd.DataFrame, timeline: Timeline, facts: FigureFacts
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Seconds (rounds,) and free MiB (rounds, orders) of one zone."""
    blocks = rows.pivot(index="round", columns="order", values="free_blocks")
    times_s = timeline.seconds(rows.drop_duplicates("round").sort_values("round"))
    block_mib = np.array([facts.mib(1 << int(order)) for order in blocks.columns])
    return times_s, blocks.to_numpy(dtype=float, na_value=0.0) * block_mib


def _draw_stack(
    axes: Axes,
    times_s: npt.NDArray[np.float64],
    mib: npt.NDArray[np.float64],
    colors: list[tuple[float, float, float, float]],
) -> None:
    keep = turning_points(mib)
    times_s, tops = times_s[keep], np.cumsum(mib[keep], axis=1)
    bottoms = np.hstack([np.zeros((len(tops), 1)), tops[:, :-1]])
    outline_s = np.concatenate([times_s[:1], times_s, times_s[-1:]])
    # Largest order first, each down to zero, so that no seam shows between neighbours.
    for order in reversed(range(mib.shape[1])):
        if (tops[:, order] > bottoms[:, order]).any():
            outline_mib = np.concatenate([[0.0], tops[:, order], [0.0]])
            axes.fill(outline_s, outline_mib, color=colors[order], linewidth=0)
    style.scale_counts(axes, float(tops[:, -1].max()) if mib.shape[1] else 0.0)


def _label_stack(axes: Axes, mib: npt.NDArray[np.float64]) -> None:
    """Names the bands that are thick enough at the right edge."""
    tops = np.cumsum(mib[-1])
    ceiling = axes.get_ylim()[1]
    labels = [
        (float(top - height / 2), f"order {order}", style.INK)
        for order, (top, height) in enumerate(zip(tops, mib[-1], strict=True))
        if height > 0.07 * ceiling
    ]
    style.end_labels(axes, labels)


def _draw_key(
    axes: Axes, colors: list[tuple[float, float, float, float]], facts: FigureFacts
) -> None:
    """The colours in the order they are stacked, with order numbers and the smallest and largest
    block's size."""
    axes.axis("off")
    axes.set_xlim(0.0, style.width_in(axes))
    axes.set_ylim(0.0, 1.0)
    step_in = 0.3
    smallest, largest = (_size(facts, order) for order in (0, len(colors) - 1))
    axes.text(0.0, 0.5, f"order, {smallest}", va="center", size=8, color=style.MUTED)
    start_in = 0.1 + 0.058 * len(f"order, {smallest}")
    for order, color in enumerate(colors):
        left_in = start_in + order * step_in
        axes.broken_barh([(left_in, step_in - 0.02)], (0.0, 1.0), color=color)
        ink = style.PAPER if sum(color[:3]) < 1.5 else style.INK
        axes.text(
            left_in + step_in / 2 - 0.01, 0.47, str(order), ha="center", va="center", size=7,
            color=ink,
        )  # fmt: skip
    axes.text(
        start_in + len(colors) * step_in + 0.06, 0.5, f"{largest} blocks", va="center", size=8,
        color=style.MUTED,
    )  # fmt: skip


def _size(facts: FigureFacts, order: int) -> str:
    kib = (facts.page_size_bytes << order) // 1024
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"
