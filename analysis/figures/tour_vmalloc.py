"""vmalloc areas by address, and the frames behind the largest of ours.

Kernel terms and numbers only, so that one figure serves every language.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures import style
from analysis.procfs.vmallocinfo import VmallocArea

_MIB = 1 << 20
_DPI = 120
_ROWS = 6
_OTHERS, _OURS, _WAITING = "#9aa5b1", style.BLUE, style.ORANGE


@style.applied()
def draw_areas(
    areas: Sequence[VmallocArea],
    ours: Collection[int],
    start: int,
    frames: Sequence[int],
    page_size: int,
) -> Figure:
    """The space from its start to our last area, in rows; below, the frame of each page of an
    area of ours."""
    figure = Figure(figsize=(8.2, 5.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, height_ratios=(1.25, 1))
    mine = [a.end for a in areas if a.start in ours and a.end is not None]
    span = max(mine, default=start + _MIB) - start
    row_bytes = -(-span // _ROWS // page_size) * page_size
    for area in areas:
        if area.start is None or area.end is None or not 0 <= area.start - start < span:
            continue
        color = _WAITING if area.kind == "unpurged" else _OURS if area.start in ours else _OTHERS
        at = area.start - start
        while at < area.end - start:
            row, within = divmod(at, row_bytes)
            end = min(area.end - start, (row + 1) * row_bytes)
            bar = ((within / _MIB, (end - at) / _MIB),)
            top.broken_barh(bar, (_ROWS - 1 - row + 0.14, 0.72), facecolor=color, linewidth=0)
            at = end
    for row in range(_ROWS):
        where = f"{start + row * row_bytes:x}"
        top.text(
            -0.006,
            _ROWS - row - 0.5,
            where,
            ha="right",
            va="center",
            fontsize=7.5,
            family="DejaVu Sans Mono",
            transform=top.get_yaxis_transform(),
        )
    top.set(xlim=(0, row_bytes / _MIB), ylim=(0, _ROWS), yticks=[], xlabel="MiB")
    top.grid(visible=False)
    top.spines["left"].set_visible(False)
    top.set_title("/proc/vmallocinfo")
    top.legend(
        handles=[
            Patch(color=_OURS, label="mmscope_slab"),
            Patch(color=_WAITING, label="unpurged vm_area"),
            Patch(color=_OTHERS, label="vmap, ioremap, stacks …"),
        ],
        loc="lower center",
        bbox_to_anchor=(0.6, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    bottom.plot(range(len(frames)), frames, ".", color=style.BLUE, markersize=3)
    bottom.set_title(f"vmalloc({len(frames) * page_size >> 20} MiB): vmalloc_to_page() → pfn")
    bottom.set(xlabel="page", ylabel="pfn")
    return figure
