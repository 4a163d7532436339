"""Rules about reserves: lowmem_reserve and totalreserve_pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, unknown
from analysis.compare.static.moments.late_frees import Step, spread_frees
from analysis.compare.static.watermark.available import (
    indirectly_reclaimable_pages,
    low_pages,
    meminfo_pages,
    moving,
    printed_reserve,
    reclaimable_pages,
    reserve_line,
)
from analysis.compare.static.watermark.boot import boot_managed, managed_now
from analysis.compare.static.watermark.chain import eras
from analysis.compare.static.watermark.marks import AFTER_BOOT, AT_BOOT, possible_marks
from analysis.compare.static.watermark.moments import Key, Moment, judged
from analysis.errors import MissingInputError, ParseError
from analysis.model.lowmem_reserve import default_ratios, lowmem_reserve
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages
from analysis.procfs.zoneinfo import Zone

RATIO = "vm/lowmem_reserve_ratio"
_TOTAL: Key = (0, "all zones")
_Arrays = dict[Key, tuple[int, ...]]


def _lowmem_reserve(snapshot: Snapshot) -> Iterator[Claim]:
    moments = []
    keeps = {era.empty_zones_keep for era in eras(snapshot)}
    printed = printed_reserve(snapshot)
    for (name, likely, managed, before), keep in product(_reserve_moments(snapshot), keeps):
        arrays = _arrays(snapshot, managed, empty_keep=keep)
        values: dict[Key, Number] = {key: str(kept) for key, kept in arrays.items()}
        values[_TOTAL] = totalreserve_pages(
            replace(zone, lowmem_reserve=arrays[key])
            for key, zone in zip(arrays, printed, strict=True)
        )
        working = {
            key: (*before, *_arithmetic(snapshot, key, managed, empty_keep=keep)) for key in arrays
        }
        moments.append(Moment(name=name, likely=likely, values=values, working=working))
    observed = {(zone.node, zone.zone): str(zone.protection) for zone in snapshot.zoneinfo.zones}
    # MemAvailable, which is computed from the sum of all reserves, says when that was.
    total = None
    with suppress(MissingInputError):
        total = _shown_total(snapshot)
    yield from judged(
        "lowmem_reserve",
        moments,
        observed,
        unit="pages",
        evidence={} if total is None else {_TOTAL: total},
    )


def _reserve_moments(
    snapshot: Snapshot,
) -> list[tuple[str, bool, Mapping[Key, int], tuple[str, ...]]]:
    """Name, whether it is likely, managed pages and working of each moment it may come from.

    Up to 7.2 whoever reads vm.lowmem_reserve_ratio makes the kernel compute it again, so the later
    moment is never excluded; where the era follows every change it is the only one.
    """
    now = managed_now(snapshot)
    follows = {era.reserve_follows_managed for era in eras(snapshot)}
    written = _ratios(snapshot) != _defaults(snapshot)
    # A run's sysctls are read before its first round.
    read = snapshot.source.kind == "run" and snapshot.has_sysctl(RATIO)
    if follows == {True} or written or read:
        return [(AFTER_BOOT, True, now, ())]
    found = [
        (AT_BOOT, True, boot.first_pages, boot.working)
        for boot in boot_managed(snapshot)
        if boot.first_zones_known
    ]
    if not found:
        spread = spread_frees(snapshot, Step.WATERMARKS)
        what = " and ".join(free.name for free in spread)
        raise MissingInputError(
            f"what each zone managed when lowmem_reserve was computed: {what} came later, of zones "
            f"that no message names"
        )
    return [*found, (AFTER_BOOT, True in follows, now, ())]


def _zones_of(snapshot: Snapshot, node: int) -> list[Zone]:
    return [zone for zone in snapshot.zoneinfo.zones if zone.node == node]


def _defaults(snapshot: Snapshot) -> tuple[int, ...]:
    node = snapshot.zoneinfo.zones[0].node
    return default_ratios([zone.zone for zone in _zones_of(snapshot, node)])


def _ratios(snapshot: Snapshot) -> tuple[int, ...]:
    """One number a zone; the defaults where the capture lacks the sysctl."""
    defaults = _defaults(snapshot)
    if not snapshot.has_sysctl(RATIO):
        return defaults
    text = snapshot.sysctl(RATIO)
    try:
        ratios = tuple(max(0, int(word)) for word in text.split())
    except ValueError:
        raise ParseError(f"proc/sys/{RATIO}", 1, text, "numbers") from None
    if len(ratios) != len(defaults):
        raise ParseError(f"proc/sys/{RATIO}", 1, text, f"{len(defaults)} numbers, one a zone")
    return ratios


def _arrays(snapshot: Snapshot, managed: Mapping[Key, int], *, empty_keep: bool = False) -> _Arrays:
    arrays: _Arrays = {}
    for node in dict.fromkeys(node for node, _ in managed):
        zones = [(name, pages) for (owner, name), pages in managed.items() if owner == node]
        for name, kept in lowmem_reserve(zones, _ratios(snapshot), empty_keep=empty_keep).items():
            arrays[node, name] = kept
    return arrays


def _arithmetic(
    snapshot: Snapshot, key: Key, managed: Mapping[Key, int], *, empty_keep: bool
) -> Iterator[str]:
    node, name = key
    names = [zone.zone for zone in _zones_of(snapshot, node)]
    ratio = _ratios(snapshot)[names.index(name)]
    if not managed[key] and not empty_keep:
        yield f"  node {node} {name} manages nothing and keeps nothing back"
        return
    if not ratio:
        yield f"  {name} has the ratio 0 and keeps nothing back"
        return
    above = 0
    for index in range(names.index(name) + 1, len(names)):
        above += managed[node, names[index]]
        yield (
            f"  from requests up to {names[index]}: {above} pages managed above {name}, "
            f"{above} / {ratio} = {above // ratio}"
        )


def _shown_total(snapshot: Snapshot) -> int | None:
    """totalreserve_pages as MemAvailable shows it; None where that is 0 and shows nothing."""
    available = meminfo_pages(snapshot, "MemAvailable")
    without = mem_available_pages(
        free_pages=meminfo_pages(snapshot, "MemFree"),
        file_pages=meminfo_pages(snapshot, "Active(file)", "Inactive(file)"),
        reclaimable_pages=reclaimable_pages(snapshot),
        totalreserve=0,
        low_pages=low_pages(snapshot),
        indirectly_reclaimable_pages=indirectly_reclaimable_pages(snapshot),
    )
    return without - available if available else None


def _totalreserve(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "totalreserve"
    shown = _shown_total(snapshot)
    if shown is None:
        yield unknown(rule_id, why="MemAvailable is 0: the reserve may be anything above")
        return
    possible = _total_moments(snapshot)
    moments = [_total_moment(name, likely, zones) for name, likely, zones in possible]
    values = sorted({totalreserve_pages(zones) for _, _, zones in possible})
    if shown not in values:
        nearest = min(values, key=lambda reserve: abs(reserve - shown))
        moved = moving(snapshot, nearest, shown)
        if moved is not None:
            yield unknown(rule_id, why=moved, observed=shown, unit="pages")
            return
    yield from judged(rule_id, moments, {(0, ""): shown}, unit="pages")


def _total_moment(name: str, likely: bool, zones: Sequence[ZoneReserve]) -> Moment:
    return Moment(
        name=name,
        likely=likely,
        values={(0, ""): totalreserve_pages(zones)},
        working={(0, ""): (f"  {reserve_line(zones)}",)},
    )


def _total_moments(snapshot: Snapshot) -> list[tuple[str, bool, list[ZoneReserve]]]:
    """Each pair of moments of watermarks and lowmem_reserve; the later one caps.

    What zoneinfo prints of both says which pair it is; where it is none, each of them may be.
    """
    now = managed_now(snapshot)
    printed = {
        (zone.node, zone.zone): (zone.protection, zone.pages["high"] - zone.pages.get("boost", 0))
        for zone in snapshot.zoneinfo.zones
    }
    found: list[tuple[str, bool, list[ZoneReserve]]] = []
    shown: list[tuple[str, bool, list[ZoneReserve]]] = []
    reserves = [
        (name, likely, _arrays(snapshot, managed))
        for name, likely, managed, _ in _reserve_moments(snapshot)
    ]
    for marks in possible_marks(snapshot):
        for name, likely, arrays in reserves:
            later = marks.after_boot or name == AFTER_BOOT
            both = name if name == marks.name else f"with watermarks {marks.name}, reserves {name}"
            zones = {
                key: ZoneReserve(
                    lowmem_reserve=arrays[key],
                    high_pages=zone.high_pages,
                    managed_pages=(now if later else marks.managed)[key],
                )
                for key, zone in marks.zones.items()
            }
            found.append((both, likely and marks.likely, list(zones.values())))
            computed = {key: (one.lowmem_reserve, one.high_pages) for key, one in zones.items()}
            if computed == printed:
                shown.append((both, True, list(zones.values())))
    return shown or found


_CHAIN = ("proc/zoneinfo", "dmesg", "proc/iomem")
RULES: tuple[Rule, ...] = (
    Rule(
        id="lowmem_reserve",
        says=(
            "A zone keeps back, from a request that may go up to a higher zone, what the zones "
            "above it and up to that one manage, divided by its lowmem_reserve_ratio. It is "
            "computed at boot before the initrd and the kernel's init memory are handed over, "
            "again whenever vm.lowmem_reserve_ratio is read (up to 7.2) or written, and from 7.2 "
            "on whenever a zone's managed pages change."
        ),
        inputs=(*_CHAIN, f"proc/sys/{RATIO}"),
        observed="proc/zoneinfo: protection",
        model=(lowmem_reserve, default_ratios),
        judge=_lowmem_reserve,
    ),
    Rule(
        id="totalreserve",
        says=(
            "totalreserve_pages is the sum over all zones of high watermark and largest "
            "lowmem_reserve, at most all the zone manages, as of the last time that either was "
            "computed. No file prints it; MemAvailable is computed from it."
        ),
        inputs=(*_CHAIN, "config", "proc/cmdline", "proc/pagetypeinfo", f"proc/sys/{RATIO}"),
        observed="proc/meminfo: MemAvailable, solved for totalreserve_pages",
        model=(totalreserve_pages, mem_available_pages, lowmem_reserve),
        judge=_totalreserve,
    ),
)
