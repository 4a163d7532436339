"""Free blocks as they lie: the first lists, a split, a merge, neighbours that stay apart, a steal.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures import style
from analysis.model.neighbours import buddy_pfn

_DPI = 120
_LEFT, _WIDTH = 9.0, 90.0
_MONO = "DejaVu Sans Mono"
_TYPE_COLORS = {
    "UNMOVABLE": style.VERMILION,
    "MOVABLE": style.BLUE,
    "RECLAIMABLE": style.GREEN,
    "HIGHATOMIC": style.PURPLE,
    "CMA": style.ORANGE,
    "ISOLATE": style.INK,
}
_USED = "#e3e7ec"
Color = str | tuple[float, float, float, float]
Block = tuple[int, int]
"""First page and order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneMap:
    """The free blocks of a zone."""

    name: str
    start: int
    end: int
    blocks: tuple[Block, ...]
    deferred: int | None
    """The first page whose struct page is made later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Free blocks that went and came in one call."""

    step: str
    gone: tuple[Block, ...]
    new: tuple[Block, ...]
    pfn: int
    order: int
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Two equal free blocks that touch, among those around them."""

    start: int
    end: int
    order: int
    freed: int
    neighbour: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steal:
    """The pageblocks from which another type took, before and after."""

    start: int
    end: int
    pfn: int
    order: int
    before: tuple[tuple[int, int, str], ...]
    """First page, order and type of each free block."""
    after: tuple[tuple[int, int, str], ...]
    types: tuple[str, str]
    """Of the pageblock."""


@style.applied()
def handover(zones: Sequence[ZoneMap]) -> Figure:
    """A strip for each zone: free blocks coloured by order, what is deferred hatched."""
    height = 13.0 * len(zones) + 7
    axes = _canvas(0.09 * height + 0.2, height)
    colors = style.order_colors(11)
    for number, zone in enumerate(zones):
        y = height - 13 * (number + 1) + 1
        scale = _Scale(zone.start, zone.end)
        axes.text(_LEFT, y + 6.4, f"{zone.name}  {zone.start:#x} … {zone.end:#x}", size=8.5,
                  weight="bold")  # fmt: skip
        _bar(axes, y, scale, zone.start, zone.end, _USED, 5)
        if zone.deferred is not None and zone.deferred < zone.end:
            _bar(axes, y, scale, zone.deferred, zone.end, style.PAPER, 5, hatch="///")
            axes.text(scale.at(zone.deferred), y - 2, f"{zone.deferred:#x}", size=7,
                      color=style.MUTED)  # fmt: skip
        for pfn, order in zone.blocks:
            color = colors[min(order, len(colors) - 1)]
            _bar(axes, y, scale, pfn, pfn + (1 << order), color, 5)
    for order, color in enumerate(colors):
        axes.add_patch(Rectangle((_LEFT + 5 * order, 0.5), 4, 2.6, facecolor=color))
        axes.text(_LEFT + 5 * order + 2, 4.2, str(order), ha="center", size=7.5)
    axes.text(_LEFT - 1, 1.2, "order", ha="right", size=8, color=style.MUTED)
    return _figure(axes)


@style.applied()
def change(call: Change) -> Figure:
    """What was free before and what is free after one call, one above the other."""
    touched = [*call.gone, *call.new, (call.pfn, call.order)]
    near = [block for block in touched if _overlaps(block, call, touched)]
    start = min(pfn for pfn, _ in near)
    end = max(pfn + (1 << order) for pfn, order in near)
    axes = _canvas(2.7, 32)
    scale = _Scale(start, end)
    name = "get_page_from_freelist" if call.taken else "free_pages"
    axes.text(_LEFT, 29.5, f"{name}(order {call.order})", size=10, weight="bold", family=_MONO)
    for y, blocks, sign in ((19.0, call.gone, "-"), (5.0, call.new, "+")):
        _bar(axes, y, scale, start, end, _USED, 7)
        axes.text(_LEFT - 2, y + 3.5, sign, size=15, ha="right", va="center", color=style.MUTED)
        for pfn, order in blocks:
            _block(axes, y, scale, (pfn, order), style.order_colors(11)[order])
    y = 5.0 if call.taken else 19.0
    _block(axes, y, scale, (call.pfn, call.order), style.VERMILION)
    return _figure(axes)


@style.applied()
def apart(pair: Apart) -> Figure:
    """Blocks around the pair, with the arc that joins each of the two to its own buddy."""
    axes = _canvas(2.6, 30)
    scale = _Scale(pair.start, pair.end)
    _bar(axes, 9, scale, pair.start, pair.end, _USED, 7)
    for pfn, order in pair.blocks:
        chosen = pfn in (pair.freed, pair.neighbour)
        _block(axes, 9, scale, (pfn, order), style.ORANGE if chosen else style.SKY)
    half = 1 << (pair.order - 1) if pair.order else 0
    for pfn in (pair.freed, pair.neighbour):
        buddy = buddy_pfn(pfn, pair.order)
        here, there = scale.at(pfn + half), scale.at(buddy + half)
        axes.annotate("", xy=(there, 16.2), xytext=(here, 16.2),
                      arrowprops={"arrowstyle": "->", "color": style.INK, "lw": 1.2,
                                  "connectionstyle": f"arc3,rad={-0.35 if there > here else 0.35}"},
                      )  # fmt: skip
        axes.text((here + there) / 2, 23.5, f"{pfn:#x} ^ {1 << pair.order:#x}\n= {buddy:#x}",
                  ha="center", va="center", size=8, family=_MONO)  # fmt: skip
    for pfn in range(pair.start, pair.end + 1, 2 << pair.order):
        axes.plot([scale.at(pfn)] * 2, [6.5, 17], color=style.INK, lw=0.8, ls=":")
        side = "right" if pfn == pair.end else "center"
        axes.text(scale.at(pfn), 4.6, f"{pfn:#x}", ha=side, size=7, color=style.MUTED)
    return _figure(axes)


@style.applied()
def steal(one: Steal) -> Figure:
    """The pageblock before and after, free blocks in the colour of the list that they are on."""
    axes = _canvas(3.1, 36)
    scale = _Scale(one.start, one.end)
    for y, blocks, kind in ((21.0, one.before, one.types[0]), (7.0, one.after, one.types[1])):
        axes.text(_LEFT, y + 8.3, f"pageblock {one.start:#x}: {kind}", size=9, weight="bold",
                  color=_TYPE_COLORS[kind])  # fmt: skip
        _bar(axes, y, scale, one.start, one.end, _USED, 7)
        for pfn, order, type_name in blocks:
            _block(axes, y, scale, (pfn, order), _TYPE_COLORS[type_name], named=False)
    end = one.pfn + (1 << one.order)
    axes.add_patch(Rectangle((scale.at(one.pfn), 7), scale.at(end) - scale.at(one.pfn), 7,
                             facecolor=style.INK))  # fmt: skip
    axes.text(scale.at(one.pfn), 4.6, f"{one.pfn:#x}/{one.order}", size=8, family=_MONO)
    shown = {kind for blocks in (one.before, one.after) for _, _, kind in blocks}
    for number, kind in enumerate(kind for kind in _TYPE_COLORS if kind in shown):
        axes.add_patch(Rectangle((_LEFT + 18 * number, 0.6), 3, 2.2, facecolor=_TYPE_COLORS[kind]))
        axes.text(_LEFT + 18 * number + 4, 1.7, kind, size=8, va="center")
    return _figure(axes)


class _Scale:
    """Page frames along the figure's width."""

    def __init__(self, start: int, end: int) -> None:
        self._start, self._pages = start, max(end - start, 1)

    def at(self, pfn: int) -> float:
        return _LEFT + _WIDTH * (pfn - self._start) / self._pages


def _overlaps(block: Block, call: Change, touched: Sequence[Block]) -> bool:
    """Whether a block lies in the largest one of the call, so that stray ones do not stretch it."""
    pfn, order = max(touched, key=lambda one: one[1])
    if pfn <= call.pfn < pfn + (1 << order):
        return pfn <= block[0] < pfn + (1 << order)
    return block[0] == call.pfn


def _canvas(height_in: float, top: float) -> Axes:
    figure = Figure(figsize=(style.WIDTH_IN, height_in), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, top)
    axes.axis("off")
    return axes


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _bar(
    axes: Axes,
    y: float,
    scale: _Scale,
    start: int,
    end: int,
    color: Color,
    height: float,
    hatch: str | None = None,
) -> None:
    axes.add_patch(
        Rectangle(
            (scale.at(start), y), scale.at(end) - scale.at(start), height,
            facecolor=color, edgecolor=style.FAINT, linewidth=0.3, hatch=hatch,
        )
    )  # fmt: skip


def _block(
    axes: Axes, y: float, scale: _Scale, block: Block, color: Color, *, named: bool = True
) -> None:
    pfn, order = block
    left, right = scale.at(pfn), scale.at(pfn + (1 << order))
    axes.add_patch(
        Rectangle((left, y), right - left, 7, facecolor=color, edgecolor="white", lw=0.8)
    )
    if named and right - left > 2.2:
        axes.text((left + right) / 2, y + 3.5, str(order), ha="center", va="center",
                  color=style.ink_on(color), weight="bold", size=9)  # fmt: skip
    if named and right - left > 7:
        axes.text(left + 0.3, y - 1.9, f"{pfn:#x}", size=7, color=style.MUTED, family=_MONO)
