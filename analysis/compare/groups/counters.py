"""Events that the kernel counts: stalls, reclaim, compaction, faults; over the run and by phase.

What it counts in pages is given in KiB, since the pages of two kernels may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.compare.groups.columns import at, by_round, spans, summed
from analysis.compare.groups.measure import Measure, Subject
from analysis.compare.groups.run import Run
from analysis.compare.groups.sheet import Sheet
from analysis.compare.zones import frame


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """One number out of counters of /proc/vmstat."""

    name: str
    subject: Subject
    title: str
    unit: str
    """kB: the counters are of pages."""
    floor: float
    fields: tuple[str, ...] = ()
    prefix: str = ""
    """All counters that begin so, where ``fields`` is empty."""
    less: bool | None = True
    weight: float = 1.0

    def chosen(self) -> tuple[str, ...] | Callable[[str], bool]:
        return self.fields or (lambda name: name.startswith(self.prefix))


_COUNTS = (
    _Count(
        name="allocstall", subject="stalls", title="direct reclaims (allocstall_*)",
        unit="events", floor=3, prefix="allocstall", weight=3,
    ),
    _Count(
        name="compact_stall", subject="stalls", title="direct compactions (compact_stall)",
        unit="events", floor=3, fields=("compact_stall",), weight=3,
    ),
    _Count(
        name="pgscan_kswapd", subject="reclaim", title="memory scanned by kswapd", unit="kB",
        floor=2048, fields=("pgscan_kswapd",),
    ),
    _Count(
        name="pgscan_direct", subject="reclaim", title="memory scanned by direct reclaim",
        unit="kB", floor=1024, fields=("pgscan_direct",),
    ),
    _Count(
        name="pgsteal", subject="reclaim", title="memory reclaimed", unit="kB", floor=2048,
        fields=("pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgsteal_proactive"),
        less=None, weight=2,
    ),
    _Count(
        name="kswapd_runs", subject="reclaim", title="runs of kswapd (pageoutrun)", unit="events",
        floor=3, fields=("pageoutrun",),
    ),
    _Count(
        name="compact_success", subject="compaction", title="compactions that succeeded",
        unit="events", floor=3, fields=("compact_success",), less=None,
    ),
    _Count(
        name="compact_scanned", subject="compaction",
        title="memory scanned by compaction (migrate and free scanners)", unit="kB", floor=16384,
        fields=("compact_migrate_scanned", "compact_free_scanned"), weight=2,
    ),
    _Count(
        name="compact_isolated", subject="compaction", title="memory isolated by compaction",
        unit="kB", floor=2048, fields=("compact_isolated",),
    ),
    _Count(
        name="migrated", subject="compaction", title="memory migrated (pgmigrate_success)",
        unit="kB", floor=2048, fields=("pgmigrate_success",), less=None,
    ),
    _Count(
        name="pgfault", subject="huge pages", title="page faults", unit="faults", floor=500,
        fields=("pgfault",), weight=2,
    ),
    _Count(
        name="thp_fault", subject="huge pages", title="huge pages given at faults", unit="events",
        floor=4, fields=("thp_fault_alloc",), less=None, weight=2,
    ),
    _Count(
        name="thp_fallback", subject="huge pages", title="huge pages not had at faults",
        unit="events", floor=4, fields=("thp_fault_fallback",),
    ),
    _Count(
        name="thp_split", subject="huge pages", title="huge page mappings split", unit="events",
        floor=4, fields=("thp_split_pmd",),
    ),
    _Count(
        name="pgalloc", subject="memory", title="memory allocated in all", unit="kB", floor=8192,
        prefix="pgalloc_", less=None,
    ),
)  # fmt: skip


def measure(run: Run, sheet: Sheet) -> None:
    """Every count as it grew from boot to end (headline) and within each phase (detail)."""
    vmstat = by_round(run.tables, "vmstat")
    for count in _COUNTS:
        column = None if vmstat.empty else summed(vmstat, count.chosen())
        name = ", ".join(count.fields) or f"{count.prefix}*"
        for moment, begin, end in spans(run.calendar):
            sheet.put(
                Measure(
                    id=f"{count.name}@{moment}",
                    subject=count.subject,
                    title=count.title,
                    moment=moment,
                    unit=count.unit,
                    floor=count.floor,
                    less_is_better=count.less,
                    detail=moment != "whole run",
                    weight=count.weight,
                ),
                _grown(run, count, _growth(column, begin, end)),
                f"this kernel does not count {name}",
            )
    _pressure(run, sheet)
    _threads(run, sheet)


def _grown(run: Run, count: _Count, value: float | None) -> float | None:
    if value is None or count.unit != "kB":
        return value
    return value * run.page_bytes / 1024


def _pressure(run: Run, sheet: Sheet) -> None:
    found = frame(run.tables, "pressure")
    for kind in ("some", "full"):
        column = None
        if found is not None:
            rows = found[(found["resource"] == "memory") & (found["kind"] == kind)]
            if len(rows):
                column = _column(rows["round"], rows["total_us"])
        for moment, begin, end in spans(run.calendar):
            value = _growth(column, begin, end)
            sheet.put(
                Measure(
                    id=f"psi_memory_{kind}_ms@{moment}",
                    subject="stalls",
                    title=f"time in which {'a' if kind == 'some' else 'every'} task waited for "
                    f"memory (PSI {kind})",
                    moment=moment,
                    unit="ms",
                    floor=20.0,
                    less_is_better=True,
                    detail=moment != "whole run",
                    weight=2.0,
                ),
                None if value is None else value / 1000,
                "no /proc/pressure/memory: PSI is off or not built in",
            )


def _threads(run: Run, sheet: Sheet) -> None:
    found = frame(run.tables, "kthreads")
    subjects: tuple[tuple[str, Subject], ...] = (
        ("kswapd", "reclaim"),
        ("kcompactd", "compaction"),
    )
    for thread, subject in subjects:
        column, ticks = None, False
        if found is not None:
            rows = found[found["thread"].astype(str).str.match(rf"{thread}\d+$")]
            column, ticks = _cpu_ms(rows, int(run.bundle.hello.get("clock_tick", 100)))
        for moment, begin, end in spans(run.calendar):
            value = _growth(column, begin, end)
            sheet.put(
                Measure(
                    id=f"{thread}_{'ticks' if ticks else 'cpu'}_ms@{moment}",
                    subject=subject,
                    title=f"CPU time of {thread}{' by ticks' if ticks else ''}",
                    moment=moment,
                    unit="ms",
                    floor=50.0,
                    less_is_better=True,
                    detail=moment != "whole run",
                    weight=2.0,
                ),
                value,
                f"the run has no account of a thread {thread}",
            )


def _cpu_ms(rows: pd.DataFrame, tick_hz: int) -> tuple[pd.Series[float] | None, bool]:
    """CPU time by round, and whether by ticks: kernels without schedstat have nothing finer."""
    by_round_ = rows.groupby("round")
    exact = by_round_["run_ns"].sum(min_count=1).dropna()
    if len(exact):
        return exact.astype(float) / 1e6, False
    ticks = by_round_[["utime_ticks", "stime_ticks"]].sum(min_count=1).sum(axis=1, min_count=1)
    ticks = ticks.dropna()
    return (ticks.astype(float) * 1000 / tick_hz, True) if len(ticks) else (None, False)


def _column(rounds: pd.Series[int], values: pd.Series[float]) -> pd.Series[float]:
    return pd.Series(values.to_numpy(dtype=float), index=rounds.to_numpy(dtype=int))


def _growth(column: pd.Series[float] | None, begin: int, end: int) -> float | None:
    if column is None:
        return None
    first, last = at(column, begin), at(column, end)
    return None if first is None or last is None else last - first
