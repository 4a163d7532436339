"""Every stop of the tour, in the order in which it is walked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.tour.stop import Stop
from harness.tour.stops import (
    buddy,
    compaction,
    memory_models,
    nodes,
    pages,
    reclaim,
    slab,
    vmalloc,
    zones,
)

TOPICS: Mapping[str, tuple[Stop, ...]] = MappingProxyType(
    {
        "nodes": nodes.STOPS,
        "zones": zones.STOPS,
        "pages": pages.STOPS,
        "memory_models": memory_models.STOPS,
        "buddy": buddy.STOPS,
        "slab": slab.STOPS,
        "vmalloc": vmalloc.STOPS,
        "reclaim": reclaim.STOPS,
        "compaction": compaction.STOPS,
    }
)
"""Topic → its stops."""

STOPS: tuple[Stop, ...] = tuple(stop for stops in TOPICS.values() for stop in stops)
