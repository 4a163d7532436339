"""What a judge makes of a stop's evidence: claims, and exhibits to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.compare.claim import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTING_LINES_MAX = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A few telling lines of what the kernel really printed."""

    id: str
    text: str
    marked: tuple[int, ...] = ()
    """Numbers of the lines that tell, counted from 1."""

    def __post_init__(self) -> None:
        lines = len(self.text.splitlines())
        assert 0 < lines <= LISTING_LINES_MAX, f"{self.id}: {lines} lines"
        assert all(1 <= line <= lines for line in self.marked), f"{self.id}: {self.marked}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A figure, drawn when a page wants it."""

    id: str
    draw: Callable[[], Figure]


Exhibit = Listing | Plate


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a stop showed."""

    claims: tuple[Claim, ...]
    exhibits: tuple[Exhibit, ...] = ()

    def __post_init__(self) -> None:
        assert self.claims, "a stop that claims nothing cannot fail"
        ids = [exhibit.id for exhibit in self.exhibits]
        assert len(set(ids)) == len(ids), f"exhibits {ids}"
