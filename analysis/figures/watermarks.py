"""Free pages of each zone against the watermarks that wake, pace and stop reclaim."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
from analysis.figures.zones import Zone, populated_zones, zone_caption

NAME = "watermarks"
TITLE = "Free pages against the watermarks"
READING = (
    "The line is the zone's free pages on a logarithmic scale; below low the kernel wakes kswapd, "
    "below min ordinary allocations must reclaim for themselves, and kswapd rests at high. "
    "Watermarks are the values that the kernel printed; a shaded stretch under high is a temporary "
    "boost after fragmenting events, which the printed values include."
)

_MARKS = (("high", style.GREEN), ("low", style.ORANGE), ("min", style.VERMILION))


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """Free pages and min/low/high over time, one panel a zone; needs ``zoneinfo``."""
    timeline = read_timeline(tables)
    caption = zone_caption(tables, facts.caption)
    frame = table(tables, "zoneinfo")
    if frame is not None:
        fields = ("free", "min", "low", "high", "boost")
        frame = frame[frame["field"].isin(fields)]
    zones = [] if frame is None else populated_zones(tables, frame)
    if frame is None or not zones:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(panels[0][0], "no zoneinfo samples: /proc/zoneinfo was not recorded")
        return figure
    levels = {zone: _levels(zone.rows(frame), timeline) for zone in zones}
    rows = [strip_row(timeline)]
    panel_in = 1.15 if len(zones) > 4 else 1.4
    rows += [style.Row(height_in=panel_in, gap_above_in=0.3) for _ in zones]
    figure, panels = style.new_sheet(_title(levels), caption, rows)
    draw_strip(panels[0][0], timeline)
    for zone, (axes,) in zip(zones, panels[1:], strict=True):
        axes.set_title(zone.label)
        shade(axes, timeline, last=zone == zones[-1])
        _draw_zone(axes, levels[zone])
        axes.set_ylabel("pages (log)")
    return figure


def _levels(rows: pd.DataFrame, timeline: Timeline) -> pd.DataFrame:
    """One row a round: seconds and the fields as columns, NaN where not printed."""
    levels = rows.pivot(index="round", columns="field", values="value").astype(float)
    levels.columns = levels.columns.astype(str)
    levels["seconds"] = timeline.seconds(rows.drop_duplicates("round").sort_values("round"))
    return levels


def _draw_zone(axes: Axes, levels: pd.DataFrame) -> None:
    times_s = levels["seconds"].to_numpy()
    names = [name for name, _ in _MARKS if name in levels]
    axes.set_yscale("log")
    seen = levels[["free", *names]].to_numpy()
    low = max(1.0, float(np.nanmin(np.where(seen > 0, seen, np.nan), initial=1e12)))
    high = max(2.0, float(np.nanmax(seen)))
    axes.set_ylim(low / 1.6, high * 1.6)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high > 50 * low else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short_number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    labels: list[tuple[float, str, str]] = []
    for name, color in _MARKS:
        if name not in levels:
            continue
        pages = levels[name].to_numpy()
        keep = turning_points(pages[:, None])
        axes.step(times_s[keep], pages[keep], where="post", color=color, linewidth=1.1)
        labels.append((max(pages[-1], 1.0), f"{name} {pages[-1]:,.0f}", color))
    boosted = _boost(levels)
    if boosted is not None and "high" in levels:
        axes.fill_between(
            times_s, levels["high"].to_numpy() - boosted, levels["high"].to_numpy(),
            where=boosted > 0, step="post", color=style.PURPLE, alpha=0.3, linewidth=0,
        )  # fmt: skip
    free = levels["free"].to_numpy()
    keep = turning_points(free[:, None])
    axes.plot(times_s[keep], np.maximum(free[keep], low / 1.6), color=style.BLUE)
    labels.append((max(free[-1], 1.0), f"free {free[-1]:,.0f}", style.BLUE))
    style.end_labels(axes, labels)
    remarks = []
    if boosted is not None and boosted.max() > 0:
        remarks.append(f"boost up to {boosted.max():,.0f} pages in {(boosted > 0).sum()} rounds")
    below = [
        f"below {name} in {count} rounds"
        for name in reversed(names)
        if (count := int((free < levels[name].to_numpy()).sum()))
    ]
    remarks += below[:1]
    if remarks:
        style.note(axes, " · ".join(remarks))


def _boost(levels: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    if "boost" not in levels:
        return None
    boost = levels["boost"].fillna(0.0).to_numpy()
    return np.asarray(boost, dtype=np.float64)


def _title(levels: dict[Zone, pd.DataFrame]) -> str:
    """The zone that came closest to its low watermark, and how close."""
    ratios: dict[Zone, float] = {}
    for zone, frame in levels.items():
        if "low" in frame and (frame["low"] > 0).any():
            usable = frame[frame["low"] > 0]
            ratios[zone] = float((usable["free"] / usable["low"]).min())
    if not ratios:
        return TITLE
    zone = min(ratios, key=lambda key: ratios[key])
    ratio = ratios[zone]
    if ratio < 1:
        return f"{zone.label} fell to {ratio:.0%} of its low watermark"
    return (
        "No zone fell below its low watermark; "
        f"{zone.label} came closest, at {ratio:.2g} times as much"
    )
