"""What the stops about nodes show: one or several, with memory or without."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.errors import MissingInputError
from analysis.model.layout.pgdat import node_directories, pgdat_symbol
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Exhibit, Finding, Plate
from analysis.tour.listings import pick
from analysis.tour.memory_claims import (
    rule_claims,
    served_claim,
)
from analysis.tour.memory_map import map_plate
from analysis.tour.spill import draw_spill, numastat_text, spill_claims
from analysis.tour.zonelists import (
    nodes_with_memory,
    orders,
    zonelist_claims,
    zonelists_text,
)

SPILL_BYTES = 320 << 20
SERVED_BYTES = 32 << 20
"""What ``harness.tour.stops.nodes`` has user pages taken for."""

_SYMBOL = re.compile(r" (contig_page_data|node_data)$", re.MULTILINE)
_FALLBACK = r"Fallback order|Built \d+ zonelists"
_NOTHING = "none"


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
    order = orders(snapshot)
    claims = [
        *rule_claims(snapshot, "node_range"),
        *rule_claims(snapshot, "fallback_order"),
        *zonelist_claims(boot, order),
        *spill_claims(boot, order[0], SPILL_BYTES // snapshot.page_size_bytes),
    ]
    exhibits = [
        map_plate("map", snapshot),
        pick("distances", _distances(snapshot), ""),
        pick("fallback", snapshot.text("dmesg"), _FALLBACK, marked="Fallback"),
        pick("zonelists", zonelists_text(boot), "", marked="^node 0"),
        pick("numastat", numastat_text(boot, "spill", snapshot.nodes), "", marked="miss|foreign"),
        Plate(id="spill", draw=functools.partial(draw_spill, boot)),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _memoryless(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot = boot.snapshot()
    order = orders(snapshot)
    empty = next((node for node in snapshot.nodes if node not in nodes_with_memory(snapshot)), None)
    if empty is None:
        raise MissingInputError("a node without memory")
    pages = SERVED_BYTES // snapshot.page_size_bytes
    claims = [
        *_memory_claims(snapshot),
        *rule_claims(snapshot, "fallback_order"),
        *rule_claims(snapshot, "built_zonelists"),
        *zonelist_claims(boot, order),
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
        pick("zonelists", zonelists_text(boot), "", marked=rf"^node {empty}"),
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


def _memory_claims(snapshot: Snapshot) -> Iterator[Claim]:
    """Nodes with memory: of the firmware's ranges, against what sysfs says."""
    ranges = [claim for claim in rule_claims(snapshot, "node_range") if "node" in claim.scope]
    predicted = sorted({int(claim.scope["node"]) for claim in ranges if claim.predicted})
    yield exact(
        "nodes_with_memory",
        {},
        predicted=" ".join(map(str, predicted)),
        observed=" ".join(map(str, nodes_with_memory(snapshot))),
        unit="nodes",
        working=[f"node {claim.scope['node']}: {claim.predicted}" for claim in ranges],
    )


def _distances(snapshot: Snapshot) -> str:
    return "\n".join(
        f"/{NODES}/node{node}/distance: {' '.join(map(str, snapshot.node_distances(node)))}"
        for node in snapshot.nodes
    )


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "nodes/uma": _uma,
        "nodes/numa": _numa,
        "nodes/memoryless": _memoryless,
        "nodes/fake": _fake,
    }
)
