"""What the stops about nodes show: one or several, with memory or without."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.errors import MissingInputError, ParseError
from analysis.model.eras_zonelist import zonelist_era_of
from analysis.model.layout.pgdat import node_directories, pgdat_symbol
from analysis.model.zone_room import rest, shares
from analysis.model.zonelist import fallback_lists, zonelist
from analysis.procfs import cpulist
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding, Plate
from analysis.tour.listings import pick
from analysis.tour.memory_claims import (
    USER_CEILING,
    after,
    before,
    fallen,
    page_shift,
    rooms,
    rule_claims,
    served_claim,
)
from analysis.tour.memory_map import map_plate
from analysis.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPILL_BYTES = 320 << 20
SERVED_BYTES = 32 << 20
"""What ``harness.tour.stops.nodes`` has user pages taken for."""

_SYMBOL = re.compile(r" (contig_page_data|node_data)$", re.MULTILINE)
_FALLBACK = r"Fallback order|Built \d+ zonelists"
_NOTHING = "none"
_NOISE_PART = 200
"""A zone that gave less than this part of a request may have lost it to something else."""

Order = tuple[tuple[int, str], ...]


def _uma(evidence: StopEvidence) -> Finding:
    claims: list[Claim] = []
    exhibits: list[Exhibit | None] = []
    for label in ("uma", "stock"):
        boot = evidence.boot(label)
        snapshot = boot.snapshot()
        numa = snapshot.config.on("NUMA")
        found = sorted(set(_SYMBOL.findall(boot.text("symbols"))))
        setting = f"CONFIG_NUMA={'y' if numa else 'n'}"
        claims.append(
            exact(
                "pgdat_symbol",
                {"boot": label},
                predicted=pgdat_symbol(numa=numa),
                observed=" ".join(found) or _NOTHING,
                unit="symbol",
                working=[f"{setting} in the kernel's configuration"],
            )
        )
        listed = re.findall(r"^node\d+$", boot.text("sysfs"), re.MULTILINE)
        claims.append(
            exact(
                "node_directories",
                {"boot": label},
                predicted=" ".join(node_directories(numa=numa, nodes=1)) or _NOTHING,
                observed=" ".join(sorted(listed)) or _NOTHING,
                unit="directories",
                working=[f"{setting}; the machine has one node"],
            )
        )
        claims += [_of(label, each) for each in rule_claims(snapshot, "zone_present", _telling)]
        text = boot.text("symbols") + boot.text("sysfs")
        exhibits.append(
            pick(f"symbols_{label}", text, r"contig_page_data|node_data|node", marked="_data|node0")
        )
    one = evidence.boot("uma").snapshot()
    nodes = {zone.node for zone in one.zoneinfo.zones}
    claims.append(
        exact(
            "one_pgdat",
            {"boot": "uma"},
            predicted="0",
            observed=" ".join(map(str, sorted(nodes))),
            unit="nodes",
            working=["contig_page_data is the only node there is, and its number is 0"],
        )
    )
    exhibits.append(map_plate("map", one))
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _numa(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot = boot.snapshot()
    order = _orders(snapshot)
    claims = [
        *rule_claims(snapshot, "node_range"),
        *rule_claims(snapshot, "fallback_order"),
        *_zonelist_claims(boot, order),
        *_spill_claims(boot, order[0], SPILL_BYTES // snapshot.page_size_bytes),
    ]
    exhibits = [
        map_plate("map", snapshot),
        pick("distances", _distances(snapshot), ""),
        pick("fallback", snapshot.text("dmesg"), _FALLBACK, marked="Fallback"),
        pick("zonelists", _zonelists_text(boot), "", marked="^node 0"),
        pick("numastat", _numastat_text(boot, "spill", snapshot.nodes), "", marked="miss|foreign"),
        Plate(id="spill", draw=functools.partial(_draw_spill, boot)),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _memoryless(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot = boot.snapshot()
    order = _orders(snapshot)
    empty = next((node for node in snapshot.nodes if node not in _with_memory(snapshot)), None)
    if empty is None:
        raise MissingInputError("a node without memory")
    pages = SERVED_BYTES // snapshot.page_size_bytes
    claims = [
        *_memory_claims(snapshot),
        *rule_claims(snapshot, "fallback_order"),
        *rule_claims(snapshot, "built_zonelists"),
        *_zonelist_claims(boot, order),
        served_claim("zone_serves", boot, "served", order[empty], pages),
    ]
    exhibits = [
        pick(
            "nodes",
            "\n".join(
                f"node{node}: cpulist {snapshot.text(f'{NODES}/node{node}/cpulist').strip() or '-'}"
                f"  MemTotal {snapshot.node_meminfo(node).values['MemTotal']} kB"
                for node in snapshot.nodes
            ),
            "",
            marked=rf"^node{empty}:",
        ),
        pick(
            "fallback", snapshot.text("dmesg"), rf"{_FALLBACK}|Initmem setup", marked="memoryless"
        ),
        pick("zonelists", _zonelists_text(boot), "", marked=rf"^node {empty}"),
        map_plate("map", snapshot),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _fake(evidence: StopEvidence) -> Finding:
    snapshot = evidence.boot().snapshot()
    claims = [
        *rule_claims(snapshot, "fake_node"),
        *rule_claims(snapshot, "node_range"),
        *rule_claims(snapshot, "zone_present", _telling),
        *rule_claims(snapshot, "fallback_order"),
    ]
    exhibits = [
        pick("faking", snapshot.text("dmesg"), r"Faking|Fallback", marked="Faking"),
        pick("distances", _distances(snapshot), ""),
        map_plate("map", snapshot),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _telling(claim: Claim) -> bool:
    """Whether a zone has pages, or could be thought to: zones that are empty everywhere say
    nothing here."""
    return bool(claim.predicted or claim.observed) or claim.scope.get("zone") == "DMA"


def _of(label: str, claim: Claim) -> Claim:
    return replace(claim, scope={"boot": label, **claim.scope})


def _with_memory(snapshot: Snapshot) -> tuple[int, ...]:
    return snapshot.parsed(f"{NODES}/has_memory", cpulist.parse)


def _orders(snapshot: Snapshot) -> dict[int, Order]:
    """The zonelist of each node, as the model builds it from distances."""
    distances = {
        node: dict(zip(snapshot.nodes, snapshot.node_distances(node), strict=True))
        for node in snapshot.nodes
    }
    lists = fallback_lists(
        distances, with_memory=_with_memory(snapshot), era=zonelist_era_of(snapshot.release)
    )
    present = {
        (zone.node, zone.zone): zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones
    }
    return {
        node: zonelist([choice.node for choice in lists[node]], present) for node in snapshot.nodes
    }


def _zonelists(boot: BootEvidence) -> dict[int, Order]:
    """The zonelists that the host found in the guest's memory.

    Raises:
        MissingInputError: the reading was not sound.
    """
    found = boot.json("zonelists")
    try:
        if not found["sound"]:
            raise MissingInputError(f"a sound reading of the guest's memory: {found['problems']}")
        return {
            int(node): tuple((int(each[0]), str(each[1])) for each in rows)
            for node, rows in found["lists"].items()
        }
    except (KeyError, TypeError, IndexError) as error:
        raise ParseError("zonelists.json", 0, str(error), "a list for each node") from None


def _zonelist_claims(boot: BootEvidence, order: Mapping[int, Order]) -> Iterator[Claim]:
    in_memory = _zonelists(boot)
    for node, predicted in order.items():
        yield exact(
            "zonelist",
            {"node": node},
            predicted=_order_text(predicted),
            observed=_order_text(in_memory.get(node, ())) or _NOTHING,
            unit="",
            working=[
                "fallback order: " + " ".join(map(str, dict.fromkeys(n for n, _ in predicted))),
                "of each node the populated zones, the highest first",
            ],
        )


def _order_text(order: Order) -> str:
    return " ".join(f"{node}:{zone}" for node, zone in order)


def _memory_claims(snapshot: Snapshot) -> Iterator[Claim]:
    """Nodes with memory: of the firmware's ranges, against what sysfs says."""
    ranges = [claim for claim in rule_claims(snapshot, "node_range") if "node" in claim.scope]
    predicted = sorted({int(claim.scope["node"]) for claim in ranges if claim.predicted})
    yield exact(
        "nodes_with_memory",
        {},
        predicted=" ".join(map(str, predicted)),
        observed=" ".join(map(str, _with_memory(snapshot))),
        unit="nodes",
        working=[f"node {claim.scope['node']}: {claim.predicted}" for claim in ranges],
    )


def _spill_claims(boot: BootEvidence, order: Order, pages: int) -> Iterator[Claim]:
    """A request that is larger than its node: who gives how much, and how it is counted."""
    found = rooms(order, before(boot, "spill"), USER_CEILING, page_shift(boot))
    parts = shares(pages, found)
    working = [
        f"{zone.node}:{zone.zone}: {zone.free_pages} free - (low {zone.low} + reserve "
        f"{zone.reserve}) = room for {zone.room}: gives {part} of {pages}"
        for zone, part in zip(found, parts, strict=True)
    ]
    fell = fallen(boot, "spill")
    gives = [(zone.node, zone.zone) for zone, part in zip(found, parts, strict=True) if part]
    took = [key for key in order if fell[key] > pages // _NOISE_PART]
    yield exact(
        "spill_zones",
        {"pages": pages},
        predicted=_order_text(tuple(gives)),
        observed=_order_text(tuple(took)),
        unit="",
        working=[
            *working,
            *(f"{node}:{zone} fell by {count}" for (node, zone), count in fell.items()),
        ],
    )
    later = {(zone.node, zone.zone): zone for zone in after(boot, "spill").zones}
    for zone, part in zip(found, parts, strict=True):
        if part != zone.room or not part:
            continue
        least, most = rest(zone)
        shown = later[zone.node, zone.zone].counters["nr_free_pages"]
        yield _between(
            "spill_floor",
            {"node": zone.node, "zone": zone.zone},
            least,
            most,
            shown,
            working=[
                f"low {zone.low} + reserve {zone.reserve} = {zone.floor}: then it is passed over",
                f"a batch of {zone.batch} is taken at a time",
                f"CPUs keep up to {zone.drift} pages of the counter to themselves, both when the",
                f"watermark is looked at and when the counter is read: {least} to {most}",
            ],
        )
    counted = _numastat(boot, "spill")
    local = order[0][0]
    missed = {node: rise["numa_miss"] for node, rise in counted.items()}
    yield exact(
        "spill_counted",
        {"node": local},
        predicted=sum(missed.values()),
        observed=counted[local]["numa_foreign"],
        unit="pages",
        working=[
            f"node {node}: numa_miss rose by {count}" for node, count in missed.items() if count
        ],
    )


def _between(
    claim_id: str,
    scope: Mapping[str, int | str],
    least: int,
    most: int,
    observed: int,
    *,
    working: list[str],
) -> Claim:
    """A claim about a number of which only bounds are predicted."""
    inside = least <= observed <= most
    told = str(most) if least == most else f"{least} to {most}"
    return Claim(
        id=claim_id,
        scope=scope,
        predicted=told,
        observed=observed,
        unit="pages",
        verdict=Verdict.HOLDS if inside else Verdict.FAILS,
        why="" if inside else f"the model gives {told}, the kernel shows {observed}",
        working=tuple(working),
    )


def _numastat(boot: BootEvidence, name: str) -> dict[int, dict[str, int]]:
    """By how much each counter of each node rose."""
    found = {}
    for node in boot.snapshot().nodes:
        first, last = (
            dict(map(str.split, boot.text(f"{name}-{when}-node{node}-numastat").splitlines()))
            for when in ("before", "after")
        )
        found[node] = {key: int(last[key]) - int(first[key]) for key in last}
    return found


def _numastat_text(boot: BootEvidence, name: str, nodes: tuple[int, ...]) -> str:
    counted = _numastat(boot, name)
    heads = ["".ljust(16), *(f"node{node}".rjust(10) for node in nodes)]
    rows = [
        key.ljust(16) + "".join(f"{counted[node][key]:+d}".rjust(10) for node in nodes)
        for key in ("numa_hit", "numa_miss", "numa_foreign", "local_node", "other_node")
    ]
    return "\n".join(["".join(heads), *rows])


def _distances(snapshot: Snapshot) -> str:
    return "\n".join(
        f"/{NODES}/node{node}/distance: {' '.join(map(str, snapshot.node_distances(node)))}"
        for node in snapshot.nodes
    )


def _zonelists_text(boot: BootEvidence) -> str:
    return "\n".join(
        f"node {node}: {_order_text(order)}" for node, order in sorted(_zonelists(boot).items())
    )


def _draw_spill(boot: BootEvidence) -> Figure:
    from analysis.figures.tour_nodes import ZoneFree, draw

    later = {(zone.node, zone.zone): zone for zone in after(boot, "spill").zones}
    rows = [
        ZoneFree(
            label=f"{zone.node}:{zone.zone}",
            before=zone.counters["nr_free_pages"],
            after=later[zone.node, zone.zone].counters["nr_free_pages"],
            low=zone.pages["low"],
        )
        for zone in before(boot, "spill").zones
        if zone.counters
    ]
    return draw(rows)


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "nodes/uma": _uma,
        "nodes/numa": _numa,
        "nodes/memoryless": _memoryless,
        "nodes/fake": _fake,
    }
)
