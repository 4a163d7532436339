"""The judge of every stop, by the stop's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from analysis.tour import (
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
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding

Judge = Callable[[StopEvidence], Finding]

TOPICS: Mapping[str, Mapping[str, Judge]] = MappingProxyType(
    {
        "nodes": nodes.JUDGES,
        "zones": zones.JUDGES,
        "pages": pages.JUDGES,
        "memory_models": memory_models.JUDGES,
        "buddy": buddy.JUDGES,
        "slab": slab.JUDGES,
        "vmalloc": vmalloc.JUDGES,
        "reclaim": reclaim.JUDGES,
        "compaction": compaction.JUDGES,
    }
)
"""Topic → its judges by the name of the stop, in the order of chapters."""

JUDGES: Mapping[str, Judge] = MappingProxyType(
    {name: judge for judges in TOPICS.values() for name, judge in judges.items()}
)
