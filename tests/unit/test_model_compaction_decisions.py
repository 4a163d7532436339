"""When compaction is worth it, by numbers worked out by hand."""

from __future__ import annotations

import pytest

from analysis.model.compaction_suitable import (
    Suitable,
    ZoneState,
    compact_gap,
    compaction_ready,
    compaction_suitable,
    wanted_free_pages,
)
from analysis.model.eras_compaction import compaction_eras_of
from analysis.model.proactive_compaction import (
    ScoredZone,
    ScoreMarks,
    begins_proactively,
    extfrag_for_order,
    fragmentation_score_node,
    score_marks,
)
from analysis.model.release import Release

OLD, NEW = compaction_eras_of(Release(6, 12))[0], compaction_eras_of(Release(7, 2))[0]


def test_share_in_small_blocks() -> None:
    # 100 single pages and one block of 2^9: 100 of 612 pages are too small for order 9
    blocks = (100, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    assert extfrag_for_order(blocks, 9) == 16
    assert extfrag_for_order(blocks, 0) == 0
    assert extfrag_for_order((0,) * 11, 9) == 0
    with pytest.raises(IndexError):
        extfrag_for_order(blocks, 11)


def test_a_zone_counts_by_its_share_of_the_node() -> None:
    scattered, whole = (1000, *(0,) * 10), (*(0,) * 10, 10)
    zones = [
        ScoredZone(free_blocks=scattered, present_pages=3000),
        ScoredZone(free_blocks=whole, present_pages=7000),
    ]
    assert fragmentation_score_node(zones, 9) == 29  # 100 * 3000 / 10001
    only = [ScoredZone(free_blocks=scattered, present_pages=10000)]
    assert fragmentation_score_node(only, 9) == 99  # the node counts one page more than it has
    assert fragmentation_score_node([], 9) == 0


@pytest.mark.parametrize(
    ("proactiveness", "old", "new"),
    [
        (0, (100, 100), (100, 100)),
        (20, (80, 90), (80, 90)),
        (90, (10, 20), (10, 15)),
        (98, (5, 15), (2, 3)),
        (100, (5, 15), (0, 0)),
    ],
)
def test_marks(proactiveness: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    assert score_marks(proactiveness, OLD) == ScoreMarks(low=old[0], high=old[1])
    assert score_marks(proactiveness, NEW) == ScoreMarks(low=new[0], high=new[1])


def test_marks_need_a_percentage() -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        score_marks(101, NEW)


def test_it_begins_above_the_high_mark() -> None:
    assert not begins_proactively(90, 20, OLD)
    assert begins_proactively(91, 20, OLD)
    assert not begins_proactively(100, 0, OLD)


def test_what_must_be_free() -> None:
    assert (compact_gap(9, OLD), compact_gap(9, NEW)) == (1024, 32)
    assert compact_gap(2, OLD) == compact_gap(2, NEW) == 8
    marks = {"min_pages": 1000, "low_pages": 1250}
    assert wanted_free_pages(2, **marks, watermark_pages=1500, era=OLD) == 1008
    assert wanted_free_pages(9, **marks, watermark_pages=1500, era=OLD) == 2274
    assert wanted_free_pages(2, **marks, watermark_pages=1500, era=NEW) == 1508
    assert wanted_free_pages(9, **marks, watermark_pages=1500, era=NEW) == 1782


SCATTERED = (4000, *(0,) * 10)
SHORT = (0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0)


@pytest.mark.parametrize(
    ("blocks", "order", "usable", "reserve", "verdict"),
    [
        (SCATTERED, 9, 4000, 0, Suitable.CONTINUE),
        (SCATTERED, 9, 2274, 0, Suitable.SKIPPED),  # must be more than wanted
        (SCATTERED, 9, 2275, 0, Suitable.CONTINUE),
        (SCATTERED, 9, 4000, 1726, Suitable.SKIPPED),
        # index 1000 - (1000 + 1024 * 1000 / 512) / 4 = 250: memory is short
        (SHORT, 9, 4000, 0, Suitable.NOT_SUITABLE_ZONE),
        (SHORT, 3, 4000, 0, Suitable.CONTINUE),  # not costly: whatever the index
    ],
)
def test_suitable(
    blocks: tuple[int, ...], order: int, usable: int, reserve: int, verdict: Suitable
) -> None:
    found = compaction_suitable(
        blocks, order, usable_free_pages=usable, wanted_pages=2274, lowmem_reserve_pages=reserve
    )
    assert found is verdict


@pytest.mark.parametrize(
    ("free", "whole", "old", "new"),
    [
        (298, 0, False, False),
        (740, 0, False, False),  # 607 + 32 + 101 are wanted by now
        (741, 0, False, True),
        (1561, 0, False, True),  # above low and the gap (1530), not above high and the gap (1631)
        (1632, 0, True, True),
        (916, 1, False, True),
        (917, 1, True, True),  # 917 - 511 are above min: the request is met
    ],
)
def test_reclaim_leaves_the_rest_to_compaction(free: int, whole: int, old: bool, new: bool) -> None:
    zone = ZoneState(
        free_blocks=(free - 512 * whole, *(0,) * 8, whole, 0), free_pages=free, cma_pages=0,
        min_pages=405, low_pages=506, high_pages=607, lowmem_reserve_pages=0,
    )  # fmt: skip
    assert compaction_ready(zone, 9, era=OLD) is old
    assert compaction_ready(zone, 9, era=NEW) is new
