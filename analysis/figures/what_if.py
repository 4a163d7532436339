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
_SMALL = 0.0005
"""Differences of the index below this are not worth a word."""
_DRAWN = ("real", "what if", "as recorded")


@style.applied()
def draw(what_if: WhatIf) -> Figure:
    """A row of panels for each zone whose index moved, one for each order told of."""
    stream = what_if.stream
    zones = [(zone.number, zone.name) for zone in what_if.zones if _moved(what_if, zone.number)]
    orders = what_if.orders
    caption = (
        f"window {stream.name}, Linux {stream.kernel} on {stream.arch}; "
        f"what if {' '.join(what_if.options)}; {what_if.what_if.requests:,} requests"
    )
    widths = (1.0,) * len(orders)
    row = style.Row(height_in=1.35, widths=widths, gap_above_in=0.4, gap_between_in=1.45)
    rows = [row] * len(zones)
    if not zones:
        figure, panels = style.new_sheet(TITLE, caption, [style.Row(height_in=1.6)])
        style.notice(panels[0][0], "no zone's index changed, nor would it have")
        return figure
    figure, panels = style.new_sheet(_finding(what_if), caption, rows)
    for (number, name), drawn in zip(zones, panels, strict=True):
        for order, axes in zip(orders, drawn, strict=True):
            axes.set_title(f"{name}, order {order}")
            _curves(axes, what_if, number, order)
            axes.tick_params(labelbottom=drawn is panels[-1])
    for axes in panels[-1]:
        axes.set_xlabel("events")
    for axes in (drawn[0] for drawn in panels):
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


def _moved(what_if: WhatIf, zone: int) -> bool:
    """Whether any curve of a zone is not one and the same flat line."""
    for order in what_if.orders:
        curves = what_if.curves(zone, order).values()
        if len({float(value) for _, index in curves for value in index}) > 1:
            return True
    return False


def _finding(what_if: WhatIf) -> str:
    """Names the zone and order whose index would on average have been farthest from what it was.

    Both averages are the model's, so that its error is in both.
    """
    farthest: tuple[float, str, int, float, float] | None = None
    for zone in what_if.zones:
        for order in what_if.orders:
            curves = what_if.curves(zone.number, order)
            was, other = (float(curves[name][1].mean()) for name in ("as recorded", "what if"))
            if farthest is None or abs(other - was) > farthest[0]:
                farthest = abs(other - was), zone.name, order, was, other
    rules = " ".join(what_if.options)
    if farthest is None or farthest[0] < _SMALL:
        return f"With {rules} memory would have been no more and no less fragmented"
    _, name, order, was, other = farthest
    return (
        f"With {rules} on average {other:.1%} of the free memory in {name} could not have "
        f"served order {order}, instead of {was:.1%}"
    )
