"""Which free blocks are buddies, and which of those may stay apart."""

from __future__ import annotations

import pytest

from analysis.model.eras import era_of
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.neighbours import buddy_pfn, equal_neighbours, free_buddies, must_merge
from analysis.model.release import Release

ERA = era_of(Release(6, 1))


def lists(*blocks: tuple[int, int]) -> ZoneFreeLists:
    zone = ZoneFreeLists(start_pfn=0, spanned_pages=4096, max_order=10, pageblock_order=9)
    for pfn, order in blocks:
        kind = zone.pageblock_migratetype(pfn)
        zone.add(FreeBlock(pfn=pfn, order=order, migratetype=kind), to_tail=True)
    return zone


def test_a_buddy_differs_in_one_bit() -> None:
    assert buddy_pfn(32, 5) == 0
    assert buddy_pfn(0, 5) == 32
    assert buddy_pfn(64, 5) == 96


def test_neighbours_across_the_boundary_of_a_pair_are_no_buddies() -> None:
    zone = lists((32, 5), (64, 5))
    assert [(one.pfn, other.pfn) for one, other in equal_neighbours(zone)] == [(32, 64)]
    assert not list(free_buddies(zone))


def test_neighbours_of_other_orders_are_not_equal() -> None:
    zone = lists((32, 5), (64, 6))
    assert not list(equal_neighbours(zone))
    assert not list(free_buddies(zone))


def test_small_buddies_must_merge() -> None:
    zone = lists((64, 5), (96, 5))
    (pair,) = free_buddies(zone)
    assert [block.pfn for block in pair] == [64, 96]
    assert must_merge(pair, zone, ERA)
    assert not list(equal_neighbours(zone))


def test_blocks_of_the_largest_order_have_nothing_to_become() -> None:
    zone = lists((0, 10), (1024, 10), (2048, 10))
    assert not list(free_buddies(zone))
    assert not list(equal_neighbours(zone))


@pytest.mark.parametrize(
    ("kind", "release", "merges"),
    [
        (Migratetype.UNMOVABLE, Release(6, 1), True),
        (Migratetype.RECLAIMABLE, Release(6, 1), True),
        (Migratetype.HIGHATOMIC, Release(6, 1), False),
        (Migratetype.CMA, Release(6, 1), False),
        (Migratetype.ISOLATE, Release(6, 1), False),
        (Migratetype.CMA, Release(5, 10), True),
        (Migratetype.ISOLATE, Release(5, 10), False),
    ],
)
def test_whole_pageblocks_merge_if_their_types_may(
    kind: Migratetype, release: Release, merges: bool
) -> None:
    zone = ZoneFreeLists(start_pfn=0, spanned_pages=4096, max_order=10, pageblock_order=9)
    zone.set_pageblock_migratetype(0, 9, kind)
    zone.add(FreeBlock(pfn=0, order=9, migratetype=kind), to_tail=True)
    zone.add(FreeBlock(pfn=512, order=9, migratetype=Migratetype.MOVABLE), to_tail=True)
    (pair,) = free_buddies(zone)
    assert must_merge(pair, zone, era_of(release)) is merges
