"""Free blocks: how much of the free memory is in large ones, and the kernel's own indices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.compare.groups.columns import at, moments, spans, within
from analysis.compare.groups.measure import Measure
from analysis.compare.groups.run import Run
from analysis.compare.groups.sheet import Sheet
from analysis.compare.zones import frame

LARGE_BYTES = 2 << 20
"""What a huge page of x86 and of 4K arm64 takes; a block of it has another order where pages are
larger, so kernels are compared by bytes."""
_MIDDLE_BYTES = 64 << 10
_MIB = 1 << 20
_WOULD_SUCCEED = -1000


def measure(run: Run, sheet: Sheet) -> None:
    """Shares and sizes at every moment; indices by zone and order, at the worst and at the end."""
    free = free_by_size(run)
    for moment, number in moments(run.calendar):
        for size, label, head in ((LARGE_BYTES, "2M", True), (_MIDDLE_BYTES, "64k", False)):
            whole = None if free is None else at(free[f"{label}_bytes"], number)
            total = None if free is None else at(free["free_bytes"], number)
            broken = None if whole is None or not total else 100.0 * (1.0 - whole / total)
            sheet.put(_broken(label, size, moment, detail=not head), broken, _NONE)
            sheet.put(
                _whole(label, size, moment, detail=not head or moment not in _TOLD),
                None if whole is None else whole / _MIB,
                _NONE,
            )
    _indices(run, sheet)
    _pageblocks(run, sheet)


_NONE = "no /proc/buddyinfo"
_TOLD = ("after boot", "at the end")


def free_by_size(run: Run) -> pd.DataFrame | None:
    """Bytes free, and of these in blocks of at least 2 MiB and 64 KiB, by round."""
    buddyinfo = frame(run.tables, "buddyinfo")
    if buddyinfo is None:
        return None
    rows = buddyinfo[buddyinfo["bracket"] == "after"]
    block_bytes = run.page_bytes * 2.0 ** rows["order"].astype(float)
    held = rows["free_blocks"].astype(float) * block_bytes
    columns = {
        "free_bytes": held,
        "2M_bytes": held.where(block_bytes >= LARGE_BYTES, 0.0),
        "64k_bytes": held.where(block_bytes >= _MIDDLE_BYTES, 0.0),
    }
    return pd.DataFrame({"round": rows["round"].astype(int), **columns}).groupby("round").sum()


def _broken(label: str, size: int, moment: str, *, detail: bool) -> Measure:
    return Measure(
        id=f"broken_{label}_percent@{moment}",
        subject="fragmentation",
        title=f"free memory in blocks below {_size(size)}",
        moment=moment,
        unit="%",
        floor=1.0,
        less_is_better=True,
        detail=detail,
        weight=2.0,
    )


def _whole(label: str, size: int, moment: str, *, detail: bool) -> Measure:
    return Measure(
        id=f"whole_{label}_mib@{moment}",
        subject="high orders",
        title=f"free in blocks of {_size(size)} and more",
        moment=moment,
        unit="MiB",
        floor=4.0,
        less_is_better=False,
        detail=detail,
        weight=2.0,
    )


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= _MIB else f"{size >> 10} KiB"


def _indices(run: Run, sheet: Sheet) -> None:
    found = frame(run.tables, "fragindex")
    if found is None:
        return
    keys = ["index", "node", "zone", "order"]
    for key, rows in found.groupby(keys, observed=True):
        index, node, zone, order = key
        column = pd.Series(
            rows["value_milli"].to_numpy(dtype=float), index=rows["round"].to_numpy(dtype=int)
        )
        place = f"node={node} zone={zone} order={order}"
        for name, begin, end in spans(run.calendar):
            if name == "whole run":
                moment, values = "at the end", within(column, end, end)
            else:
                moment, values = f"{name}: worst", within(column, begin, end)
            asked = values[values != _WOULD_SUCCEED]
            why = "not sampled then" if values.empty else "a request would have succeeded"
            sheet.put(
                Measure(
                    id=f"{index}_milli@{moment} {place}",
                    subject="fragmentation",
                    title=f"{index} index, node {node} {zone} order {order}",
                    moment=moment,
                    unit="1/1000",
                    floor=10.0,
                    less_is_better=True,
                    detail=True,
                ),
                float(asked.max()) if len(asked) else None,
                why,
            )


def _pageblocks(run: Run, sheet: Sheet) -> None:
    found = frame(run.tables, "pageblocks")
    share = None
    if found is not None:
        last = found[found["round"] == found["round"].max()]
        blocks = last["blocks"].to_numpy(dtype=float)
        fixed = last["migratetype"].isin(["Unmovable", "Reclaimable"]).to_numpy()
        total = float(blocks.sum())
        share = 100.0 * float(np.sum(blocks[fixed])) / total if total else None
    sheet.put(
        Measure(
            id="fixed_pageblocks_percent@end",
            subject="fragmentation",
            title="pageblocks of types that do not move",
            moment="at the end",
            unit="%",
            floor=1.0,
            less_is_better=True,
        ),
        share,
        "no /proc/pagetypeinfo",
    )
