"""What the stops about the buddy allocator, from its first page on, show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from analysis.compare.claim import Claim
from analysis.figures import tour_buddy
from analysis.tour.buddy_handover import handover
from analysis.tour.buddy_merging import coalescing
from analysis.tour.buddy_stealing import migratetypes
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding, Plate
from analysis.tour.ring_calls import (
    alone,
    lists_claim,
    read_calls,
)
from analysis.tour.ring_claims import (
    blocks_claim,
    calls_listing,
    change_of,
    taken_claim,
)


def splitting(evidence: StopEvidence) -> Finding:
    """buddy/splitting: one request, one block taken, its upper halves put back."""
    every = read_calls(evidence.boot())
    calls = alone(every)
    claims: list[Claim] = []
    for call in calls:
        claims.append(taken_claim(call))
        claims.append(blocks_claim("split_rest", call))
    claims.append(lists_claim("split_lists", every))
    deepest = max(calls, key=lambda call: len(call.new))
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="split", draw=partial(tour_buddy.change, change_of(deepest))),
            calls_listing(calls),
        ),
    )


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "buddy/handover": handover,
        "buddy/splitting": splitting,
        "buddy/coalescing": coalescing,
        "buddy/migratetypes": migratetypes,
    }
)
