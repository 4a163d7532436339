"""What the stops about memory that is contiguous only virtually show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding

JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType({})
