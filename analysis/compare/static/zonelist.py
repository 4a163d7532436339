"""In which order zones are tried, as far as a kernel says it when it boots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of, unknown
from analysis.errors import MissingInputError
from analysis.model.eras_zonelist import ZonelistEra, zonelist_era_of
from analysis.model.zonelist import (
    ZONES,
    Choice,
    fallback_lists,
    groups_by_mobility,
    policy_zone,
    zonelist,
)
from analysis.procfs import cpulist, pagetypeinfo

_FALLBACK = re.compile(r"Fallback order for Node (\d+): ([\d ]*)$")
_INITMEM = re.compile(
    r"Initmem setup node (\d+) (?:as (memoryless)|\[mem 0x([\da-f]+)-0x([\da-f]+))"
)
_BUILT = re.compile(r"Built (\d+) zonelists, mobility grouping (on|off)\.  Total pages: (\d+)")
_POLICY = re.compile(r"Policy zone: (\w+)")
_CPU_PENALTY_AT_BOOT = ("ppc64le",)
_AGAIN = (
    "zonelists were built again after boot, when memory was plugged: what was there is not known"
)


def _fallback_claims(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "fallback_order"
    eras = {zonelist_era_of(release) for release in snapshot.releases}
    printed = [(int(match[1]), match[2].split()) for match in snapshot.dmesg.matching(_FALLBACK)]
    if not printed:
        if not snapshot.config.on("NUMA"):
            yield unknown(
                rule_id, why="without CONFIG_NUMA there are no distances to order by", lacking=True
            )
        elif any(era.prints_order for era in eras) and not snapshot.dmesg.whole:
            raise MissingInputError("dmesg from its first message on")
        else:
            yield unknown(
                rule_id,
                why=f"{snapshot.kernel} does not print its fallback order (5.16 and later do)",
                lacking=True,
            )
        return
    if snapshot.arch in _CPU_PENALTY_AT_BOOT:
        yield unknown(rule_id, why=f"{snapshot.arch} counts CPUs before it builds its zonelists")
        return
    eras = {era for era in eras if era.prints_order}
    with_memory = _nodes_with_memory(snapshot)
    distances = _distances(snapshot)
    lists = {era: fallback_lists(distances, with_memory=with_memory, era=era) for era in eras}
    judged: set[int] = set()
    for node, order in printed:
        if node in judged:
            continue  # printed again when memory was plugged: the first is that of the boot
        judged.add(node)
        scope = {"node": node}
        before = [offline for offline in _offline(snapshot) if offline <= node]
        if node not in distances or before:
            yield unknown(
                rule_id,
                scope,
                why=f"the distances of node {before[0] if before else node}, which is not online "
                "and whose list is built before, are not shown",
                observed=" ".join(order),
            )
            continue
        yield one_of(
            rule_id,
            scope,
            options={" ".join(str(choice.node) for choice in lists[era][node]) for era in eras},
            observed=" ".join(order),
            unit="nodes",
            undecided="which release's rule the vendor took",
            working=[line for era in _distinct(lists, node) for line in _working(node, era)],
        )


def _distances(snapshot: Snapshot) -> dict[int, dict[int, int]]:
    online = snapshot.nodes
    found = {}
    for node in online:
        row = snapshot.node_distances(node)
        if len(row) != len(online):
            raise MissingInputError(f"{NODES}/online, as many nodes as node{node}/distance has")
        found[node] = dict(zip(online, row, strict=True))
    return found


def _distinct(
    lists: Mapping[ZonelistEra, Mapping[int, tuple[Choice, ...]]], node: int
) -> list[tuple[Choice, ...]]:
    found: list[tuple[Choice, ...]] = []
    for of_nodes in lists.values():
        if of_nodes[node] not in found:
            found.append(of_nodes[node])
    return found


def _working(local: int, choices: tuple[Choice, ...]) -> Iterator[str]:
    for choice in choices:
        if choice.node == local:
            yield f"node {local} itself first"
            continue
        below = f" + 1 (id below {local})" if choice.below else ""
        yield f"node {choice.node}: distance {choice.distance}{below}, load {choice.load}"
    if all(choice.node != local for choice in choices):
        yield f"node {local} has no memory: it is not in its own list"


def _nodes_with_memory(snapshot: Snapshot) -> set[int]:
    """Nodes that had memory when the kernel booted: its messages say it, or sysfs of today."""
    setups = list(snapshot.dmesg.matching(_INITMEM))
    if {int(match[1]) for match in setups} >= set(snapshot.nodes):
        return {
            int(match[1])
            for match in setups
            if not match[2] and (int(match[3], 16) or int(match[4], 16))
        }
    name = f"{NODES}/has_memory"
    if snapshot.has(name):
        return set(snapshot.parsed(name, cpulist.parse))
    return {zone.node for zone in snapshot.zoneinfo.zones if zone.pages.get("present", 0)}


def _offline(snapshot: Snapshot) -> list[int]:
    """Nodes that a list is built for, though they are not online."""
    built = {int(match[1]) for match in snapshot.dmesg.matching(_FALLBACK)}
    return sorted(built - set(snapshot.nodes))


def _built_claims(snapshot: Snapshot) -> Iterator[Claim]:
    built = _built(snapshot)
    predicted = len(snapshot.nodes)
    if len(built) > 1:
        yield unknown("built_zonelists", why=_AGAIN, observed=int(built[0][1]), unit="nodes")
        return
    yield exact(
        "built_zonelists",
        {},
        predicted=predicted,
        observed=int(built[0][1]),
        unit="nodes",
        working=[f"nodes online: {' '.join(map(str, snapshot.nodes))}"],
    )


def _policy_claims(snapshot: Snapshot) -> Iterator[Claim]:
    said = list(snapshot.dmesg.matching(_POLICY))
    if not said:
        _built(snapshot)
        yield unknown(
            "policy_zone", why="only a kernel with CONFIG_NUMA has a policy zone", lacking=True
        )
        return
    present = {
        (zone.node, zone.zone): zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones
    }
    populated = [name for name in ZONES if any(present.get((n, name)) for n, _ in present)]
    yield exact(
        "policy_zone",
        {},
        predicted=policy_zone(present),
        observed=said[-1][1],
        unit="zone",
        working=[f"zones with memory on any node, lowest first: {' '.join(populated)}"],
    )


def _mobility_claims(snapshot: Snapshot) -> Iterator[Claim]:
    last = _built(snapshot)[-1]
    total_pages = int(last[3])
    order = snapshot.parsed("proc/pagetypeinfo", pagetypeinfo.parse).pageblock_order
    optional = [name for name in ("CMA", "MEMORY_ISOLATION") if snapshot.config.on(name)]
    migratetypes = 4 + len(optional)
    yield exact(
        "mobility_grouping",
        {},
        predicted="on" if groups_by_mobility(total_pages, order, migratetypes) else "off",
        observed=last[2],
        unit="state",
        working=[
            f"{' '.join(('unmovable movable reclaimable high-atomic', *optional))}: {migratetypes}",
            f"{migratetypes} pageblocks of 2^{order} pages = {migratetypes << order} pages",
            f"all zones together: {total_pages} pages",
        ],
    )


def _built(snapshot: Snapshot) -> list[re.Match[str]]:
    built = list(snapshot.dmesg.matching(_BUILT))
    if not built:
        raise MissingInputError("'Built N zonelists' in dmesg")
    return built


RULES: tuple[Rule, ...] = (
    Rule(
        id="fallback_order",
        says="A request that its own node cannot serve goes to the nearest node with memory, then "
        "the next. An id lower than its own counts 1 as distance; among equally near ones the load "
        "decides: how many groups of equally distant nodes a node headed in the lists of the nodes "
        "before, so that not all turn to the same one. A node without memory stood first in its "
        "own list until 6.6.",
        inputs=("sys/devices/system/node/nodeN/distance", "dmesg"),
        observed="dmesg: Fallback order for Node",
        model=(fallback_lists, zonelist),
        judge=_fallback_claims,
    ),
    Rule(
        id="built_zonelists",
        says="The kernel counts a zonelist for each node that is online when it boots, memory or "
        "not.",
        inputs=("sys/devices/system/node/online",),
        observed="dmesg: Built N zonelists",
        model=(fallback_lists,),
        judge=_built_claims,
    ),
    Rule(
        id="policy_zone",
        says="NUMA policies bind requests for the highest zone that any node has, Movable aside: "
        "lower zones are too scarce to be bound to nodes.",
        inputs=("proc/zoneinfo",),
        observed="dmesg: Policy zone",
        model=(policy_zone,),
        judge=_policy_claims,
    ),
    Rule(
        id="mobility_grouping",
        says="Pageblocks are kept apart by type of page if there is at least one for every type.",
        inputs=("dmesg", "proc/pagetypeinfo", "config"),
        observed="dmesg: mobility grouping on or off",
        model=(groups_by_mobility,),
        judge=_mobility_claims,
    ),
)
