"""Memory of kernel objects: what slabs take, and what of it no object uses."""

from __future__ import annotations

import pandas as pd

from analysis.compare.groups.columns import at, by_round, moments
from analysis.compare.groups.measure import Measure
from analysis.compare.groups.run import Run
from analysis.compare.groups.sheet import Sheet
from analysis.compare.zones import frame

_KB = 1024
_CACHE = "cache_"
_LARGE_KB = 128.0
_UNUSED_KB = 64.0
"""A cache that takes less in every run of both groups is not told of, nor less that is unused."""


def measure(run: Run, sheet: Sheet) -> None:
    """Slab of /proc/meminfo at every moment; waste, in all and by cache, from /proc/slabinfo."""
    meminfo = by_round(run.tables, "meminfo")
    for field, title, detail in (
        ("Slab", "memory in slabs (Slab)", False),
        ("SUnreclaim", "memory in slabs that cannot be reclaimed (SUnreclaim)", True),
    ):
        column = meminfo.get(field)
        for moment, number in moments(run.calendar):
            sheet.put(
                _slab(field, title, moment, detail=detail),
                None if column is None else at(column, number),
                f"no {field} in /proc/meminfo",
            )
    if "Slab" in meminfo:
        _growth(run, sheet, meminfo["Slab"])
    _waste(run, sheet)


def _slab(field: str, title: str, moment: str, *, detail: bool) -> Measure:
    return Measure(
        id=f"{field.lower()}_kb@{moment}",
        subject="slab",
        title=title,
        moment=moment,
        unit="kB",
        floor=128.0,
        less_is_better=True,
        detail=detail,
        weight=2.0,
    )


def _growth(run: Run, sheet: Sheet, slab: pd.Series[float]) -> None:
    boot = at(slab, run.calendar.boot)
    later = slab[slab.index >= run.calendar.boot].dropna()
    measure_ = Measure(
        id="slab_growth_kb@run",
        subject="slab",
        title="memory in slabs, most held over that after boot",
        moment="whole run",
        unit="kB",
        floor=128.0,
        less_is_better=True,
        weight=3.0,
    )
    grown = None if boot is None or later.empty else float(later.max()) - boot
    sheet.put(measure_, grown, "no Slab in /proc/meminfo")


def _waste(run: Run, sheet: Sheet) -> None:
    found = frame(run.tables, "slabinfo")
    if found is None:
        why = _why_no_slabinfo(run)
        for moment, _ in moments(run.calendar):
            sheet.put(_unused(moment), None, why)
        sheet.lack(_CACHE, why)
        return
    kb = run.page_bytes / _KB
    rows = pd.DataFrame(
        {
            "round": found["round"].astype(int),
            "cache": found["cache"].astype(str),
            "held": found["num_slabs"].astype(float) * found["pagesperslab"].astype(float) * kb,
            "used": found["active_objs"].astype(float) * found["objsize"].astype(float) / _KB,
        }
    )
    rows["unused"] = rows["held"] - rows["used"]
    total = rows.groupby("round")[["held", "unused"]].sum()
    for moment, number in moments(run.calendar):
        sheet.put(_unused(moment), at(total["unused"], number), "slabinfo was not read then")
    _caches(sheet, rows, int(total.index[int(total["held"].argmax())]))


def _caches(sheet: Sheet, rows: pd.DataFrame, peak: int) -> None:
    """Each cache when most is held in all; which are large enough to tell, both groups decide."""
    caches = rows[rows["round"] == peak].groupby("cache")[["held", "unused"]].sum()
    for cache, row in caches.sort_values("held", ascending=False).iterrows():
        for column, title, least in (
            ("held", "slabs of", _LARGE_KB),
            ("unused", "unused in slabs of", _UNUSED_KB),
        ):
            sheet.put(
                Measure(
                    id=f"{_CACHE}{column}_kb@most held cache={cache}",
                    subject="slab",
                    title=f"{title} {cache}",
                    moment="most held",
                    unit="kB",
                    floor=64.0,
                    least=least,
                    less_is_better=True,
                    detail=True,
                ),
                float(row[column]),
            )


def _unused(moment: str) -> Measure:
    return Measure(
        id=f"slab_unused_kb@{moment}",
        subject="slab",
        title="slab memory in no object's use (slabinfo)",
        moment=moment,
        unit="kB",
        floor=128.0,
        less_is_better=True,
    )


def _why_no_slabinfo(run: Run) -> str:
    if run.configured.symbols.get("CONFIG_SLOB") == "y":
        return "SLOB keeps no account of its objects: it has no /proc/slabinfo"
    return "the run has no /proc/slabinfo"
