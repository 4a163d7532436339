"""What the stop about the hand-over shows."""

from __future__ import annotations

import re
from functools import partial

from analysis.compare.claim import Claim
from analysis.compare.static.handover.inputs import (
    boot_memory,
    given,
    reserved_at_handover,
    zones,
)
from analysis.compare.static.handover.memory_line import deferred_pages
from analysis.figures import tour_buddy
from analysis.model.eras import era_of
from analysis.model.handover.first_lists import first_lists
from analysis.replay.allocator_state import migratetypes_of
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.ring_calls import (
    number_claim,
)
from analysis.tour.ring_claims import (
    read_lists,
)

_DUMP_LINES = 14


def handover(evidence: StopEvidence) -> Finding:
    """buddy/handover: memblock's log makes the first free lists, every block in order."""
    boot = evidence.boot()
    snapshot, sample = boot.snapshot(), read_lists(boot)
    reserved = reserved_at_handover(snapshot)
    memory, ranges = boot_memory(snapshot), given(snapshot, reserved)
    deferred = deferred_pages(snapshot)
    layouts = {(zone.node, zone.zone): zone for zone in zones(snapshot)}
    types = migratetypes_of(sample)
    claims: list[Claim] = []
    rows: list[tour_buddy.ZoneMap] = []
    for row in sample.zones:
        node, name = int(row["node"]), row["name"].decode()
        zone = layouts[node, name]
        model = first_lists(
            zone,
            memory,
            ranges,
            deferred,
            max_order=sample.meta["max_order"],
            pageblock_order=sample.meta["pageblock_order"],
            era=era_of(snapshot.release),
        )
        scope = {"node": node, "zone": name}
        mine = sample.blocks[sample.blocks["zone"] == row["zone"]]
        kernel = {
            (order, kind): tuple(listed["pfn"][listed["position"].argsort()].tolist())
            for order in range(sample.meta["max_order"] + 1)
            for number, kind in enumerate(types)
            for listed in [mine[(mine["order"] == order) & (mine["migratetype"] == number)]]
        }
        predicted = {key: model.pfns(*key) for key in kernel}
        equal = sum(len(predicted[key]) for key in kernel if predicted[key] == kernel[key])
        claims.append(
            number_claim(
                "handover_pages", scope, model.free_pages, int(row["nr_free_pages"]), "free pages"
            )
        )
        claims.append(
            number_claim(
                "handover_blocks",
                scope,
                max(sum(map(len, predicted.values())), sum(map(len, kernel.values()))),
                equal,
                "blocks in list order",
                (
                    f"reserved: {reserved.source}; {len(reserved.regions)} regions",
                    f"deferred from page {deferred.get(node, 0):#x}" if node in deferred else "",
                ),
            )
        )
        rows.append(
            tour_buddy.ZoneMap(
                name=f"node{node} {name}",
                start=zone.span.start,
                end=zone.span.end,
                blocks=tuple((int(b["pfn"]), int(b["order"])) for b in mine),
                deferred=deferred.get(node),
            )
        )
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="first_lists", draw=partial(tour_buddy.handover, rows)),
            _dump_listing(boot),
        ),
    )


def _dump_listing(boot: BootEvidence) -> Listing:
    lines = [
        line.split("] ", 1)[-1]
        for line in boot.snapshot().text("dmesg").splitlines()
        if re.search(r"MEMBLOCK configuration|(memory|reserved)(\.cnt|\[0x)| memory size", line)
    ]
    last = max((at for at, line in enumerate(lines) if "MEMBLOCK" in line), default=0)
    return Listing(id="memblock", text="\n".join(lines[last : last + _DUMP_LINES]) or "none")
