"""What the stops about zones, each populated on some kernel show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding

JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType({})
