"""How much of the free memory an allocation of each order could not use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from analysis.compare.facts import Tables
from analysis.figures import style
from analysis.figures.facts import FigureFacts, table
from analysis.figures.timeline import Timeline, draw_strip, read_timeline, shade, strip_row
from analysis.figures.zones import Zone, large_zones, populated_zones, zone_caption

NAME = "unusable"
TITLE = "Unusable free memory by order"
READING = (
    "Each strip is one zone, each line in it an order: the darker, the larger the share of the "
    "free memory that lies in blocks too small for one allocation of that order. "
    "A strip that darkens from the top down shows fragmentation reaching smaller and smaller "
    "orders; a jump back to light is merging or compaction."
)


@style.applied()
def draw(tables: Tables, facts: FigureFacts) -> Figure:
    """Heat maps of the kernel's unusable free space index; needs ``fragindex``."""
    timeline = read_timeline(tables)
    caption = zone_caption(tables, facts.caption)
    frame = table(tables, "fragindex")
    if frame is not None:
        frame = frame[(frame["index"] == "unusable") & (frame["value_milli"] >= 0)]
    zones = [] if frame is None else populated_zones(tables, frame)
    if frame is None or not zones:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(
            panels[0][0],
            "no unusable_index samples: debugfs was not mounted, or the kernel was built without "
            "CONFIG_COMPACTION and CONFIG_DEBUG_FS",
        )
        return figure
    maps = {zone: _map(zone.rows(frame), timeline) for zone in zones}
    panel_in = 1.0 if len(zones) > 4 else 1.2
    rows = [strip_row(timeline)]
    rows += [style.Row(height_in=panel_in, gap_above_in=0.3) for _ in zones]
    large = [zone for zone in large_zones(tables) if zone in maps] or zones
    figure, panels = style.new_sheet(_title({z: maps[z] for z in large}), caption, rows)
    draw_strip(panels[0][0], timeline)
    mesh = None
    for zone, (axes,) in zip(zones, panels[1:], strict=True):
        edges_s, orders, index = maps[zone]
        axes.set_title(zone.label)
        shade(axes, timeline, last=zone == zones[-1])
        axes.grid(visible=False)
        mesh = axes.pcolormesh(
            edges_s,
            np.append(orders, orders[-1] + 1) - 0.5,
            index.T,
            cmap=style.index_colormap(),
            norm=PowerNorm(0.5, vmin=0.0, vmax=1.0),
            rasterized=True,
        )
        axes.set_yticks(orders[:: 2 if len(orders) < 16 else 3])
        axes.set_ylabel("order")
    first = panels[1][0].get_position()
    color_axes = figure.add_axes((first.x1 + 0.03, first.y0, 0.013, first.height))
    assert mesh is not None
    bar = figure.colorbar(mesh, cax=color_axes, ticks=[0.0, 0.1, 0.5, 1.0])
    bar.outline.set_visible(False)
    color_axes.set_yticklabels(["0", "0.1", "0.5", "1"])
    color_axes.set_ylabel("unusable share", size=8)
    color_axes.grid(visible=False)
    return figure


_Map = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def _map(rows: pd.DataFrame, timeline: Timeline) -> _Map:
    """Cell edges in seconds, orders, and the index 0 to 1 (rounds, orders) of one zone."""
    index = rows.pivot(index="round", columns="order", values="value_milli")
    starts_s = timeline.seconds(rows.drop_duplicates("round").sort_values("round"))
    # A value holds until the next round reads another; the last lasts to the end of the axis.
    edges_s = np.append(starts_s, max(timeline.end_s, float(starts_s[-1])))
    orders = index.columns.to_numpy(dtype=np.int64)
    return edges_s, orders, index.to_numpy(dtype=float, na_value=np.nan) / 1000.0


def _title(maps: dict[Zone, _Map]) -> str:
    """Names the largest order's worst moment."""
    worst = {
        zone: (float(np.nanmax(index[:, -1])), int(orders[-1]))
        for zone, (_, orders, index) in maps.items()
    }
    zone = max(worst, key=lambda key: worst[key][0])
    share, order = worst[zone]
    return (
        f"At the worst moment {share:.0%} of the free memory in {zone.label} "
        f"could not serve order {order}"
    )
