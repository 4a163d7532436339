"""The compiled allocator against the plain one: same pages, same moves, same state."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.model.allocator.allocator import Allocator
from analysis.model.compiled import layout as at
from analysis.model.compiled import view
from analysis.model.compiled.layout import Memory
from analysis.model.compiled.pack import PCP_FIELDS, ZONE_FIELDS, pack, page_rows
from analysis.model.freelist import Migratetype
from analysis.replay.compiled_state import CompiledState
from analysis.replay.model_state import PlainState
from tests.random_allocator import Walk, random_allocator

pytestmark = pytest.mark.timeout(900)
"""The first call compiles, which takes long on a machine that does much else."""


def differences(allocator: Allocator, m: Memory) -> list[str]:
    """Everything that is not the same in the plain model and in the memory of the compiled."""
    found: list[str] = []

    def same(what: str, plain: object, compiled: object) -> None:
        if plain != compiled:
            found.append(f"{what}: {plain}, compiled {compiled}")

    rows, first_pfn = page_rows(m), int(m[at.FIRST_PFN])
    movable = np.flatnonzero(rows[:, at.NOTES - at.ROWS_AT] & at.MOVABLE_NOTE) + first_pfn
    for zone in allocator.zones:
        name, lists = f"zone {zone.number}", zone.free
        for order in range(lists.max_order + 1):
            for kind in Migratetype:
                compiled = view.free_list(m, zone.number, order, kind)
                same(f"{name} order {order} {kind.name}", lists.pfns(order, kind), compiled)
        for word, field in ZONE_FIELDS.items():
            same(f"{name} {field}", getattr(zone, field), view.zone_word(m, zone.number, word))
        for number, mark in enumerate(zone.watermarks):
            word = view.zone_word(m, zone.number, at.WATERMARK + number)
            same(f"{name} watermark {number}", mark, word)
        same(f"{name} pages", lists.free_pages, view.zone_word(m, zone.number, at.FREE_PAGES))
        size = 1 << lists.pageblock_order
        starts = range(lists.start_pfn // size * size, lists.end_pfn, size)
        kinds = [lists.pageblock_migratetype(max(pfn, lists.start_pfn)) for pfn in starts]
        same(f"{name} pageblocks", kinds, view.pageblock_types(m, zone.number).tolist())
        inside = (movable >= lists.start_pfn) & (movable < lists.end_pfn)
        same(f"{name} movable", sorted(zone.movable), movable[inside].tolist())
        for item, counter in enumerate((zone.nr_free, zone.nr_free_cma)):
            word = view.zone_word(m, zone.number, at.NR_FREE + item)
            same(f"{name} counter {item}", counter.value, word)
            for cpu in allocator.cpu_nodes:
                numbers = [
                    view.pcp_word(m, zone.number, cpu, word + item)
                    for word in (at.DIFFERENCE, at.THRESHOLD)
                ]
                there = [counter.differences[cpu], counter.thresholds[cpu]]
                same(f"{name} cpu {cpu} difference and threshold {item}", there, numbers)
    for (number, cpu), pcp in allocator.pcps.items():
        name = f"zone {number} cpu {cpu}"
        for word, field in PCP_FIELDS.items():
            same(f"{name} {field}", getattr(pcp, field), view.pcp_word(m, number, cpu, word))
        for pindex, pages in enumerate(pcp.lists):
            listed = view.pcp_list(m, number, cpu, pindex)
            same(f"{name} list {pindex}", tuple(pages), listed)
            types = [int(rows[pfn - first_pfn, at.PCP_TYPE - at.ROWS_AT]) for pfn in listed]
            same(f"{name} types of list {pindex}", [int(kind) for kind in pages.values()], types)
    return found


@given(st.integers(0, 2**32), st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_a_random_walk_ends_in_the_same_state(seed: int, steps: int) -> None:
    random = Random(seed)
    allocator = random_allocator(random)
    compiled = CompiledState(pack(allocator), allocator.cpu_nodes)
    assert differences(allocator, compiled.memory) == []
    walk = Walk(random, [PlainState(allocator), compiled], allocator)
    for number in range(steps):
        outcomes = walk.step()
        if outcomes:
            (name, plain), (_, other) = outcomes
            assert other == plain, f"step {number}: {name}"
    assert differences(allocator, compiled.memory) == []


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_packing_is_exact_at_any_moment(seed: int) -> None:
    random = Random(seed)
    allocator = random_allocator(random)
    walk = Walk(random, [PlainState(allocator)], allocator)
    for _ in range(60):
        walk.step()
    for zone in allocator.zones:
        zone.rotated.clear()
    assert differences(allocator, pack(allocator)) == []
