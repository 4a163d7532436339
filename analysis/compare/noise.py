"""The noise floor: what moves between two marks when nobody asks for anything."""

from __future__ import annotations

from itertools import pairwise

from analysis.compare.facts import Tables
from analysis.compare.zones import FreeBlocks, ZoneKey, brackets, marks

NULL_PHASE = "null"


def noise_floor(tables: Tables) -> dict[ZoneKey, FreeBlocks]:
    """Largest change of each order between neighbouring marks of the null run, by zone.

    Empty when the run has no null phase with two marks in it.
    """
    zones = brackets(tables)
    idle = [mark for mark in marks(tables) if mark.phase == NULL_PHASE and mark.index is not None]
    floor: dict[ZoneKey, FreeBlocks] = {}
    for earlier, later in pairwise(idle):
        for (number, node, zone), bracket in zones.items():
            other = zones.get((later.round, node, zone))
            if number != earlier.round or other is None:
                continue
            pairs = zip(bracket.before, other.before, strict=True)
            moved = [abs(one - two) for one, two in pairs]
            so_far = floor.get((node, zone), (0,) * len(moved))
            floor[node, zone] = tuple(map(max, so_far, moved))
    return floor
