"""Where an object lies, before anybody knows at what address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """``block``: which of the pages or slabs that were taken for it, counted from 0 in the order
    in which they were taken; ``within``: where in there, as the allocator counts: a number in the
    slab's first list of free objects (SLUB), a number of an object (SLAB), bytes (SLOB)."""

    block: int
    within: int
