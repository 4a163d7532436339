"""What the stops about compaction, direct and by kcompactd show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from analysis.tour.compaction_direct import direct
from analysis.tour.compaction_kcompactd import kcompactd
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding

JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "compaction/direct": direct,
        "compaction/kcompactd": kcompactd,
    }
)
