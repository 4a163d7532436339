"""A request that is larger than its node: which zones give how much, and how it is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.errors import MissingInputError
from analysis.model.release import Release, parse_release
from analysis.model.zone_room import rest, shares
from analysis.tour.evidence import BootEvidence
from analysis.tour.memory_claims import (
    USER_CEILING,
    after,
    before,
    fallen,
    kswapd_was_awake,
    page_shift,
    rooms,
)
from analysis.tour.zonelists import Order, order_text
from analysis.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOUBLES = Release(6, 7)
"""The first release whose per-cpu lists do."""
_NOISE_PART = 200
"""A zone that gave less than this part of a request may have lost it to something else."""


def spill_claims(boot: BootEvidence, order: Order, pages: int) -> Iterator[Claim]:
    """A request that is larger than its node: who gives how much, and how it is counted."""
    awake = kswapd_was_awake(boot, "spill")
    scale = _refill_scale(boot)
    found = rooms(
        order,
        before(boot, "spill"),
        USER_CEILING,
        page_shift(boot),
        awake=awake,
        refill_scale=scale,
    )
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
        predicted=order_text(tuple(gives)),
        observed=order_text(tuple(took)),
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
                f"a batch of {zone.batch >> scale} is taken at a time"
                + (f", doubled up to {zone.batch} while nothing is freed" if scale else ""),
                f"CPUs keep up to {zone.drift} pages of the counter to themselves when the",
                f"watermark is looked at: {least} to {most}",
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


def _refill_scale(boot: BootEvidence) -> int:
    """How often a per-cpu list may double what it takes at a time."""
    if parse_release(boot.release) < _DOUBLES:
        return 0
    scale = boot.snapshot().config.number("PCP_BATCH_SCALE_MAX")
    if scale is None:
        raise MissingInputError("CONFIG_PCP_BATCH_SCALE_MAX")
    return scale


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


def numastat_text(boot: BootEvidence, name: str, nodes: tuple[int, ...]) -> str:
    counted = _numastat(boot, name)
    heads = ["".ljust(16), *(f"node{node}".rjust(10) for node in nodes)]
    rows = [
        key.ljust(16) + "".join(f"{counted[node][key]:+d}".rjust(10) for node in nodes)
        for key in ("numa_hit", "numa_miss", "numa_foreign", "local_node", "other_node")
    ]
    return "\n".join(["".join(heads), *rows])


def draw_spill(boot: BootEvidence) -> Figure:
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
