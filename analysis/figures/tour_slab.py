"""Slab pages object by object, lists of slabs, and the memory that three allocators take.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures import style

_DPI = 120
_BLOCKS = 12
_COLORS = {"SLUB": style.BLUE, "SLAB": style.ORANGE, "SLOB": style.GREEN}
_FIRST, _AGAIN, _FREE = style.SKY, style.GREEN, "#ffffff"


def _figure(height_in: float) -> Figure:
    figure = Figure(figsize=(8.2, height_in), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@style.applied()
def draw_pages(
    title: str, requests: Sequence[tuple[int, bool, int]], *, size: int, block_bytes: int
) -> Figure:
    """The first blocks in the order in which they were taken: every object that was handed out
    once, again, or is free. ``requests``: address, whether it is live, and the first page of its
    block, in order."""
    history: dict[int, list[bool]] = {}
    for address, live, _ in requests:
        history.setdefault(address, []).append(live)
    pfns = {address // block_bytes: pfn for address, _, pfn in requests}
    blocks = list(pfns)[:_BLOCKS]
    figure = _figure(0.85 + 0.27 * len(blocks))
    axes = figure.subplots()
    for row, block in enumerate(reversed(blocks)):
        axes.broken_barh(((0, block_bytes),), (row + 0.1, 0.8), facecolor=style.BAND)
        for address, lives in history.items():
            if address // block_bytes == block:
                color = _FREE if not lives[-1] else _AGAIN if len(lives) > 1 else _FIRST
                axes.broken_barh(
                    ((address % block_bytes, size),),
                    (row + 0.1, 0.8),
                    facecolor=color,
                    edgecolor=style.MUTED,
                    linewidth=0.5,
                )
    axes.set(xlim=(0, block_bytes), ylim=(0, len(blocks)), xlabel="bytes")
    axes.set_yticks(
        [row + 0.5 for row in range(len(blocks))],
        [f"pfn {pfns[block]}" for block in reversed(blocks)],
        fontsize=7.5,
    )
    axes.grid(visible=False)
    axes.set_title(title)
    axes.legend(
        handles=[
            Patch(facecolor=_FIRST, edgecolor=style.MUTED, label="alloc"),
            Patch(facecolor=_FREE, edgecolor=style.MUTED, label="alloc, free"),
            Patch(facecolor=_AGAIN, edgecolor=style.MUTED, label="alloc, free, alloc"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return figure


@style.applied()
def draw_memory(memory: Mapping[str, Mapping[int, float]]) -> Figure:
    """By allocator and object size: bytes of pages for each live object, over the object's own."""
    figure = _figure(3.4)
    axes = figure.subplots()
    sizes = sorted({size for row in memory.values() for size in row})
    width = 0.8 / max(len(memory), 1)
    top = 1.0
    for number, (kind, row) in enumerate(memory.items()):
        at = [index + (number - (len(memory) - 1) / 2) * width for index in range(len(sizes))]
        ratio = [row[size] / size for size in sizes]
        top = max(top, *ratio)
        axes.bar(at, ratio, width * 0.92, color=_COLORS.get(kind, style.MUTED), label=kind)
        for x, value, size in zip(at, ratio, sizes, strict=True):
            axes.text(
                x,
                value + 0.02,
                f"{row[size]:.0f}",
                ha="center",
                va="bottom",
                fontsize=7,
                color=style.MUTED,
            )
    axes.axhline(1, color=style.INK, linewidth=0.8)
    axes.set_xticks(range(len(sizes)), [f"{size} B" for size in sizes])
    axes.set(ylim=(0, top * 1.12), ylabel="bytes of pages / bytes of objects")
    axes.set_title("SLUB · SLAB · SLOB")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8)
    return figure


@style.applied()
def draw_lists(phases: Sequence[tuple[str, int, int, int]]) -> Figure:
    """After each command: slabs of the CPU, on the node's partial list, and full ones."""
    figure = _figure(0.9 + 0.36 * len(phases))
    axes = figure.subplots()
    for row, (_, cpu, partial, slabs) in enumerate(reversed(phases)):
        left = 0
        parts = ((cpu, style.BLUE), (partial, style.ORANGE), (slabs - cpu - partial, "#9aa5b1"))
        for width, color in parts:
            axes.barh(row, width, left=left, color=color, height=0.66)
            if width:
                axes.text(
                    left + width / 2,
                    row,
                    str(width),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color=style.PAPER if width > 1 else style.INK,
                )
            left += width
    axes.set_yticks(range(len(phases)), [command for command, *_ in reversed(phases)])
    axes.set(xlabel="slabs")
    axes.grid(visible=False)
    axes.legend(
        handles=[
            Patch(color=style.BLUE, label="cpu_slabs"),
            Patch(color=style.ORANGE, label="partial"),
            Patch(color="#9aa5b1", label="full"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return figure


@style.applied()
def draw_order(addresses: Sequence[int], *, page_size: int = 4096) -> Figure:
    """Request by request: the offset in its page, one colour a page."""
    figure = _figure(3.0)
    axes = figure.subplots()
    pages = list(dict.fromkeys(address // page_size for address in addresses))
    palette = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILION, style.PURPLE, style.SKY)
    for number, page in enumerate(pages):
        points = [(i, a % page_size) for i, a in enumerate(addresses) if a // page_size == page]
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, "-o", color=palette[number % len(palette)], markersize=3, linewidth=0.7)
    axes.set(xlabel="kmem_cache_alloc()", ylabel="offset in page")
    return figure
