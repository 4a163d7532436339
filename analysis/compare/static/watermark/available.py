"""Rules about what is computed from totalreserve_pages: MemAvailable, and what others share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.readings import whole_pages
from analysis.compare.static.watermark.boosts import boosts, hidden_boost
from analysis.compare.static.watermark.chain import eras
from analysis.compare.static.watermark.marks import Marks, possible_marks
from analysis.errors import MissingInputError
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages

_SUMS_MAX = 20_000


def printed_reserve(snapshot: Snapshot) -> list[ZoneReserve]:
    """Reserve of each zone by what zoneinfo prints; the high watermark without boost.

    Raises:
        MissingInputError: the kernel is older than every one that was compared.
    """
    eras(snapshot)
    sets: list[Marks] = []
    if any("boost" not in zone.pages for zone in snapshot.zoneinfo.zones):
        with suppress(MissingInputError):
            sets = possible_marks(snapshot)
    return [
        ZoneReserve(
            lowmem_reserve=zone.protection,
            high_pages=zone.pages["high"]
            - zone.pages.get("boost", 0)
            - hidden_boost(snapshot, zone, sets),
            managed_pages=zone.pages["managed"],
        )
        for zone in snapshot.zoneinfo.zones
    ]


def _boosted_reserves(snapshot: Snapshot, zones: Sequence[ZoneReserve]) -> set[int]:
    """What totalreserve_pages may be, had it been computed while zones were boosted.

    Empty where the capture does not say how large a boost may be, or too many sums are possible.
    """
    sums = {0}
    try:
        for zone, reserve in zip(snapshot.zoneinfo.zones, zones, strict=True):
            possible = boosts(snapshot, zone, reserve.high_pages)[1]
            high = reserve.high_pages
            parts = {replace(reserve, high_pages=high + boost).pages for boost in possible}
            sums = {total + part for total in sums for part in parts}
            if len(sums) > _SUMS_MAX:
                return set()
    except MissingInputError:
        return set()
    return sums


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
    """The sum of lines of meminfo that count pages.

    Raises:
        MissingInputError: a line is not there.
        ParseError: one is not of whole pages.
    """
    values = snapshot.meminfo.values
    for name in names:
        if name not in values:
            raise MissingInputError(f"{name} in proc/meminfo")
    return sum(whole_pages(values[name], snapshot.page_kib) for name in names)


def indirectly_reclaimable_pages(snapshot: Snapshot) -> int:
    """What 4.18 to 4.20 count in bytes, under a name that they do not print."""
    nodes = snapshot.zoneinfo.node_stats.values()
    return sum(node.get("", 0) for node in nodes) // snapshot.page_size_bytes


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


def reserve_claim(
    snapshot: Snapshot,
    rule_id: str,
    *,
    zones: Sequence[ZoneReserve],
    rule: Callable[[int], int],
    observed: int,
    working: Sequence[str],
    unit_kib: int = 0,
) -> Claim:
    """Exact; unknown only where both differ by no more than the counters moved meanwhile, or where
    the kernel shows what a boost in force when the reserve was computed would give.

    ``rule`` gives the prediction in pages from totalreserve_pages; claimed in KiB where
    ``unit_kib``, those of a page, is given.
    """
    reserve = totalreserve_pages(zones)
    predicted = rule(reserve)
    moved = None if predicted == observed else moving(snapshot, predicted, observed)
    if moved is None and predicted != observed:
        for boosted in sorted(_boosted_reserves(snapshot, zones)):
            if rule(boosted) == observed:
                moved = (
                    f"the rule gives {predicted} pages, the kernel shows {observed}, which is "
                    f"right if zones were boosted by {boosted - reserve} pages when "
                    f"totalreserve_pages was computed last"
                )
                break
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
    indirectly = indirectly_reclaimable_pages(snapshot)
    low = low_pages(snapshot)

    def rule(totalreserve: int) -> int:
        return mem_available_pages(
            free_pages=free,
            file_pages=file,
            reclaimable_pages=reclaimable,
            totalreserve=totalreserve,
            low_pages=low,
            indirectly_reclaimable_pages=indirectly,
        )

    shown_kib = snapshot.meminfo.values["MemAvailable"]
    if shown_kib % snapshot.page_kib:
        yield exact(
            "mem_available",
            {},
            predicted=rule(totalreserve_pages(zones)) * snapshot.page_kib,
            observed=shown_kib,
            unit="KiB",
            working=[f"it counts whole pages of {snapshot.page_kib} KiB"],
        )
        return
    more = f" + {indirectly} reclaimable indirectly" if indirectly else ""
    yield reserve_claim(
        snapshot,
        "mem_available",
        zones=zones,
        rule=rule,
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
                f"reclaimable{more} = {rule(totalreserve_pages(zones))} pages of "
                f"{snapshot.page_kib} KiB"
            ),
        ],
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
)
