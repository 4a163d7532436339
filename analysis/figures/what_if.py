"""Unusable free memory over a window: the kernel's, and under other rules of its allocator."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures import style
from analysis.replay.what_if import WhatIf

NAME = "what-if"
TITLE = "Unusable free memory, had the allocator other rules"
READING = (
    "Each panel is a zone and an order: the share of the free memory that lies in blocks too "
    "small for it, from the window's first event to its last. The dashed line is the model under "
    "the kernel's own rules, left to itself; where it leaves the kernel's line, the model errs, "
    "and no counterfactual can be trusted further than that."
)
_COLORS = {"real": style.INK, "as recorded": style.SKY, "what if": style.VERMILION}
_DRAWN = ("real", "what if", "as recorded")


@style.applied()
def draw(what_if: WhatIf) -> Figure:
    """A row of panels for each zone, one for each order told of."""
    stream = what_if.stream
    by_name = {zone.name: zone for zone in what_if.zones}
    zones = [
        (number, name)
        for number, row in enumerate(stream.begin.zones)
        if (name := f"node {int(row['node'])} {row['name'].decode()}") in by_name
    ]
    orders = what_if.orders
    caption = (
        f"window {stream.name}, Linux {stream.kernel} on {stream.arch}; "
        f"what if {' '.join(what_if.options)}; {what_if.what_if.requests:,} requests"
    )
    rows = [style.Row(height_in=1.35, widths=(1.0,) * len(orders), gap_above_in=0.4) for _ in zones]
    if not zones:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(panels[0][0], "no zone has free memory")
        return figure
    figure, panels = style.new_sheet(_finding(what_if), caption, rows)
    for (number, name), row in zip(zones, panels, strict=True):
        for order, axes in zip(orders, row, strict=True):
            axes.set_title(f"{name}, order {order}")
            _curves(axes, what_if, number, order)
            axes.tick_params(labelbottom=row is panels[-1])
    for axes in panels[-1]:
        axes.set_xlabel("events")
    for axes in (row[0] for row in panels):
        axes.set_ylabel("unusable share")
    return figure


def _curves(axes: Axes, what_if: WhatIf, zone: int, order: int) -> None:
    curves = what_if.curves(zone, order)
    labels: list[tuple[float, str, str]] = []
    top = 0.0
    for name in _DRAWN:
        if name not in curves:
            continue
        counter, index = curves[name]
        dashed = name == "as recorded"
        axes.plot(
            counter,
            index,
            color=_COLORS[name],
            linewidth=1.1 if dashed else 1.6,
            linestyle=(0, (3, 2)) if dashed else "solid",
            drawstyle="steps-post",
        )
        top = max(top, float(index.max(initial=0.0)))
        if len(index):
            labels.append((float(index[-1]), name, _COLORS[name]))
    axes.set_ylim(0.0, min(1.0, top * 1.15) or 0.05)
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short_number(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    style.end_labels(axes, labels)


def _finding(what_if: WhatIf) -> str:
    """Names the zone and order whose index would have ended farthest from what it is."""
    farthest: tuple[float, str, int, float, float] | None = None
    for zone in what_if.zones:
        base = zone.real or zone.as_recorded
        for order in what_if.orders:
            real, other = base.unusable[order], zone.what_if.unusable[order]
            if farthest is None or abs(other - real) > farthest[0]:
                farthest = abs(other - real), zone.name, order, real, other
    if farthest is None or not farthest[0]:
        return "At the end nothing would have been more or less fragmented"
    _, name, order, real, other = farthest
    return (
        f"With {' '.join(what_if.options)} {other:.1%} of the free memory in {name} could not "
        f"have served order {order} at the end, instead of {real:.1%}"
    )
