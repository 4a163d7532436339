"""Rules about reserves: lowmem_reserve, totalreserve_pages, and what is computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.watermark_boot import boot_managed, managed_now
from analysis.compare.static.watermark_marks import AFTER_BOOT, AT_BOOT, eras, possible_marks
from analysis.compare.static.watermark_moments import Key, Moment, judged
from analysis.errors import MissingInputError, ParseError
from analysis.model.dirty_limits import dirty_limits, dirtyable_pages
from analysis.model.lowmem_reserve import default_ratios, lowmem_reserve
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages
from analysis.procfs.zoneinfo import Zone

RATIO = "vm/lowmem_reserve_ratio"
_Arrays = dict[Key, tuple[int, ...]]


def _lowmem_reserve(snapshot: Snapshot) -> Iterator[Claim]:
    moments = [
        Moment(
            name=name,
            likely=likely,
            values={key: str(kept) for key, kept in _arrays(snapshot, managed).items()},
            working={
                key: (*before, *_arithmetic(snapshot, key, managed))
                for key in _arrays(snapshot, managed)
            },
        )
        for name, likely, managed, before in _reserve_moments(snapshot)
    ]
    observed = {(zone.node, zone.zone): str(zone.protection) for zone in snapshot.zoneinfo.zones}
    yield from judged("lowmem_reserve", moments, observed, unit="pages")


def _reserve_moments(
    snapshot: Snapshot,
) -> list[tuple[str, bool, Mapping[Key, int], tuple[str, ...]]]:
    """Name, whether it is likely, managed pages and working of each moment it may come from.

    Up to 7.2 whoever reads vm.lowmem_reserve_ratio makes the kernel compute it again, so the later
    moment is never excluded; where the era follows every change it is the only one.
    """
    now = managed_now(snapshot)
    if not now:
        raise MissingInputError("managed pages in proc/zoneinfo")
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
        raise MissingInputError("what each zone managed when lowmem_reserve was computed")
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


def _arrays(snapshot: Snapshot, managed: Mapping[Key, int]) -> _Arrays:
    arrays: _Arrays = {}
    for node in dict.fromkeys(node for node, _ in managed):
        zones = [(name, pages) for (owner, name), pages in managed.items() if owner == node]
        for name, kept in lowmem_reserve(zones, _ratios(snapshot)).items():
            arrays[node, name] = kept
    return arrays


def _arithmetic(snapshot: Snapshot, key: Key, managed: Mapping[Key, int]) -> Iterator[str]:
    node, name = key
    names = [zone.zone for zone in _zones_of(snapshot, node)]
    ratio = _ratios(snapshot)[names.index(name)]
    if not managed[key]:
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


# What is computed from the reserve


def _printed_reserve(snapshot: Snapshot) -> list[ZoneReserve]:
    """Reserve of each zone by what zoneinfo prints; the high watermark without boost."""
    return [
        ZoneReserve(
            lowmem_reserve=zone.protection,
            high_pages=zone.pages["high"] - zone.pages.get("boost", 0),
            managed_pages=zone.pages["managed"],
        )
        for zone in snapshot.zoneinfo.zones
    ]


def _reserve_line(zones: Sequence[ZoneReserve]) -> str:
    parts = [
        f"min({max(zone.lowmem_reserve, default=0)} + {zone.high_pages}, {zone.managed_pages})"
        for zone in zones
        if zone.managed_pages
    ]
    return f"totalreserve_pages = {' + '.join(parts)} = {totalreserve_pages(zones)}"


def _low_pages(snapshot: Snapshot) -> int:
    return sum(zone.pages["low"] for zone in snapshot.zoneinfo.zones)


def _meminfo_pages(snapshot: Snapshot, *names: str) -> int:
    values = snapshot.meminfo.values
    for name in names:
        if name not in values:
            raise MissingInputError(f"{name} in proc/meminfo")
    return sum(values[name] for name in names) // snapshot.page_kib


def _reclaimable_pages(snapshot: Snapshot) -> int:
    name = "KReclaimable" if "KReclaimable" in snapshot.meminfo.values else "SReclaimable"
    return _meminfo_pages(snapshot, name)


def _moved_pages(snapshot: Snapshot) -> int:
    """How far counters of meminfo, vmstat and zoneinfo, read one after the other, lie apart."""
    counters = snapshot.vmstat.values
    free = [
        _meminfo_pages(snapshot, "MemFree"),
        counters["nr_free_pages"],
        sum(zone.pages["free"] for zone in snapshot.zoneinfo.zones),
    ]
    file = [
        _meminfo_pages(snapshot, "Active(file)", "Inactive(file)"),
        counters["nr_active_file"] + counters["nr_inactive_file"],
    ]
    return max(free) - min(free) + max(file) - min(file)


def _moving(snapshot: Snapshot, predicted: int, observed: int) -> str | None:
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
    moved = None if predicted == observed else _moving(snapshot, predicted, observed)
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


def _totalreserve(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "totalreserve"
    available = _meminfo_pages(snapshot, "MemAvailable")
    if not available:
        yield unknown(rule_id, why="MemAvailable is 0: the reserve may be anything above")
        return
    without = mem_available_pages(
        free_pages=_meminfo_pages(snapshot, "MemFree"),
        file_pages=_meminfo_pages(snapshot, "Active(file)", "Inactive(file)"),
        reclaimable_pages=_reclaimable_pages(snapshot),
        totalreserve=0,
        low_pages=_low_pages(snapshot),
    )
    shown = without - available
    possible = list(_total_moments(snapshot))
    moments = [_total_moment(name, likely, zones) for name, likely, zones in possible]
    values = sorted({totalreserve_pages(zones) for _, _, zones in possible})
    if shown not in values:
        nearest = min(values, key=lambda reserve: abs(reserve - shown))
        moved = _moving(snapshot, nearest, shown)
        if moved is not None:
            yield unknown(rule_id, why=moved, observed=shown, unit="pages")
            return
    yield from judged(rule_id, moments, {(0, ""): shown}, unit="pages")


def _total_moment(name: str, likely: bool, zones: Sequence[ZoneReserve]) -> Moment:
    return Moment(
        name=name,
        likely=likely,
        values={(0, ""): totalreserve_pages(zones)},
        working={(0, ""): (f"  {_reserve_line(zones)}",)},
    )


def _total_moments(snapshot: Snapshot) -> Iterator[tuple[str, bool, list[ZoneReserve]]]:
    """Each pair of moments of watermarks and lowmem_reserve; the later one caps."""
    now = managed_now(snapshot)
    for marks in possible_marks(snapshot):
        for name, likely, managed, _ in _reserve_moments(snapshot):
            arrays = _arrays(snapshot, managed)
            both = name if name == marks.name else f"with watermarks {marks.name}, reserves {name}"
            capping = marks.managed if AFTER_BOOT not in (name, marks.name) else now
            yield (
                both,
                likely and marks.likely,
                [
                    ZoneReserve(
                        lowmem_reserve=arrays[key],
                        high_pages=zone.high_pages,
                        managed_pages=capping[key],
                    )
                    for key, zone in marks.zones.items()
                ],
            )


def _mem_available(snapshot: Snapshot) -> Iterator[Claim]:
    zones = _printed_reserve(snapshot)
    free = _meminfo_pages(snapshot, "MemFree")
    file = _meminfo_pages(snapshot, "Active(file)", "Inactive(file)")
    reclaimable = _reclaimable_pages(snapshot)
    low = _low_pages(snapshot)
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
        observed=_meminfo_pages(snapshot, "MemAvailable"),
        unit_kib=snapshot.page_kib,
        working=[
            _reserve_line(zones),
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
    zones = _printed_reserve(snapshot)
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
            _reserve_line(zones),
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


_CHAIN = ("proc/zoneinfo", "dmesg", "proc/iomem")
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
