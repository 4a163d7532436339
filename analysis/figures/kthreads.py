"""CPU time of kswapd and kcompactd, node by node."""

from __future__ import annotations

from dataclasses import dataclass

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

NAME = "kthreads"
TITLE = "CPU time of the memory threads"
READING = (
    "On the left, the share of one CPU that each thread used between two rounds; on the right, "
    "what it had used since the first round, with its context switches. "
    "kswapd busy without kcompactd is plain reclaim; kcompactd busy means that the kernel was "
    "looking for pages to move, or moving them, to make large blocks."
)

_RIGHT_IN = 1.5
_SWITCHES = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
_THREADS = (("kswapd", style.BLUE), ("kcompactd", style.VERMILION))


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """CPU share and running total of each thread, one row a node; needs ``kthreads``."""
    timeline = read_timeline(tables)
    frame = table(tables, "kthreads")
    if frame is None:
        figure, panels = style.new_sheet(TITLE, facts.caption, [style.Row(height_in=1.6)])
        style.notice(panels[0][0], "no kthreads samples: no /proc/PID/stat of kswapd or kcompactd")
        return figure
    nodes = sorted({int(node) for node in frame["node"].dropna()})
    uses = {
        (node, kind): use
        for node in nodes
        for kind, _ in _THREADS
        if (use := _use(frame, f"{kind}{node}", timeline, facts)) is not None
    }
    spent = ", ".join(
        f"{kind} "
        + style.milliseconds(sum(use.total_ms for (_, k), use in uses.items() if k == kind))
        for kind, _ in _THREADS
        if any(k == kind for _, k in uses)
    )
    span = f" in {timeline.end_s:,.0f} s" if timeline.end_s >= 1 else ""
    rows = [strip_row(timeline, columns=2, right_in=_RIGHT_IN)]
    rows += [style.Row(height_in=1.25, widths=(1, 1), gap_above_in=0.36) for _ in nodes]
    figure, panels = style.new_sheet(
        f"CPU time{span}: {spent}" if spent else TITLE, facts.caption, rows, right_in=_RIGHT_IN
    )
    for axes in panels[0]:
        draw_strip(axes, timeline)
    for node, (share_axes, total_axes) in zip(nodes, panels[1:], strict=True):
        _draw_node(node, uses, share_axes, total_axes)
        for axes in (share_axes, total_axes):
            shade(axes, timeline, last=node == nodes[-1])
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """What one thread used; arrays have one entry a round."""

    times_s: npt.NDArray[np.float64]
    cpu_ms: npt.NDArray[np.float64]
    """Since the first round."""
    switches: int | None
    """Context switches since the first round; None when they were not recorded."""

    @property
    def total_ms(self) -> float:
        return float(self.cpu_ms[-1])

    @property
    def share_percent(self) -> npt.NDArray[np.float64]:
        """Of one CPU, in the interval that begins with each round but the last."""
        interval_ms = np.diff(self.times_s) * 1e3
        used_ms = np.diff(self.cpu_ms)
        return 100 * np.divide(
            used_ms, interval_ms, out=np.zeros_like(used_ms), where=interval_ms > 0
        )


def _use(frame: pd.DataFrame, thread: str, timeline: Timeline, facts: FigureFacts) -> _Use | None:
    """Run time from schedstat (ns), else from utime and stime (ticks)."""
    rows = frame[frame["thread"] == thread].sort_values("round")
    if "run_ns" in rows and rows["run_ns"].notna().any():
        rows = rows[rows["run_ns"].notna()]
        cpu_ms = rows["run_ns"].to_numpy(dtype=float) / 1e6
    elif "utime_ticks" in rows and rows["utime_ticks"].notna().any():
        rows = rows[rows["utime_ticks"].notna()]
        ticks = rows[["utime_ticks", "stime_ticks"]].to_numpy(dtype=float).sum(axis=1)
        cpu_ms = ticks * 1e3 / facts.clock_tick_hz
    else:
        return None
    columns = [name for name in _SWITCHES if name in rows]
    counts = rows[columns].dropna().to_numpy(dtype=float).sum(axis=1) if columns else []
    return _Use(
        times_s=timeline.seconds(rows),
        cpu_ms=cpu_ms - cpu_ms[0],
        switches=int(counts[-1] - counts[0]) if len(counts) else None,
    )


def _draw_node(
    node: int, uses: dict[tuple[int, str], _Use], share_axes: Axes, total_axes: Axes
) -> None:
    share_axes.set_title(f"node {node}: CPU share")
    total_axes.set_title(f"node {node}: CPU time used")
    share_axes.set_ylabel("% of one CPU")
    total_axes.set_ylabel("ms")
    labels: list[tuple[float, str, str]] = []
    top_percent = top_ms = 0.0
    missing: list[str] = []
    for kind, color in _THREADS:
        use = uses.get((node, kind))
        if use is None:
            missing.append(f"{kind}{node}")
            continue
        share = np.append(use.share_percent, 0.0)
        top_percent, top_ms = max(top_percent, share.max()), max(top_ms, use.total_ms)
        keep = turning_points(share[:, None])
        share_axes.step(use.times_s[keep], share[keep], where="post", color=color, linewidth=1.1)
        keep = turning_points(use.cpu_ms[:, None])
        total_axes.plot(use.times_s[keep], use.cpu_ms[keep], color=color)
        switches = "" if use.switches is None else f"\n{use.switches:,} switches"
        labels.append((use.total_ms, f"{kind} {style.milliseconds(use.total_ms)}{switches}", color))
    style.scale_counts(share_axes, top_percent)
    style.scale_counts(total_axes, top_ms)
    style.end_labels(total_axes, labels)
    if missing:
        style.note(share_axes, f"{' and '.join(missing)}: no samples")
