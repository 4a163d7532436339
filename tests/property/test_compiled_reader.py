"""The compiled request reader against the plain one, on any order of any events."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.model.eras import Era, era_of
from analysis.model.release import Release
from analysis.replay.compiled_reader import read_steps
from analysis.replay.requests import RequestReader
from analysis.replay.step import Step
from analysis.replay.step_arrays import ArraySteps, pack_steps
from analysis.replay.timeline import EVENT_CODES, TIMELINE_ROW, PageAddresses

pytestmark = pytest.mark.timeout(900)
"""The first call compiles, which takes long on a machine that does much else."""

MEMMAP, PAGE_BYTES = 0xFFFFEA0000000000, 64
PFNS = range(64, 128)
NO_PAGE = (1 << 64) - 1
FIELDS = [field.name for field in fields(Step) if field.name != "number"]

pfns = st.integers(PFNS.start - 2, PFNS.stop + 2)
few_pfns = st.integers(PFNS.start, PFNS.start + 6)
pages = st.one_of(few_pfns, few_pfns, pfns)
pointers = pages.map(lambda pfn: MEMMAP + pfn * PAGE_BYTES)
orders = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 9, 10])
small = st.integers(0, 3)
gfps = st.sampled_from([0xCC0, 0x140CCA, 0x1_0000_0CC0])
ERAS = st.sampled_from([era_of(Release(*release)) for release in ((6, 1), (6, 12), (7, 3))])
VALUES = {
    "mm_page_alloc": (st.one_of(pages, pages, st.just(NO_PAGE)), orders, gfps, small),
    "mm_page_free": (pages, orders),
    "mm_page_free_batched": (pages,),
    "mm_page_alloc_zone_locked": (pages, orders, small),
    "mm_page_pcpu_drain": (pages, orders, small),
    "mm_page_alloc_extfrag": (pages, orders, orders),
    "mm_lru_insertion": (pages,),
    "isolate_free_page": (pointers, orders),
    "isolate_free_page_return": (small,),
    "free_one_page": (pages, orders, small),
    "split_large_buddy": (pages, orders, small),
    "putback_isolated_page": (pointers, orders, small),
    "alloc_pages_bulk": (gfps, st.sampled_from([-1, 0, 1]), st.integers(0, 9)),
    "alloc_pages_bulk_return": (st.integers(0, 9),),
    "compaction_free": (pointers,),
    "free_prepared_range": (pointers, st.integers(0, 70)),
    "drain_zone_pages": (st.sampled_from([0xFFFF888000001000, 0]),),
    "drain_pages_zone": (st.sampled_from([0xFFFF888000001000, 0]), small),
    "alloc_pages": (small,),
    "get_page_from_freelist": (st.sampled_from([0, 0x140, 0x841]),),
    "mm_vmscan_kswapd_wake": (small,),
    "mm_vmscan_kswapd_sleep": (small,),
    "set_pgdat_percpu_threshold": (small,),
    "balance_pgdat": (small,),
    "balance_pgdat_return": (),
    "unreserve_highatomic": (small,),
    "unreserve_highatomic_return": (small,),
    "refresh_cpu_vm_stats": (),
    "mm_compaction_begin": (pages,),
    "mm_compaction_end": (pages,),
    "set_migratetype_isolate": (pointers,),
}
"""Event → strategies of its fields; of those that the readers know, all that differ."""


@st.composite
def timelines(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    names = draw(st.lists(st.sampled_from(list(VALUES)), max_size=60))
    made = np.zeros(len(names), TIMELINE_ROW)
    counter = 10
    for row, name in zip(made, names, strict=True):
        counter += draw(st.integers(1, 2))
        row["counter"], row["code"] = counter, EVENT_CODES[name]
        row["cpu"] = draw(st.integers(0, 1))
        row["level"] = draw(st.sampled_from([0, 0, 0, 1, 2]))
        row["pid"] = draw(st.sampled_from([0, 1, 2, 1, 2, 4_000_000]))
        for column, value in zip("abcd", VALUES[name], strict=False):
            row[column] = draw(value)
    return made


def both(
    rows: np.ndarray[Any, Any], *, huge_order: int | None, era: Era
) -> tuple[list[Step], ArraySteps]:
    addresses = PageAddresses(vmemmap_base=MEMMAP, struct_page_bytes=PAGE_BYTES)
    starts = (64, 96)
    reader = RequestReader(addresses, huge_order=huge_order, era=era, zone_starts=starts)
    compiled = read_steps(
        rows, addresses, pfns=range(192), huge_order=huge_order, era=era, zone_starts=starts
    )
    return reader.read(rows), compiled


@given(timelines(), st.sampled_from([None, 9]), ERAS)
@settings(max_examples=500, deadline=None)
def test_both_readers_read_the_same_steps(
    rows: np.ndarray[Any, Any], huge_order: int | None, era: Era
) -> None:
    plain, compiled = both(rows, huge_order=huge_order, era=era)
    assert len(compiled) == len(plain)
    for number, step in enumerate(plain):
        found = {name: getattr(compiled[number], name) for name in FIELDS}
        assert found == {name: getattr(step, name) for name in FIELDS}


@given(timelines(), ERAS)
@settings(max_examples=100, deadline=None)
def test_steps_are_packed_and_looked_up_without_loss(rows: np.ndarray[Any, Any], era: Era) -> None:
    plain, read = both(rows, huge_order=9, era=era)
    packed = pack_steps(plain)
    for number, step in enumerate(plain):
        step.number = number
    assert list(packed) == plain
    assert [packed.count_until(step.effect) for step in plain] == [
        sum(other.effect <= step.effect for other in plain) for step in plain
    ]
    assert packed.rows["effect"].tolist() == read.rows["effect"].tolist()
