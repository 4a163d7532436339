"""What the stops about page reclaim and the OOM killer show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding
from analysis.tour.reclaim_direct import direct
from analysis.tour.reclaim_kswapd import kswapd
from analysis.tour.reclaim_oom import oom
from analysis.tour.reclaim_swap import swap

JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "reclaim/kswapd": kswapd,
        "reclaim/direct": direct,
        "reclaim/swap": swap,
        "reclaim/oom": oom,
    }
)
