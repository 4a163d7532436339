"""Laws of zones: /proc/zoneinfo alone, and against what /proc/meminfo says once and for all."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.handover.inputs import boot
from analysis.compare.static.identities.meminfo import line_of
from analysis.compare.static.readings import (
    moved,
    node_private_pages,
    reading,
    settled,
    zone_private_pages,
)
from analysis.model.drift import Reading
from analysis.model.identities import zones as model
from analysis.procfs import zoneinfo
from analysis.procfs.zoneinfo import Zone

FILE = "proc/zoneinfo"
_LARGEST_BLOCK_ORDER = 10


def _nest(snapshot: Snapshot) -> Iterator[Claim]:
    for zone in snapshot.zoneinfo.zones:
        managed, present, spanned = (zone.pages[name] for name in ("managed", "present", "spanned"))
        law = "managed <= present <= spanned"
        fits = model.nests(managed_pages=managed, present_pages=present, spanned_pages=spanned)
        yield exact(
            "zone_pages_nest",
            {"node": zone.node, "zone": zone.zone},
            predicted=law,
            observed=law if fits else f"managed {managed}, present {present}, spanned {spanned}",
            unit="pages",
            working=[f"{managed} <= {present} <= {spanned}"],
        )


def _free_counter(snapshot: Snapshot) -> Iterator[Claim]:
    allowed = len(snapshot.cpus_online) << _LARGEST_BLOCK_ORDER
    for zone in snapshot.zoneinfo.zones:
        if "nr_free_pages" not in zone.counters:
            continue
        scope: dict[str, int | str] = {"node": zone.node, "zone": zone.zone}
        first, second = zone.pages["free"], zone.counters["nr_free_pages"]
        working = [f"'pages free' and nr_free_pages are one counter, read twice: {first}, {second}"]
        if 0 < abs(first - second) <= allowed:
            yield unknown(
                "zone_free_counter",
                scope,
                why=f"pages were freed or allocated between two lines: {first}, then {second}",
                predicted=first,
                observed=second,
                unit="pages",
                working=working,
            )
            continue
        yield exact(
            "zone_free_counter",
            scope,
            predicted=first,
            observed=second,
            unit="pages",
            working=working,
        )


def _managed_total(snapshot: Snapshot) -> Iterator[Claim]:
    zones = snapshot.zoneinfo.zones
    page_kib = snapshot.page_kib
    managed = [(zone, zone.pages["managed"]) for zone in zones if zone.pages["managed"]]
    total = model.total_pages(pages for _, pages in managed)
    terms = " + ".join(f"{pages} (node {z.node} {z.zone})" for z, pages in managed)
    elsewhere = counted_in_no_zone(snapshot)
    if elsewhere:
        yield unknown("managed_total", why=elsewhere)
    else:
        yield exact(
            "managed_total",
            {},
            predicted=total * page_kib,
            observed=line_of(snapshot, "MemTotal"),
            unit="KiB",
            working=[f"{terms} = {total} pages of {page_kib} KiB"],
        )
    if "HighTotal" in snapshot.meminfo.values:
        high = model.total_pages(zone.pages["managed"] for zone in zones if is_high(zone, zones))
        yield exact(
            "managed_total",
            {"part": "highmem"},
            predicted=high * page_kib,
            observed=line_of(snapshot, "HighTotal"),
            unit="KiB",
            working=[f"{high} pages in zones of highmem, of {page_kib} KiB"],
        )


def counted_in_no_zone(snapshot: Snapshot) -> str | None:
    """Why MemTotal may be more than all zones manage; None where both are equal."""
    if snapshot.arch != "x86_64" or not snapshot.has("dmesg"):
        return None
    said = boot(snapshot)
    if said.efi and not any(free.name == "EFI boot services" for free in said.freeing):
        return (
            "booted by EFI: memory of the boot services whose struct pages were deferred counts "
            "in MemTotal and in no zone"
        )
    return None


def is_high(zone: Zone, zones: tuple[Zone, ...]) -> bool:
    """ZONE_MOVABLE is highmem where it was cut from it."""
    high = any(z.zone == "HighMem" and z.pages["present"] for z in zones)
    return zone.zone == "HighMem" or (zone.zone == "Movable" and high)


def shared_node_counters(snapshot: Snapshot) -> bool:
    """Whether every node shows the counters of the machine as its own.

    Kernel: include/linux/vmstat.h, ``node_page_state`` without CONFIG_NUMA; only DISCONTIGMEM (to
    5.13) has several nodes so.
    """
    several = len(snapshot.zoneinfo.node_stats) > 1
    return several and snapshot.has("config") and not snapshot.config.on("NUMA")


def _lru(snapshot: Snapshot) -> Iterator[Claim]:
    info = snapshot.zoneinfo
    if shared_node_counters(snapshot):
        yield unknown(
            "zone_lru",
            why="without CONFIG_NUMA every node shows the machine's counters",
            lacking=True,
        )
        return
    by_zone, by_node = zone_private_pages(snapshot), node_private_pages(snapshot)
    for node, stats in info.node_stats.items():
        zones = [zone for zone in info.zones if zone.node == node]
        private = sum(by_zone[node, zone.zone] for zone in zones) + by_node[node]
        for lru in model.LRU:
            if f"nr_{lru}" not in stats:
                continue
            yield settled(
                "zone_lru",
                {"node": node, "lru": lru},
                predicted=("the zones of zoneinfo", _zones_lru(snapshot, node, lru)),
                observed=("the node's part of zoneinfo", _node_lru(snapshot, node, lru)),
                unit="pages",
                private=private,
                moved=moved(snapshot),
                working=[
                    f"nr_zone_{lru} of the node's zones: "
                    + " + ".join(
                        f"{zone.counters[f'nr_zone_{lru}']} ({zone.zone})"
                        for zone in zones
                        if f"nr_zone_{lru}" in zone.counters
                    )
                    + f" = {model.lru_pages((zone.counters for zone in zones), lru)}"
                ],
            )


def _zones_lru(snapshot: Snapshot, node: int, lru: str) -> Reading:
    def terms(info: zoneinfo.Zoneinfo) -> tuple[int]:
        return (model.lru_pages((z.counters for z in info.zones if z.node == node), lru),)

    return reading(snapshot, FILE, zoneinfo.parse, terms)


def _node_lru(snapshot: Snapshot, node: int, lru: str) -> Reading:
    def terms(info: zoneinfo.Zoneinfo) -> tuple[int]:
        return (info.node_stats[node][f"nr_{lru}"],)

    return reading(snapshot, FILE, zoneinfo.parse, terms)


def _cma(snapshot: Snapshot) -> Iterator[Claim]:
    zones = [zone for zone in snapshot.zoneinfo.zones if "cma" in zone.pages]
    if not zones:
        why = "this release does not print a zone's CMA pages"
        yield unknown("cma_total", why=why, lacking=True)
        return
    if "CmaTotal" not in snapshot.meminfo.values:
        yield unknown("cma_total", why="a kernel without CONFIG_CMA", lacking=True)
        return
    pages = model.cma_pages(zone.pages["cma"] for zone in zones)
    yield exact(
        "cma_total",
        {},
        predicted=pages * snapshot.page_kib,
        observed=line_of(snapshot, "CmaTotal"),
        unit="KiB",
        working=[
            " + ".join(
                f"{z.pages['cma']} (node {z.node} {z.zone})" for z in zones if z.pages["cma"]
            )
            + f" = {pages} pages of {snapshot.page_kib} KiB"
        ],
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="zone_pages_nest",
        says=(
            "A zone spans a range of pages, of which some are present (holes are not), of which "
            "the allocator manages those that were not taken at boot."
        ),
        inputs=(FILE,),
        observed="zoneinfo: managed, present, spanned",
        model=(model.nests,),
        judge=_nest,
    ),
    Rule(
        id="zone_free_counter",
        says=(
            "zoneinfo prints a zone's free pages twice, with its watermarks and among its "
            "counters, from one counter that it reads twice within microseconds."
        ),
        inputs=(FILE,),
        observed="zoneinfo, nr_free_pages",
        model=(model.counter_sum,),
        judge=_free_counter,
    ),
    Rule(
        id="managed_total",
        says=(
            "MemTotal is what the zones manage together, not what is installed: pages taken at "
            "boot (the kernel, the memmap) are not in it. Whoever gives boot memory to the buddy, "
            "onlines memory or inflates a balloon changes both. HighTotal is the same for highmem."
        ),
        inputs=(FILE, "dmesg"),
        observed="meminfo: MemTotal, HighTotal",
        model=(model.total_pages,),
        judge=_managed_total,
    ),
    Rule(
        id="zone_lru",
        says=(
            "LRU lists belong to a node; how much of each lies in which zone is counted beside. "
            "The two counts change together, but each CPU keeps back a part of both, so they may "
            "differ by as much as all CPUs may keep: the threshold that zoneinfo prints, for "
            "each CPU and zone, and once more for the node."
        ),
        inputs=(FILE,),
        observed="zoneinfo, the node's nr_inactive_anon …",
        model=(model.lru_pages,),
        judge=_lru,
    ),
    Rule(
        id="cma_total",
        says="The areas of the contiguous memory allocator lie in zones, which count their pages.",
        inputs=(FILE,),
        observed="meminfo, CmaTotal",
        model=(model.cma_pages,),
        judge=_cma,
    ),
)
