"""Laws of counters that two files show: vmstat against meminfo, and zoneinfo against vmstat."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule
from analysis.compare.static.identities.meminfo import beyond_whole_pages, huge_kib, line_of
from analysis.compare.static.identities.zones import shared_node_counters
from analysis.compare.static.readings import (
    counter_reading,
    moved,
    moved_in,
    reading,
    settled,
    whole_pages,
    zone_private_pages,
)
from analysis.errors import MissingInputError
from analysis.model.drift import Reading
from analysis.model.identities import meminfo as meminfo_model
from analysis.model.identities import zones as zone_model
from analysis.procfs import meminfo, zoneinfo

MEMINFO = "proc/meminfo"
ZONEINFO = "proc/zoneinfo"
VMSTAT = "proc/vmstat"


def _counters(snapshot: Snapshot) -> Iterator[Claim]:
    lines = snapshot.meminfo.values
    counters = snapshot.vmstat.values
    for name, line in meminfo_model.LINES.items():
        if name not in lines or line.counter not in counters:
            continue
        if line.unit == "huge" and not huge_kib(snapshot):
            continue
        odd = beyond_whole_pages("meminfo_counters", {"line": name}, snapshot, line, lines[name])
        if odd is not None:
            yield odd
            continue
        yield settled(
            "meminfo_counters",
            {"line": name},
            predicted=(VMSTAT, counter_reading(snapshot, line.counter)),
            observed=(MEMINFO, _shown(snapshot, name, line)),
            unit="KiB" if line.unit == "KiB" else f"{line.unit} pages".removeprefix("pages "),
            moved=moved_in(snapshot, line.unit),
            working=[
                f"{MEMINFO} prints {name} from the counter that {VMSTAT} calls {line.counter}",
                f"{name}: {lines[name]} kB; {line.counter}: {counters[line.counter]}",
            ],
        )


def _shown(snapshot: Snapshot, name: str, line: meminfo_model.Line) -> Reading:
    page = snapshot.page_size_bytes
    huge = huge_kib(snapshot)

    def terms(info: meminfo.Meminfo) -> tuple[int]:
        return (meminfo_model.in_unit_of_counter(line, info.values[name], page, huge),)

    return reading(snapshot, MEMINFO, meminfo.parse, terms)


def _file_pages(snapshot: Snapshot) -> Iterator[Claim]:
    names = ("Cached", "Buffers", "SwapCached")
    shown = [line_of(snapshot, name) for name in names]
    if "nr_file_pages" not in snapshot.vmstat.values:
        raise MissingInputError(f"nr_file_pages of {VMSTAT}")
    page_kib = snapshot.page_kib

    def terms(info: meminfo.Meminfo) -> tuple[int]:
        cached, buffers, swap_cached = (whole_pages(info.values[name], page_kib) for name in names)
        return (meminfo_model.file_pages(cached=cached, buffers=buffers, swap_cached=swap_cached),)

    yield settled(
        "file_pages",
        {},
        predicted=(MEMINFO, reading(snapshot, MEMINFO, meminfo.parse, terms)),
        observed=(VMSTAT, counter_reading(snapshot, "nr_file_pages")),
        unit="pages",
        moved=moved(snapshot),
        working=[
            (
                f"{' + '.join(names)} = {' + '.join(map(str, shown))} = {sum(shown)} kB, "
                f"{sum(shown) // page_kib} pages of {page_kib} KiB"
            )
        ],
    )


def _reclaimable(snapshot: Snapshot) -> Iterator[Claim]:
    page_kib = snapshot.page_kib
    observed = line_of(snapshot, "KReclaimable")
    other = snapshot.vmstat.values.get("nr_kernel_misc_reclaimable")
    if other is None:
        raise MissingInputError(f"nr_kernel_misc_reclaimable of {VMSTAT}")

    def difference(info: meminfo.Meminfo) -> tuple[int]:
        return (
            whole_pages(info.values["KReclaimable"], page_kib)
            - whole_pages(info.values["SReclaimable"], page_kib),
        )

    slab = line_of(snapshot, "SReclaimable")
    predicted = meminfo_model.reclaimable(slab=slab, other=other * page_kib)
    yield settled(
        "kernel_reclaimable",
        {},
        predicted=(VMSTAT, counter_reading(snapshot, "nr_kernel_misc_reclaimable")),
        observed=(MEMINFO, reading(snapshot, MEMINFO, meminfo.parse, difference)),
        unit="pages that are not slab",
        moved=moved(snapshot),
        working=[
            (
                f"SReclaimable + nr_kernel_misc_reclaimable * {page_kib} KiB = "
                f"{slab} + {other} * {page_kib} = {predicted} kB; KReclaimable: {observed} kB"
            )
        ],
    )


def _zone_sums(snapshot: Snapshot) -> Iterator[Claim]:
    zones = snapshot.zoneinfo.zones
    counters = snapshot.vmstat.values
    private = zone_private_pages(snapshot)
    moved_pages = moved(snapshot)
    populated = [zone for zone in zones if zone.counters]
    for name in populated[0].counters if populated else ():
        if name.startswith("nr_") and name in counters:

            def terms(info: zoneinfo.Zoneinfo, name: str = name) -> list[int]:
                return [zone.counters[name] for zone in info.zones if zone.counters]

            yield settled(
                "zone_counter_sum",
                {"counter": name},
                predicted=(ZONEINFO, reading(snapshot, ZONEINFO, zoneinfo.parse, terms)),
                observed=(VMSTAT, counter_reading(snapshot, name)),
                unit="pages",
                private=sum(
                    private[zone.node, zone.zone] for zone in populated if not zone.counters[name]
                )
                if _clamped(name)
                else 0,
                moved=moved_pages,
                working=[
                    " + ".join(
                        f"{zone.counters[name]} (node {zone.node} {zone.zone})"
                        for zone in populated
                    )
                    + f" = {zone_model.counter_sum((zone.counters for zone in populated), name)}"
                ],
            )


def _clamped(name: str) -> bool:
    """Counters that are known to dip below zero in a zone, where they print as 0."""
    return name in ("nr_zone_write_pending", "nr_free_cma")


def _node_sums(snapshot: Snapshot) -> Iterator[Claim]:
    stats = snapshot.zoneinfo.node_stats
    counters = snapshot.vmstat.values
    moved_pages = moved(snapshot)
    if not stats:
        raise MissingInputError(f"the nodes' own counters in {ZONEINFO}")
    if shared_node_counters(snapshot):
        stats = dict([next(iter(stats.items()))])
    for name in next(iter(stats.values())):
        if name.startswith("nr_") and name in counters:
            # pages in transit, and huge pages that are rounded down for each node
            if name.endswith(("hugepages", "pmdmapped")) and len(stats) > 1:
                continue

            nodes = frozenset(stats)

            def terms(
                info: zoneinfo.Zoneinfo, name: str = name, nodes: frozenset[int] = nodes
            ) -> list[int]:
                return [one[name] for node, one in info.node_stats.items() if node in nodes]

            yield settled(
                "node_counter_sum",
                {"counter": name},
                predicted=(ZONEINFO, reading(snapshot, ZONEINFO, zoneinfo.parse, terms)),
                observed=(VMSTAT, counter_reading(snapshot, name)),
                unit="KiB" if name in ("nr_kernel_stack", "nr_shadow_call_stack") else "pages",
                moved=moved_pages,
                working=[
                    " + ".join(f"{one[name]} (node {node})" for node, one in stats.items())
                    + f" = {zone_model.counter_sum(stats.values(), name)}"
                ],
            )


RULES: tuple[Rule, ...] = (
    Rule(
        id="meminfo_counters",
        says=(
            "Most lines of meminfo are a counter that vmstat prints under another name and in "
            "another unit. Both read the machine-wide sum, so they are equal at one moment; the "
            "claim is exact where one of the files shows the same before and after the other."
        ),
        inputs=(VMSTAT, f"{MEMINFO}.after", f"{VMSTAT}.after"),
        observed="meminfo, each line that is a counter",
        model=(meminfo_model.in_unit_of_counter,),
        judge=_counters,
    ),
    Rule(
        id="file_pages",
        says=(
            "meminfo divides the page cache into Cached, Buffers (the pages of block devices) and "
            "SwapCached; together they are nr_file_pages. Shared memory is part of Cached, huge "
            "pages of hugetlb are not."
        ),
        inputs=(MEMINFO, f"{MEMINFO}.after", f"{VMSTAT}.after"),
        observed="vmstat, nr_file_pages",
        model=(meminfo_model.file_pages,),
        judge=_file_pages,
    ),
    Rule(
        id="kernel_reclaimable",
        says=(
            "KReclaimable is the reclaimable part of slab memory and what else drivers would "
            "give back under pressure."
        ),
        inputs=(VMSTAT, f"{MEMINFO}.after", f"{VMSTAT}.after"),
        observed="meminfo, KReclaimable - SReclaimable",
        model=(meminfo_model.reclaimable,),
        judge=_reclaimable,
    ),
    Rule(
        id="zone_counter_sum",
        says=(
            "A CPU that gives its share of a counter to the zone gives it to the machine too, in "
            "one go: the zones of zoneinfo add up to vmstat at any moment, and the claim is exact "
            "where one file shows the same before and after the other was read."
        ),
        inputs=(ZONEINFO, f"{ZONEINFO}.after", f"{VMSTAT}.after"),
        observed="vmstat, nr_free_pages and the others that zones have",
        model=(zone_model.counter_sum,),
        judge=_zone_sums,
    ),
    Rule(
        id="node_counter_sum",
        says=(
            "A CPU gives its share of a node's counter to the node and to the machine in one go, "
            "so the nodes of zoneinfo add up to vmstat at any moment (without CONFIG_NUMA each of "
            "them shows the machine's); the claim is exact where one file shows the same before "
            "and after the other was read."
        ),
        inputs=(ZONEINFO, f"{ZONEINFO}.after", f"{VMSTAT}.after"),
        observed="vmstat, nr_anon_pages and the others that nodes have",
        model=(zone_model.counter_sum,),
        judge=_node_sums,
    ),
)
