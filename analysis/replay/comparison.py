"""A predicted state of the free lists against the one that was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.memory.state import FreeState

LISTED = 20
"""Differing pages that are named; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDifference:
    """A page whose state was predicted wrongly."""

    pfn: int
    predicted_free: bool
    observed_free: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Prediction and observation at one memory sample; matrices are zone by order."""

    label: str
    """Of the memory sample."""
    counter: int
    pages_differing: NDArray[np.int64]
    """By zone: pages free in one of the two states only."""
    blocks_differing: NDArray[np.int64]
    """Free blocks that only one of the two states has."""
    predicted: NDArray[np.int64]
    """Free blocks as predicted."""
    observed: NDArray[np.int64]
    """``free_area[order].nr_free`` as read."""
    pages: tuple[PageDifference, ...]
    """The first pages that differ."""
    in_flight: int = 0
    """Pages whose free was announced and had not yet happened; they count as not free."""

    @property
    def is_exact(self) -> bool:
        """Every page, every block and every count as predicted."""
        return not (
            self.pages_differing.any()
            or self.blocks_differing.any()
            or (self.predicted != self.observed).any()
        )


def compare(
    head: NDArray[np.int8],
    free: NDArray[np.bool_],
    predicted: NDArray[np.int64],
    state: FreeState,
    geometry: Geometry,
    *,
    label: str,
    counter: int,
) -> Comparison:
    """Holds predicted arrays (as ``FreeState`` has them) against a sample's state."""
    zones, orders = state.nr_free.shape
    wrong = np.flatnonzero(free != state.free)
    moved = np.flatnonzero(head != state.head)
    blocks = np.zeros((zones, orders), np.int64)
    for heads in (head, state.head):
        there = moved[heads[moved] > 0]
        np.add.at(blocks, (geometry.zone_of[there], heads[there] - 1), 1)
    return Comparison(
        label=label,
        counter=counter,
        pages_differing=np.bincount(geometry.zone_of[wrong], minlength=zones).astype(np.int64),
        blocks_differing=blocks,
        predicted=predicted.copy(),
        observed=state.nr_free.copy(),
        pages=tuple(
            PageDifference(
                pfn=int(page) + geometry.first_pfn,
                predicted_free=bool(free[page]),
                observed_free=bool(state.free[page]),
            )
            for page in wrong[:LISTED]
        ),
    )
