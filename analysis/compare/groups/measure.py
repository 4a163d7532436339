"""One number that a run shows: what it is, and how much of it matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Subject = Literal[
    "boot", "stalls", "high orders", "fragmentation", "slab", "reclaim", "compaction", "memory",
    "huge pages", "time",
]  # fmt: skip

SUBJECTS: Mapping[Subject, str] = {
    "boot": "memory at boot",
    "stalls": "allocation stalls",
    "high orders": "large blocks to be had",
    "fragmentation": "fragmentation",
    "slab": "kernel objects",
    "memory": "memory in use",
    "huge pages": "huge pages and faults",
    "reclaim": "work of reclaim",
    "compaction": "work of compaction",
    "time": "time",
}
"""In the order in which they are told where nothing else decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is measured; equal measures of different runs are compared."""

    id: str
    """``slab_kb@objects/peak``: name and moment; details add ``node=0 zone=DMA32 order=9``."""
    subject: Subject
    title: str
    """In plain words, without the moment: ``memory in slabs``."""
    moment: str
    """When or over which phase: ``after boot``, ``objects: most held``."""
    unit: str
    floor: float
    """Smallest difference in this unit that matters; one of less than a hundredth of the mean
    does not matter either."""
    least: float = 0.0
    """A detail that no run of either group brings to this is left out."""
    less_is_better: bool | None = None
    """None: neither is better by itself."""
    settled: bool = False
    """Settled when the kernel boots: the same in every run of one configuration."""
    multiplied: bool = False
    """What disturbs it multiplies it, as a busy host does with times: tested by its logarithm."""
    detail: bool = False
    """By node, zone, order, phase or cache; looked into when its headline is."""
    weight: float = 1.0
    """Of how much interest among its subject."""

    def __str__(self) -> str:
        return f"{self.title}, {self.moment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All numbers of one run."""

    values: Mapping[Measure, float]
    unknown: Mapping[Measure, str] = field(default_factory=dict)
    """What this run cannot tell, and why."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of the ids of measures that this run cannot even name, and why."""

    def why_unknown(self, measure: Measure) -> str:
        """Why this run does not have a measure that another has."""
        if measure in self.unknown:
            return self.unknown[measure]
        for beginning, why in self.lacking.items():
            if measure.id.startswith(beginning):
                return why
        return "another run has no such thing"
