"""What a kernel costs before anything runs on it."""

from __future__ import annotations

from analysis.compare.groups.columns import at, by_round
from analysis.compare.groups.measure import Measure
from analysis.compare.groups.moment import BOOT
from analysis.compare.groups.run import Run
from analysis.compare.groups.sheet import Sheet
from analysis.compare.zones import frame

_KB = 1024


def measure(run: Run, sheet: Sheet) -> None:
    """Memory lost, reserves, and what is free after boot."""
    meminfo = by_round(run.tables, "meminfo")
    boot = run.calendar.boot
    machine = run.bundle.manifest.machine
    total_kb = at(meminfo["MemTotal"], boot) if "MemTotal" in meminfo else None
    given_kb = machine.memory_bytes / _KB if machine else None
    lost_kb = None if total_kb is None or given_kb is None else given_kb - total_kb
    sheet.put(
        _settled("lost_kb", "memory of the machine that never becomes MemTotal", weight=3.0),
        lost_kb,
        "no MemTotal or no size of the machine",
    )
    _zones(run, sheet)
    minimum = run.configured.settings.get("vm.min_free_kbytes", "")
    sheet.put(
        _settled("min_free_kb", "vm.min_free_kbytes", floor=64.0),
        float(minimum) if minimum.isdigit() else None,
        "the run did not keep the sysctl",
    )
    for field, title in (("MemFree", "free memory"), ("MemAvailable", "memory available")):
        column = meminfo.get(field)
        sheet.put(
            Measure(
                id=f"{field.lower()}_kb@boot",
                subject="boot",
                title=f"{title} ({field})",
                moment=BOOT,
                unit="kB",
                floor=1024.0,
                less_is_better=False,
                weight=2.0,
            ),
            None if column is None else at(column, boot),
            f"no {field} in /proc/meminfo",
        )


def _zones(run: Run, sheet: Sheet) -> None:
    zoneinfo = frame(run.tables, "zoneinfo")
    if zoneinfo is None:
        sheet.put(_unmanaged(), None, "no /proc/zoneinfo")
        return
    first = zoneinfo[zoneinfo["round"] == run.calendar.boot]
    kb = run.page_bytes / _KB
    unmanaged = 0.0
    high = 0.0
    for (node, zone), rows in first.groupby(["node", "zone"], observed=True):
        fields = dict(zip(rows["field"], rows["value"], strict=True))
        if not fields.get("present"):
            continue
        lost_kb = float(fields["present"] - fields["managed"]) * kb
        unmanaged += lost_kb
        high += float(fields.get("high", 0)) * kb
        sheet.put(
            _settled(
                f"unmanaged_kb node={node} zone={zone}",
                f"present but not managed in node {node} {zone}",
                detail=True,
            ),
            lost_kb,
        )
    sheet.put(_unmanaged(), unmanaged)
    sheet.put(_settled("high_kb", "high watermarks of all zones", floor=64.0), high)


def _unmanaged() -> Measure:
    return _settled(
        "unmanaged_kb", "memory present but not managed (present less managed)", weight=3.0
    )


def _settled(
    name: str, title: str, *, floor: float = 128.0, weight: float = 1.0, detail: bool = False
) -> Measure:
    return Measure(
        id=f"{name}@boot",
        subject="boot",
        title=title,
        moment=BOOT,
        unit="kB",
        floor=floor,
        less_is_better=True,
        settled=True,
        detail=detail,
        weight=weight,
    )
