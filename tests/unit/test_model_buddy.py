"""Split, coalesce and fallback on small zones whose outcome can be seen at a glance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.model.buddy import Ambiguous, free_one, rmqueue, rmqueue_smallest
from analysis.model.eras import era_of
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import Release

U, M, R, H = (
    Migratetype.UNMOVABLE,
    Migratetype.MOVABLE,
    Migratetype.RECLAIMABLE,
    Migratetype.HIGHATOMIC,
)
NOW = era_of(Release(6, 1))


def zone_of(*blocks: tuple[int, int, Migratetype], spanned_pages: int = 64) -> ZoneFreeLists:
    """Orders 0 to 4, pageblocks of order 3."""
    zone = ZoneFreeLists(start_pfn=0, spanned_pages=spanned_pages, max_order=4, pageblock_order=3)
    for pfn, order, migratetype in blocks:
        zone.set_pageblock_migratetype(pfn, order, migratetype)
        zone.add(FreeBlock(pfn=pfn, order=order, migratetype=migratetype), to_tail=True)
    zone.check()
    return zone


def test_split_leaves_upper_halves_at_the_heads() -> None:
    zone = zone_of((0, 4, U), (24, 2, U))
    assert rmqueue_smallest(zone, 3, U) == 0
    assert rmqueue_smallest(zone, 0, U) == 24
    assert zone.free_blocks() == (1, 1, 0, 1, 0)
    assert (zone.pfns(0, U), zone.pfns(1, U), zone.pfns(3, U)) == ((25,), (26,), (8,))
    assert rmqueue_smallest(zone, 4, U) is None
    zone.check()


def test_free_coalesces_as_far_as_it_can() -> None:
    zone = zone_of((1, 0, U), (2, 1, U), (4, 2, U), (8, 3, U))
    assert free_one(zone, 0, 0, era=NOW) == FreeBlock(pfn=0, order=4, migratetype=U)
    assert zone.free_blocks() == (0, 0, 0, 0, 1)


def test_a_block_that_may_merge_soon_goes_to_the_tail() -> None:
    zone = zone_of((16, 0, U), (2, 1, U))
    zone.set_pageblock_migratetype(24, 4, U)
    free_one(zone, 0, 0, era=NOW)  # its pair's buddy, pages 2 and 3, is free
    assert zone.pfns(0, U) == (16, 0)
    free_one(zone, 24, 0, era=NOW)
    assert zone.pfns(0, U) == (24, 16, 0)
    free_one(zone, 32, 0, era=NOW, to_tail=True)
    assert zone.pfns(0, U) == (24, 16, 0, 32)


def test_fallback_claims_whole_pageblocks() -> None:
    zone = zone_of((0, 2, M), (16, 4, M), (32, 3, R))
    assert rmqueue(zone, 1, U) == 16
    assert zone.pageblock_migratetype(16) is U
    assert zone.pageblock_migratetype(24) is U
    assert [zone.pfns(order, U) for order in range(5)] == [(), (18,), (20,), (24,), ()]
    assert zone.free_blocks() == (0, 1, 2, 2, 0)
    zone.check()


def test_reclaimable_lends_before_movable() -> None:
    zone = zone_of((0, 3, M), (32, 3, R))
    assert rmqueue(zone, 3, U) == 32


def test_borrowing_below_a_pageblock_is_ambiguous_and_changes_nothing() -> None:
    zone = zone_of((0, 2, M), (10, 1, R))
    answer = rmqueue(zone, 1, U)
    assert isinstance(answer, Ambiguous)
    assert "movable one of order 2, below the pageblock order 3" in answer.reason
    assert zone.free_blocks() == (0, 1, 1, 0, 0)
    assert rmqueue(zone, 3, U) is None


@pytest.mark.parametrize(("release", "merges"), [((5, 10), True), ((6, 1), False)])
def test_high_atomic_pageblocks_stand_apart_since_6_1(
    release: tuple[int, int], merges: bool
) -> None:
    zone = zone_of((8, 3, H))
    zone.set_pageblock_migratetype(0, 3, U)
    free_one(zone, 0, 3, era=era_of(Release(*release)))
    assert zone.free_blocks() == ((0, 0, 0, 0, 1) if merges else (0, 0, 0, 2, 0))


def test_coalescing_retypes_the_buddy_in_newer_releases() -> None:
    for retypes in (False, True):
        zone = zone_of((8, 3, M))
        zone.set_pageblock_migratetype(0, 3, U)
        merged = free_one(
            zone, 0, 3, era=replace(NOW, merges_reserved=False, merge_retypes=retypes)
        )
        assert merged == FreeBlock(pfn=0, order=4, migratetype=U)
        assert zone.pageblock_migratetype(8) is (U if retypes else M)


@pytest.mark.parametrize(("pfn", "order"), [(1, 1), (64, 0), (0, 2), (17, 0), (16, 1)])
def test_what_cannot_be_freed_is_refused(pfn: int, order: int) -> None:
    zone = zone_of((2, 0, U), (16, 4, U))
    with pytest.raises(ValueError, match="page 0x"):
        free_one(zone, pfn, order, era=NOW)


def test_a_pageblock_larger_than_the_largest_block_is_refused() -> None:
    with pytest.raises(ValueError, match="pageblock order 5"):
        ZoneFreeLists(start_pfn=0, spanned_pages=64, max_order=4, pageblock_order=5)
