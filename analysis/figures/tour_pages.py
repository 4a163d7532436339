"""From a virtual address to its frame, its struct page, its zone and node; and a compound page.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from analysis.figures import style

_COLORS = (style.BLUE, style.SKY, style.GREEN, style.ORANGE, style.PURPLE)
_MONO = "DejaVu Sans Mono"
_INDEX_BITS = 9
_WIDTH, _BOX = 100.0, 15.5
_DPI = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One page, from its address to its zone."""

    address: int
    top_table: int
    """Guest-physical address of the process's top page table."""
    steps: tuple[tuple[int, int, int], ...]
    """(shift, guest-physical address, value) of each entry, top level first."""
    pfn: int
    struct_page: int
    """Its address."""
    flags: int
    nodes_shift: int
    zone_bits: int
    place: str
    """Node and zone, as the flags say."""
    kpageflags: tuple[str, ...]
    refcount: int
    mapcount: int
    zones: tuple[tuple[str, int, int], ...]
    """(name, first page, end) of the machine's zones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundPage:
    """One page of a compound page."""

    number: int
    pfn: int
    head_word: str
    """The kernel's name of ``compound_head``."""
    compound_head: int
    head_pfn: int
    flags: tuple[str, ...]
    refcount: int
    mapcount: int


@style.applied()
def chain(page: Chain) -> Figure:
    """The address in its parts, the entries they index, the struct page, the zones."""
    axes = _canvas(6.1, 62)
    shifts = [shift for shift, _, _ in page.steps]
    colors = dict(zip(shifts, _COLORS, strict=False))
    _address(axes, 58, page, colors)
    _entries(axes, 41, page, colors)
    _struct_page(axes, 22, page)
    _zone_line(axes, 6, page)
    return _figure(axes)


@style.applied()
def compound(pages: Sequence[CompoundPage]) -> Figure:
    """Struct pages of the head and of tails, each tail pointing to the head."""
    height = 9 * len(pages) + 8
    axes = _canvas(0.075 * height + 0.3, height)
    last = None
    for row, page in enumerate(pages):
        y = height - 9 * (row + 1) - 2
        if last is not None and page.number != last + 1:
            axes.text(2, y + 8.1, "…", size=12, color=style.MUTED, va="center")
        last = page.number
        color = style.BLUE if page.number == 0 else style.SKY
        _box(axes, 4, y, 22, 6.4, color)
        axes.text(15, y + 3.2, f"pfn {page.pfn:#x}", color="white", ha="center", va="center",
                  family=_MONO, size=9, weight="bold")  # fmt: skip
        axes.text(3, y + 3.2, str(page.number), ha="right", va="center", color=style.MUTED)
        count = f"_refcount {page.refcount}   _mapcount {page.mapcount}"
        head = f"{page.head_word} {page.compound_head:#x}" if page.compound_head else ""
        axes.text(28, y + 4.8, f"{count}   {head}", va="center", size=8, family=_MONO)
        axes.text(28, y + 1.7, " ".join(page.flags), va="center", size=7.5, color=style.MUTED)
        if page.compound_head:
            top = height - 9 - 2 + 3.2
            axes.annotate(
                "", xy=(98, top), xytext=(98, y + 3.2),
                arrowprops={"arrowstyle": "-", "color": style.ORANGE, "lw": 1},
            )  # fmt: skip
            axes.plot([94, 98], [y + 3.2, y + 3.2], color=style.ORANGE, lw=1)
    top = height - 9 - 2 + 3.2
    axes.annotate(
        f"{pages[0].head_pfn:#x}", xy=(90, top), xytext=(98, top), size=8, color=style.ORANGE,
        ha="right", va="bottom", arrowprops={"arrowstyle": "->", "color": style.ORANGE, "lw": 1.2},
    )  # fmt: skip
    return _figure(axes)


def _canvas(height_in: float, top: float) -> Axes:
    figure = Figure(figsize=(style.WIDTH_IN, height_in), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(0, top)
    axes.axis("off")
    return axes


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _box(axes: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", linewidth=0,
            facecolor=color,
        )
    )  # fmt: skip


def _address(axes: Axes, y: float, page: Chain, colors: dict[int, str]) -> None:
    """The parts of the address: an index for each level, and what is left."""
    axes.text(0, y + 2.4, f"VA {page.address:#x}", family=_MONO, size=11, weight="bold")
    x = 2.0
    for number, (shift, _, _) in enumerate(page.steps):
        index = page.address >> shift & ((1 << _INDEX_BITS) - 1)
        _box(axes, x, y - 5.6, _BOX, 6, colors[shift])
        label = f"{_level(page, number)}[{index}]"
        axes.text(x + _BOX / 2, y - 2.6, label, color="white", ha="center", va="center",
                  weight="bold", size=10)  # fmt: skip
        axes.text(x + _BOX / 2, y - 6.8, f"{shift + _INDEX_BITS - 1} … {shift}", ha="center",
                  va="center", size=7.5, color=style.MUTED)  # fmt: skip
        x += _BOX + 1.5
    last = page.steps[-1][0]
    _box(axes, x, y - 5.6, _BOX, 6, style.MUTED)
    axes.text(x + _BOX / 2, y - 2.6, f"{page.address & (1 << last) - 1:#x}", color="white",
              ha="center", va="center", weight="bold", size=10)  # fmt: skip
    axes.text(x + _BOX / 2, y - 6.8, f"{last - 1} … 0", ha="center", va="center", size=7.5,
              color=style.MUTED)  # fmt: skip


def _entries(axes: Axes, y: float, page: Chain, colors: dict[int, str]) -> None:
    axes.text(0, y + 4.6, f"mm->pgd  {page.top_table:#x}", family=_MONO, size=8.5,
              color=style.MUTED)  # fmt: skip
    x = 2.0
    for shift, address, entry in page.steps:
        axes.add_patch(
            Rectangle((x, y - 5), _BOX, 8, facecolor=style.BAND, edgecolor=colors[shift], lw=1.6)
        )
        axes.text(x + _BOX / 2, y + 1, f"@{address:#x}", ha="center", va="center", size=7.5,
                  family=_MONO, color=style.MUTED)  # fmt: skip
        axes.text(x + _BOX / 2, y - 2.4, f"{entry:016x}"[:8] + "\n" + f"{entry:016x}"[8:],
                  ha="center", va="center", size=8, family=_MONO)  # fmt: skip
        _arrow(axes, x + _BOX, y - 1, x + _BOX + 1.5, y - 1)
        x += _BOX + 1.5
    _box(axes, x, y - 5, _BOX, 8, style.VERMILION)
    axes.text(x + _BOX / 2, y - 1, f"pfn\n{page.pfn:#x}", color="white", ha="center", va="center",
              weight="bold", size=11)  # fmt: skip
    _arrow(axes, x + _BOX / 2, y - 5, x + _BOX / 2, y - 10.2)


def _struct_page(axes: Axes, y: float, page: Chain) -> None:
    axes.text(0, y + 9, f"struct page  {page.struct_page:#x}", family=_MONO, size=10,
              weight="bold")  # fmt: skip
    place = page.place.split(" ", 1)
    node = page.flags >> (64 - page.nodes_shift) if page.nodes_shift else 0
    zone = page.flags >> (64 - page.nodes_shift - page.zone_bits) & ((1 << page.zone_bits) - 1)
    rest = page.flags & ((1 << 24) - 1)
    parts = (
        (22.0, style.BLUE, f"node {node}", f"63 … {64 - page.nodes_shift}"),
        (22.0, style.GREEN, f"zone {zone} {place[-1]}",
         f"{63 - page.nodes_shift} … {64 - page.nodes_shift - page.zone_bits}"),
        (12.0, style.FAINT, "", ""),
        (40.0, style.ORANGE, f"PG_* {rest:#08x}", "23 … 0"),
    )  # fmt: skip
    x = 2.0
    for width, color, text, bits in parts:
        _box(axes, x, y + 1, width - 0.6, 6, color)
        axes.text(x + width / 2, y + 4, text, color="white", ha="center", va="center", size=9.5,
                  weight="bold")  # fmt: skip
        axes.text(x + width / 2, y - 0.4, bits, ha="center", va="center", size=7.5,
                  color=style.MUTED)  # fmt: skip
        x += width
    axes.text(2, y - 3.6, f"flags {page.flags:#018x}   _refcount {page.refcount}   "
              f"_mapcount {page.mapcount}", family=_MONO, size=8.5)  # fmt: skip
    axes.text(2, y - 6.4, f"/proc/kpageflags  {' '.join(page.kpageflags)}", family=_MONO,
              size=8.5)  # fmt: skip


def _zone_line(axes: Axes, y: float, page: Chain) -> None:
    first = min(start for _, start, _ in page.zones)
    end = max(end for _, _, end in page.zones)

    def at(pfn: int) -> float:
        return 2 + 96 * (pfn - first) / (end - first)

    for number, (name, start, stop) in enumerate(page.zones):
        color = style.BLUE if name == page.place else (style.FAINT, "#c3cad3")[number % 2]
        axes.add_patch(Rectangle((at(start), y), at(stop) - at(start), 4, facecolor=color,
                                 edgecolor="white", lw=1))  # fmt: skip
        wide = at(stop) - at(start) > 14
        axes.text(
            (at(start) + at(stop)) / 2 if wide else at(start), y + 2 if wide else y - 3.6, name,
            ha="center" if wide else "left", va="center", size=9 if wide else 7.5,
            color="white" if name == page.place else style.INK,
        )  # fmt: skip
        axes.text(at(start), y - 1.5, f"{start:#x}", size=7, color=style.MUTED, ha="left",
                  va="center")  # fmt: skip
    axes.text(at(end), y - 1.5, f"{end:#x}", size=7, color=style.MUTED, ha="right", va="center")
    axes.plot([at(page.pfn)] * 2, [y - 0.5, y + 6], color=style.VERMILION, lw=2)
    axes.text(at(page.pfn), y + 7, f"{page.pfn:#x}", color=style.VERMILION, ha="center",
              va="center", size=9, weight="bold")  # fmt: skip


def _level(page: Chain, number: int) -> str:
    """PGD and its lower levels; with five levels P4D is the second."""
    names = ["PGD", "P4D", "PUD", "PMD", "PTE"]
    if page.steps[0][0] == 39:
        names.remove("P4D")
    return names[number]


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float) -> None:
    axes.annotate("", xy=(to_x, to_y), xytext=(x, y),
                  arrowprops={"arrowstyle": "->", "color": style.MUTED, "lw": 1.2})  # fmt: skip
