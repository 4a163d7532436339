"""Rules about what is computed from totalreserve_pages: MemAvailable and the dirty limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.watermark_marks import eras
from analysis.errors import MissingInputError
from analysis.model.dirty_limits import dirty_limits, dirtyable_pages
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages


def printed_reserve(snapshot: Snapshot) -> list[ZoneReserve]:
    """Reserve of each zone by what zoneinfo prints; the high watermark without boost.

    Raises:
        MissingInputError: the kernel is older than every one that was compared.
    """
    eras(snapshot)
    return [
        ZoneReserve(
            lowmem_reserve=zone.protection,
            high_pages=zone.pages["high"] - zone.pages.get("boost", 0),
            managed_pages=zone.pages["managed"],
        )
        for zone in snapshot.zoneinfo.zones
    ]


def reserve_line(zones: Sequence[ZoneReserve]) -> str:
    parts = [
        f"min({max(zone.lowmem_reserve, default=0)} + {zone.high_pages}, {zone.managed_pages})"
        for zone in zones
        if zone.managed_pages
    ]
    return f"totalreserve_pages = {' + '.join(parts)} = {totalreserve_pages(zones)}"


def low_pages(snapshot: Snapshot) -> int:
    return sum(zone.pages["low"] for zone in snapshot.zoneinfo.zones)


def meminfo_pages(snapshot: Snapshot, *names: str) -> int:
    values = snapshot.meminfo.values
    for name in names:
        if name not in values:
            raise MissingInputError(f"{name} in proc/meminfo")
    return sum(values[name] for name in names) // snapshot.page_kib


def reclaimable_pages(snapshot: Snapshot) -> int:
    name = "KReclaimable" if "KReclaimable" in snapshot.meminfo.values else "SReclaimable"
    return meminfo_pages(snapshot, name)


def _moved_pages(snapshot: Snapshot) -> int:
    """How far counters of meminfo, vmstat and zoneinfo, read one after the other, lie apart."""
    counters = snapshot.vmstat.values
    free = [
        meminfo_pages(snapshot, "MemFree"),
        counters["nr_free_pages"],
        sum(zone.pages["free"] for zone in snapshot.zoneinfo.zones),
    ]
    file = [
        meminfo_pages(snapshot, "Active(file)", "Inactive(file)"),
        counters["nr_active_file"] + counters["nr_inactive_file"],
    ]
    return max(free) - min(free) + max(file) - min(file)


def moving(snapshot: Snapshot, predicted: int, observed: int) -> str | None:
    """Why both need not be equal; None where they lie farther apart than the counters moved.

    The kernel reads the counters of one file again for what it computes from them.
    """
    moved = _moved_pages(snapshot)
    if abs(predicted - observed) > moved:
        return None
    return (
        f"the rule gives {predicted} pages, the kernel shows {observed}, and free and file pages "
        f"moved by {moved} while meminfo, vmstat and zoneinfo were read"
    )


def _judged(
    snapshot: Snapshot,
    rule_id: str,
    *,
    predicted: int,
    observed: int,
    working: Sequence[str],
    unit_kib: int = 0,
) -> Claim:
    """Exact; unknown only where both differ by no more than the counters moved meanwhile.

    Both numbers in pages; claimed in KiB where ``unit_kib``, those of a page, is given.
    """
    moved = None if predicted == observed else moving(snapshot, predicted, observed)
    unit = "KiB" if unit_kib else "pages"
    predicted, observed = predicted * (unit_kib or 1), observed * (unit_kib or 1)
    if moved is not None:
        return unknown(
            rule_id,
            why=moved,
            predicted=predicted,
            observed=observed,
            unit=unit,
            working=working,
        )
    return exact(rule_id, {}, predicted=predicted, observed=observed, unit=unit, working=working)


def _mem_available(snapshot: Snapshot) -> Iterator[Claim]:
    zones = printed_reserve(snapshot)
    free = meminfo_pages(snapshot, "MemFree")
    file = meminfo_pages(snapshot, "Active(file)", "Inactive(file)")
    reclaimable = reclaimable_pages(snapshot)
    low = low_pages(snapshot)
    predicted = mem_available_pages(
        free_pages=free,
        file_pages=file,
        reclaimable_pages=reclaimable,
        totalreserve=totalreserve_pages(zones),
        low_pages=low,
    )
    yield _judged(
        snapshot,
        "mem_available",
        predicted=predicted,
        observed=meminfo_pages(snapshot, "MemAvailable"),
        unit_kib=snapshot.page_kib,
        working=[
            reserve_line(zones),
            f"low watermarks of all zones: {low} pages",
            f"page cache: {file} - min({file} / 2, {low}) = {file - min(file // 2, low)}",
            (
                f"reclaimable: {reclaimable} - min({reclaimable} / 2, {low}) = "
                f"{reclaimable - min(reclaimable // 2, low)}"
            ),
            (
                f"available = {free} free - {totalreserve_pages(zones)} + page cache + "
                f"reclaimable = {predicted} pages of {snapshot.page_kib} KiB"
            ),
        ],
    )


def _dirty(snapshot: Snapshot, rule_id: str) -> Iterator[Claim]:
    counters = snapshot.vmstat.values
    if rule_id not in counters:
        raise MissingInputError(f"{rule_id} in proc/vmstat")
    zones = printed_reserve(snapshot)
    reserve = totalreserve_pages(zones)
    file = counters["nr_inactive_file"] + counters["nr_active_file"]
    highmem = _dirtyable_highmem(snapshot)
    dirtyable = dirtyable_pages(
        free_pages=counters["nr_free_pages"],
        file_pages=file,
        totalreserve=reserve,
        highmem_pages=highmem,
    )
    limits = dirty_limits(
        dirtyable,
        dirty_ratio=snapshot.sysctl_number("vm/dirty_ratio"),
        background_ratio=snapshot.sysctl_number("vm/dirty_background_ratio"),
        dirty_bytes=snapshot.sysctl_number("vm/dirty_bytes"),
        background_bytes=snapshot.sysctl_number("vm/dirty_background_bytes"),
        page_size_bytes=snapshot.page_size_bytes,
    )
    background = rule_id == "nr_dirty_background_threshold"
    predicted = limits.background_pages if background else limits.dirty_pages
    kind = "dirty_background" if background else "dirty"
    ratio = snapshot.sysctl_number(f"vm/{kind}_ratio")
    in_bytes = snapshot.sysctl_number(f"vm/{kind}_bytes")
    yield _judged(
        snapshot,
        rule_id,
        predicted=predicted,
        observed=counters[rule_id],
        working=[
            reserve_line(zones),
            (
                f"dirtyable = {counters['nr_free_pages']} free - {reserve} + {file} on file lists "
                f"- {highmem} of highmem + 1 = {dirtyable}"
            ),
            _share(ratio, in_bytes, kind, snapshot.page_size_bytes),
            f"limit = {predicted}",
        ],
    )


def _share(ratio: int, in_bytes: int, kind: str, page_size_bytes: int) -> str:
    if in_bytes:
        return f"vm.{kind}_bytes = {in_bytes}, of pages of {page_size_bytes} bytes"
    share = ratio * page_size_bytes // 100
    return f"vm.{kind}_ratio = {ratio} %: {share} of the {page_size_bytes} bytes of each page"


def _dirtyable_highmem(snapshot: Snapshot) -> int:
    """Dirtyable pages of highmem, which do not count unless vm.highmem_is_dirtyable is set."""
    highmem = [zone for zone in snapshot.zoneinfo.zones if zone.zone == "HighMem"]
    if not any(zone.pages["managed"] for zone in highmem):
        return 0
    name = "vm/highmem_is_dirtyable"
    if snapshot.has_sysctl(name) and snapshot.sysctl_number(name):
        return 0
    # Movable memory is highmem where the machine has any.
    highmem += [zone for zone in snapshot.zoneinfo.zones if zone.zone == "Movable"]
    return sum(
        zone.pages["free"]
        - min(zone.pages["free"], zone.pages["high"])
        + zone.counters["nr_zone_inactive_file"]
        + zone.counters["nr_zone_active_file"]
        for zone in highmem
        if zone.pages["managed"]
    )


def _dirty_threshold(snapshot: Snapshot) -> Iterator[Claim]:
    return _dirty(snapshot, "nr_dirty_threshold")


def _dirty_background_threshold(snapshot: Snapshot) -> Iterator[Claim]:
    return _dirty(snapshot, "nr_dirty_background_threshold")


_DIRTY_INPUTS = (
    "proc/zoneinfo",
    "proc/vmstat",
    "proc/sys/vm/dirty_ratio",
    "proc/sys/vm/dirty_background_ratio",
    "proc/sys/vm/dirty_bytes",
    "proc/sys/vm/dirty_background_bytes",
)


RULES: tuple[Rule, ...] = (
    Rule(
        id="mem_available",
        says=(
            "MemAvailable is what is free beyond totalreserve_pages, and page cache and "
            "reclaimable kernel memory, of each of which the low watermarks of all zones have to "
            "stay, or half where that is less."
        ),
        inputs=("proc/zoneinfo", "proc/meminfo"),
        observed="proc/meminfo: MemAvailable",
        model=(mem_available_pages, totalreserve_pages),
        judge=_mem_available,
    ),
    Rule(
        id="nr_dirty_threshold",
        says=(
            "Writers are throttled when dirty pages reach vm.dirty_ratio of what is free beyond "
            "totalreserve_pages or on the file LRU lists. The ratio is rounded down to bytes of a "
            "page."
        ),
        inputs=_DIRTY_INPUTS,
        observed="proc/vmstat: nr_dirty_threshold",
        model=(dirtyable_pages, dirty_limits, totalreserve_pages),
        judge=_dirty_threshold,
    ),
    Rule(
        id="nr_dirty_background_threshold",
        says=(
            "Write-back begins when dirty pages reach vm.dirty_background_ratio of the same "
            "memory; where that would not be below the limit for writers it is half of it."
        ),
        inputs=_DIRTY_INPUTS,
        observed="proc/vmstat: nr_dirty_background_threshold",
        model=(dirtyable_pages, dirty_limits, totalreserve_pages),
        judge=_dirty_background_threshold,
    ),
)
