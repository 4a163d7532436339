"""Laws of NUMA nodes: their own meminfo, against the machine's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.identities.meminfo import beyond_whole_pages, huge_kib, line_of
from analysis.compare.static.identities.zones import counted_in_no_zone
from analysis.compare.static.readings import AFTER, moved, moved_in, reading, settled
from analysis.errors import MissingInputError
from analysis.model.drift import Reading
from analysis.model.identities import meminfo as meminfo_model
from analysis.model.identities import zones as zone_model
from analysis.procfs import meminfo, vmstat, zoneinfo

ZONEINFO = "proc/zoneinfo"
_NODE_LINES = {**meminfo_model.LINES, "FilePages": meminfo_model.Line(counter="nr_file_pages")}


def _meminfo_files(snapshot: Snapshot) -> list[int]:
    nodes = [n for n in snapshot.nodes if snapshot.has(f"{NODES}/node{n}/meminfo")]
    if not nodes:
        raise MissingInputError(f"{NODES}/node*/meminfo")
    return nodes


def _node_line(snapshot: Snapshot, node: int, name: str) -> int:
    value = snapshot.node_meminfo(node).values.get(name)
    if value is None:
        raise MissingInputError(f"{name} of {NODES}/node{node}/meminfo")
    return value


def _total(snapshot: Snapshot) -> Iterator[Claim]:
    page_kib = snapshot.page_kib
    nodes = _meminfo_files(snapshot)
    for node in nodes:
        managed = [
            (zone.zone, zone.pages["managed"])
            for zone in snapshot.zoneinfo.zones
            if zone.node == node and zone.pages["managed"]
        ]
        pages = zone_model.total_pages(count for _, count in managed)
        terms = " + ".join(f"{count} ({zone})" for zone, count in managed) or "no managed pages"
        yield exact(
            "node_mem_total",
            {"node": node},
            predicted=pages * page_kib,
            observed=_node_line(snapshot, node, "MemTotal"),
            unit="KiB",
            working=[f"{terms}: {pages} pages of {page_kib} KiB"],
        )
    elsewhere = counted_in_no_zone(snapshot)
    if elsewhere:
        yield unknown("node_mem_total", {"node": "all"}, why=elsewhere)
    elif set(nodes) == set(snapshot.nodes):
        totals = [_node_line(snapshot, node, "MemTotal") for node in nodes]
        yield exact(
            "node_mem_total",
            {"node": "all"},
            predicted=meminfo_model.together(*totals),
            observed=line_of(snapshot, "MemTotal"),
            unit="KiB",
            working=[f"{' + '.join(map(str, totals))} KiB, the nodes' MemTotal"],
        )


def _used(snapshot: Snapshot) -> Iterator[Claim]:
    for node in _meminfo_files(snapshot):
        names = ("MemTotal", "MemFree", "MemUsed")
        total, free, used = (_node_line(snapshot, node, name) for name in names)
        yield exact(
            "node_mem_used",
            {"node": node},
            predicted=zone_model.used_kib(total, free),
            observed=used,
            unit="KiB",
            working=[f"MemTotal - MemFree = {total} - {free}"],
        )


def _sums(snapshot: Snapshot) -> Iterator[Claim]:
    for node in _meminfo_files(snapshot):
        lines = snapshot.node_meminfo(node).values
        slab, parts = lines.get("Slab"), ("SReclaimable", "SUnreclaim")
        if slab is not None and all(part in lines for part in parts):
            terms = [lines[part] for part in parts]
            yield exact(
                "node_slab",
                {"node": node},
                predicted=meminfo_model.together(*terms),
                observed=slab,
                unit="KiB",
                working=[f"{' + '.join(parts)} = {' + '.join(map(str, terms))}"],
            )


def _hugetlb(snapshot: Snapshot) -> Iterator[Claim]:
    nodes = _meminfo_files(snapshot)
    if set(nodes) != set(snapshot.nodes):
        raise MissingInputError(f"{NODES}/node*/meminfo of every node")
    pools = [snapshot.node_meminfo(node).values.get("HugePages_Total") for node in nodes]
    found = [count for count in pools if count is not None]
    if len(found) != len(nodes):
        yield unknown("node_hugepages", why="a kernel without hugetlb", lacking=True)
        return
    yield exact(
        "node_hugepages",
        {},
        predicted=meminfo_model.together(*found),
        observed=line_of(snapshot, "HugePages_Total"),
        unit="huge pages",
        working=[f"{' + '.join(map(str, found))}, the nodes' HugePages_Total"],
    )


def _counters(snapshot: Snapshot) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    huge = huge_kib(snapshot)
    for node in _meminfo_files(snapshot):
        name = f"{NODES}/node{node}/meminfo"
        lines = snapshot.node_meminfo(node).values
        shown = _node_counters(snapshot.zoneinfo, node)
        for label, line in _NODE_LINES.items():
            if label not in lines or line.counter not in shown:
                continue
            if line.unit == "huge" and not huge:
                continue
            scope: dict[str, int | str] = {"node": node, "line": label}
            odd = beyond_whole_pages("node_meminfo_counters", scope, snapshot, line, lines[label])
            if odd is not None:
                yield odd
                continue
            observed = meminfo_model.in_unit_of_counter(line, lines[label], page, huge)

            def terms(
                info: zoneinfo.Zoneinfo, node: int = node, counter: str = line.counter
            ) -> tuple[int]:
                return (_node_counters(info, node)[counter],)

            again = None
            if snapshot.has(name + AFTER):
                after = snapshot.parsed(name + AFTER, meminfo.parse).values.get(label)
                if after is not None:
                    again = (meminfo_model.in_unit_of_counter(line, after, page, huge),)
            yield settled(
                "node_meminfo_counters",
                scope,
                predicted=(ZONEINFO, reading(snapshot, ZONEINFO, zoneinfo.parse, terms)),
                observed=(name, Reading(terms=(observed,), again=again)),
                unit="KiB" if line.unit == "KiB" else "pages",
                moved=moved_in(snapshot, line.unit),
                working=[
                    (
                        f"{label} of the node's meminfo is {line.counter}, of the node or the sum "
                        f"of its zones in {ZONEINFO}: {shown[line.counter]}"
                    )
                ],
            )


def _node_counters(info: zoneinfo.Zoneinfo, node: int) -> Mapping[str, int]:
    """A node's counters: its own, and those of its zones added up."""
    found = dict(info.node_stats.get(node, {}))
    zones = [zone.counters for zone in info.zones if zone.node == node and zone.counters]
    for name in zones[0] if zones else ():
        found[name] = zone_model.counter_sum(zones, name)
    return found


def _vmstat_counters(snapshot: Snapshot) -> Iterator[Claim]:
    names = {n: f"{NODES}/node{n}/vmstat" for n in snapshot.nodes}
    there = {node: name for node, name in names.items() if snapshot.has(name)}
    if not there:
        raise MissingInputError(f"{NODES}/node*/vmstat")
    moved_pages = moved(snapshot)
    for node, name in there.items():
        shown = _node_counters(snapshot.zoneinfo, node)
        for counter in snapshot.node_vmstat(node).values:
            if counter not in shown or counter.startswith("numa_"):
                continue

            def terms(
                info: zoneinfo.Zoneinfo, node: int = node, counter: str = counter
            ) -> tuple[int]:
                return (_node_counters(info, node)[counter],)

            def own(found: vmstat.Counters, counter: str = counter) -> tuple[int]:
                return (found.values[counter],)

            yield settled(
                "node_vmstat_counters",
                {"node": node, "counter": counter},
                predicted=(ZONEINFO, reading(snapshot, ZONEINFO, zoneinfo.parse, terms)),
                observed=(name, reading(snapshot, name, vmstat.parse, own)),
                unit="pages" if counter.startswith("nr_") else "events",
                moved=moved_pages,
                working=[f"{counter} of the node, or of its zones together: {shown[counter]}"],
            )


_FILES = f"{NODES}/node*/meminfo"
RULES: tuple[Rule, ...] = (
    Rule(
        id="node_mem_total",
        says="A node's MemTotal is what its zones manage, and the nodes' add up to the machine's.",
        inputs=(ZONEINFO, _FILES, "dmesg"),
        observed="node meminfo, MemTotal; meminfo, MemTotal",
        model=(zone_model.total_pages, meminfo_model.together),
        judge=_total,
    ),
    Rule(
        id="node_mem_used",
        says="A node's MemUsed is all that is not free, computed from the two lines above it.",
        inputs=(_FILES,),
        observed="node meminfo, MemUsed",
        model=(zone_model.used_kib,),
        judge=_used,
    ),
    Rule(
        id="node_slab",
        says="A node's Slab adds its two parts, from the same reading of both counters.",
        inputs=(_FILES,),
        observed="node meminfo, Slab",
        model=(meminfo_model.together,),
        judge=_sums,
    ),
    Rule(
        id="node_hugepages",
        says="The huge pages of the default size lie on nodes, which count theirs.",
        inputs=(_FILES,),
        observed="meminfo, HugePages_Total",
        model=(meminfo_model.together,),
        judge=_hugetlb,
    ),
    Rule(
        id="node_meminfo_counters",
        says=(
            "The lines of a node's meminfo are counters that zoneinfo prints too: the node's own, "
            "or those of its zones together. The claim is exact where zoneinfo shows the same "
            "before and after the node's file was read."
        ),
        inputs=(ZONEINFO, f"{ZONEINFO}.after"),
        observed="node meminfo, each line that is a counter",
        model=(meminfo_model.in_unit_of_counter, zone_model.counter_sum),
        judge=_counters,
    ),
    Rule(
        id="node_vmstat_counters",
        says=(
            "A node's vmstat prints the counters that zoneinfo prints: the node's own, and those "
            "of its zones added up. Both files read the same numbers, so they are equal where one "
            "shows the same before and after the other was read. NUMA events are left out: before "
            "5.14 zoneinfo adds what CPUs have not told yet, and the node's file does not."
        ),
        inputs=(ZONEINFO, f"{ZONEINFO}.after"),
        observed="node vmstat, each counter that zoneinfo has",
        model=(zone_model.counter_sum,),
        judge=_vmstat_counters,
    ),
)
