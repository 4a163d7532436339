"""Memory in other use, time, and what the loads themselves report."""

from __future__ import annotations

from analysis.compare.groups.columns import IDLE, at, by_round, within
from analysis.compare.groups.measure import Measure, Subject
from analysis.compare.groups.run import Run, workload_reports
from analysis.compare.groups.sheet import Sheet
from analysis.compare.zones import frame

_FIELDS = (
    ("PageTables", "page tables", 64.0),
    ("KernelStack", "kernel stacks", 64.0),
    ("AnonHugePages", "anonymous memory in huge pages", 4096.0),
)

_REPORTED: tuple[tuple[str, Subject, str, str, bool | None], ...] = (
    ("got_pages", "high orders", "huge pages got by who asked", "pages", False),
    ("refused", "high orders", "requests refused", "requests", True),
    ("failed_steps", "high orders", "blocks of packet rings refused", "steps", True),
    ("rings_refused", "high orders", "packet rings refused", "rings", True),
    ("anon_huge_kb", "huge pages", "memory got in huge pages", "kB", False),
)


def measure(run: Run, sheet: Sheet) -> None:
    """Largest use over the run, free memory at the end, times, and reports."""
    meminfo = by_round(run.tables, "meminfo")
    boot, end = run.calendar.boot, run.calendar.end
    for field, title, floor in _FIELDS:
        value = None
        if field in meminfo:
            held = within(meminfo[field], boot, end)
            value = float(held.max()) if len(held) else None
        sheet.put(
            Measure(
                id=f"{field.lower()}_kb@most",
                subject="huge pages" if field == "AnonHugePages" else "memory",
                title=f"{title} ({field}), most",
                moment="whole run",
                unit="kB",
                floor=floor,
                less_is_better=None if field == "AnonHugePages" else True,
            ),
            value,
            f"no {field} in /proc/meminfo",
        )
    sheet.put(
        Measure(
            id="memfree_kb@end",
            subject="memory",
            title="free memory (MemFree)",
            moment="at the end",
            unit="kB",
            floor=1024.0,
            less_is_better=False,
        ),
        at(meminfo["MemFree"], end) if "MemFree" in meminfo else None,
        "no MemFree in /proc/meminfo",
    )
    _boost(run, sheet)
    _times(run, sheet)
    _reports(run, sheet)


def _boost(run: Run, sheet: Sheet) -> None:
    zoneinfo = frame(run.tables, "zoneinfo")
    most = None
    if zoneinfo is not None:
        rows = zoneinfo[zoneinfo["field"] == "boost"]
        if len(rows):
            pages = rows.groupby("round")["value"].sum().astype(float)
            most = float(pages.max()) * run.page_bytes / 1024
    sheet.put(
        Measure(
            id="boost_kb@most",
            subject="reclaim",
            title="watermark boost of all zones, most seen",
            moment="whole run",
            unit="kB",
            floor=512.0,
        ),
        most,
        "this kernel does not print the boost in /proc/zoneinfo",
    )


def _times(run: Run, sheet: Sheet) -> None:
    manifest = run.bundle.manifest
    sheet.put(_time("boot to the first answer", "boot"), manifest.timings_s.get("boot"), "not kept")
    total = 0.0
    for phase in manifest.phases:
        if phase.name in IDLE or phase.wall_s is None:
            continue
        total += phase.wall_s
        sheet.put(_time(f"the load of {phase.name}", phase.name), phase.wall_s)
    sheet.put(_time("all loads together", "loads"), total)


def _time(title: str, name: str) -> Measure:
    return Measure(
        id=f"time_s@{name}",
        subject="time",
        title=f"wall time of {title}",
        moment="whole phase" if name not in ("boot", "loads") else "whole run",
        unit="s",
        floor=0.2,
        multiplied=True,
        less_is_better=True,
    )


def _reports(run: Run, sheet: Sheet) -> None:
    for phase, numbers in workload_reports(run).items():
        if phase in IDLE:
            continue
        for key, subject, title, unit, less in _REPORTED:
            if key in numbers:
                sheet.put(
                    Measure(
                        id=f"{key}@{phase}",
                        subject=subject,
                        title=title,
                        moment=phase,
                        unit=unit,
                        floor=4096.0 if unit == "kB" else 2.0,
                        less_is_better=less,
                        weight=3.0,
                    ),
                    numbers[key],
                )
