"""Physical memory of a machine, node by node and zone by zone, as the kernel shows it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures import style

ZONE_COLOURS = {
    "DMA": style.VERMILION,
    "DMA32": style.ORANGE,
    "Normal": style.BLUE,
    "HighMem": style.GREEN,
    "Movable": style.PURPLE,
    "Device": style.SKY,
}
_EXPONENT = 0.4
"""Widths grow with sizes, but not in proportion: 16 MiB beside 4 GiB must still be seen."""
_LEAST = 0.07
_SMALL_HOLE_BYTES = 1 << 20
_ROW_IN = 0.52
_WIDTH_IN = 8.2
_LEFT_IN = 0.95
_RIGHT_IN = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A stretch of addresses; bytes."""

    start: int
    end: int
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneExtent:
    """A zone on a node, from its first to its last page frame."""

    node: int
    zone: str
    start: int
    end: int
    present_pages: int
    told: bool = True
    """Whether the figure is about it; others are drawn paler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Addresses to places between 0 and 1: every stretch between two borders gets a share."""

    borders: tuple[int, ...]
    places: tuple[float, ...]

    def at(self, address: int) -> float:
        """Where an address lies; linear between two borders."""
        for index in range(len(self.borders) - 1):
            low, high = self.borders[index], self.borders[index + 1]
            if low <= address <= high:
                part = (address - low) / (high - low)
                return self.places[index] + part * (self.places[index + 1] - self.places[index])
        return 0.0 if address < self.borders[0] else 1.0


def scale_of(borders: Sequence[int]) -> Scale:
    """A scale on which every stretch between two of the borders can be seen.

    Raises:
        ValueError: fewer than two borders.
    """
    sorted_borders = sorted(set(borders))
    if len(sorted_borders) < 2:
        raise ValueError("a scale needs two borders")
    sizes = [high - low for low, high in itertools.pairwise(sorted_borders)]
    weights = [(size / sum(sizes)) ** _EXPONENT for size in sizes]
    widest = max(weights)
    weights = [max(weight, _LEAST * widest * 2) for weight in weights]
    places = [0.0]
    for weight in weights:
        places.append(places[-1] + weight / sum(weights))
    return Scale(borders=tuple(sorted_borders), places=tuple(places))


@style.applied()
def draw(zones: Sequence[ZoneExtent], memory: Sequence[Extent]) -> Figure:
    """A row of what the firmware calls memory, then a row for each node with its zones."""
    holes = [low.end for low in memory] + [high.start for high in memory]
    near = _without_small_holes(memory)
    borders = [edge for part in near for edge in (part.start, part.end)]
    borders += [edge for zone in zones for edge in (zone.start, zone.end)]
    scale = scale_of([*borders, max([*holes, *borders])])
    nodes = sorted({zone.node for zone in zones})
    height_in = 0.75 + _ROW_IN * (len(nodes) + 1)
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=style.DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (
            _LEFT_IN / _WIDTH_IN,
            0.6 / height_in,
            1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN,
            1 - 0.7 / height_in,
        )
    )
    for part in near:
        _box(axes, scale, part, len(nodes), "#dfe3e8")
        _name(axes, scale, part, len(nodes), style.INK, part.label, "")
    for zone in sorted(zones, key=lambda each: each.start - each.end):
        row = len(nodes) - 1 - nodes.index(zone.node)
        colour = ZONE_COLOURS.get(zone.zone, style.MUTED)
        text = f"{zone.present_pages:,}".replace(",", "\u202f") if zone.present_pages else ""
        face = colour if zone.told else _paler(colour)
        ink = style.PAPER if zone.told and zone.zone != "Device" else style.INK
        _box(axes, scale, zone, row, face)
        _name(axes, scale, uncovered(zone, zones, scale), row, ink, zone.zone, text)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.08, len(nodes) + 1)
    rows = [f"node {node}" for node in reversed(nodes)]
    axes.set_yticks([row + 0.45 for row in range(len(nodes) + 1)], [*rows, "e820 / iomem"])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    _ticks(axes, scale)
    return figure


def _without_small_holes(memory: Sequence[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    for part in sorted(memory, key=lambda extent: extent.start):
        if (
            joined
            and part.start - joined[-1].end < _SMALL_HOLE_BYTES
            and part.label == joined[-1].label
        ):
            joined[-1] = Extent(start=joined[-1].start, end=part.end, label=part.label)
        else:
            joined.append(part)
    return [part for part in joined if part.end - part.start >= _SMALL_HOLE_BYTES]


def uncovered(zone: ZoneExtent, zones: Sequence[ZoneExtent], scale: Scale) -> Extent:
    """The widest stretch of a zone in which no other zone of its node lies."""
    inner = sorted(
        (each.start, each.end)
        for each in zones
        if each is not zone and each.node == zone.node and zone.start <= each.start < zone.end
    )
    edges = [zone.start, *(edge for pair in inner for edge in pair), zone.end]
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    start, end = max(stretches, key=lambda pair: scale.at(pair[1]) - scale.at(pair[0]))
    return Extent(start=start, end=end)


def _box(axes: Axes, scale: Scale, part: Extent | ZoneExtent, row: int, face: str) -> None:
    left, right = scale.at(part.start), scale.at(part.end)
    axes.add_patch(
        Rectangle((left, row), right - left, 0.82, facecolor=face, edgecolor=style.PAPER, lw=1.2)
    )


def _name(
    axes: Axes, scale: Scale, part: Extent, row: int, ink: str, name: str, below: str
) -> None:
    """A name in the middle of a box, and a number below it, where they fit."""
    left, right = scale.at(part.start), scale.at(part.end)
    wide_in = (right - left) * (_WIDTH_IN - _LEFT_IN - _RIGHT_IN)
    if not name or wide_in <= 0.075 * len(name):
        return
    two = bool(below) and wide_in >= 0.08 * len(below)
    middle = (left + right) / 2
    axes.text(
        middle, row + (0.54 if two else 0.41), name, ha="center", va="center", color=ink, size=8.5
    )
    if two:
        axes.text(middle, row + 0.22, below, ha="center", va="center", color=ink, size=7)


def _ticks(axes: Axes, scale: Scale) -> None:
    """Addresses at the borders, in two rows where they would run into each other."""
    last = [-1.0, -1.0]
    axes.set_xticks([])
    width_in = _WIDTH_IN - _LEFT_IN - _RIGHT_IN
    for address, place in zip(scale.borders, scale.places, strict=True):
        text = short_address(address)
        need = (0.075 * len(text) + 0.06) / width_in
        row = 0 if place - need / 2 > last[0] else 1
        if row == 1 and place - need / 2 <= last[1]:
            continue
        last[row] = place + need / 2
        axes.plot(
            [place, place],
            [-0.08, -0.2 - 0.34 * row],
            color=style.MUTED,
            linewidth=0.6,
            clip_on=False,
        )
        axes.text(
            min(place, 1 + _RIGHT_IN / width_in - need / 2),
            -0.26 - 0.34 * row,
            text,
            ha="center",
            va="top",
            size=7.5,
            color=style.INK,
            clip_on=False,
        )


def short_address(address: int) -> str:
    """``16M`` where that is exact, else the address."""
    for size, letter in ((1 << 30, "G"), (1 << 20, "M")):
        if address and address % size == 0:
            return f"{address // size}{letter}"
    return f"{address:#x}" if address else "0"


def _paler(colour: str) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - part) * 0.32):02x}" for part in parts)
