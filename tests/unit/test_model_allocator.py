"""The allocator model, rule by rule, on zones small enough to follow by hand."""

from __future__ import annotations

import pytest

from analysis.model.allocator.gfp import Alloc, Gfp, gfp_zone
from analysis.model.allocator.watermark import watermark_fast, watermark_ok
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from tests.allocator_model import (
    GFP_ATOMIC,
    GFP_USER_MOVABLE,
    fill,
    make_allocator,
    make_zone,
    request,
)

OLD, MID, NEW = Release(6, 1), Release(6, 12), Release(7, 3)
U, M, R = Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE


@pytest.mark.parametrize("release", [OLD, MID, NEW])
def test_a_refill_hands_out_pages_in_the_order_of_their_pfns(release: Release) -> None:
    zone = make_zone(release=release)
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone)
    pfns = [choice.pfn for _ in range(7) if (choice := allocator.allocate(request()))]
    assert pfns == list(range(1024, 1031))


def test_a_freed_page_is_handed_out_next() -> None:
    zone = make_zone()
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone)
    for _ in range(3):
        assert allocator.allocate(request()) is not None
    allocator.free(0, 1024, 0)
    again = allocator.allocate(request())
    assert again is not None
    assert again.pfn == 1024


def test_per_cpu_lists_give_back_from_the_tail_when_full() -> None:
    zone = make_zone()
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone, batch=7, high=21)
    pcp = allocator.pcps[0, 0]
    taken = [choice.pfn for _ in range(28) if (choice := allocator.allocate(request()))]
    assert pcp.count == 0
    for pfn in taken:
        allocator.free(0, pfn, 0)
    # The 21st free gave back the 7 pages freed first, the 28th twice as many.
    assert pcp.count == 7
    assert list(pcp.lists[0]) == taken[:20:-1]
    assert zone.free.free_pages == 1024 - 7


def test_free_factor_doubles_what_is_given_back() -> None:
    zone = make_zone()
    fill(zone, [(0, 10, U), (1024, 10, U)])
    allocator = make_allocator(zone, batch=4, high=40)
    taken = [choice.pfn for _ in range(200) if (choice := allocator.allocate(request()))]
    pcp = allocator.pcps[0, 0]
    drops = []
    for pfn in taken:
        before = pcp.count
        allocator.free(0, pfn, 0)
        if pcp.count < before:
            drops.append(before + 1 - pcp.count)
    assert drops[:4] == [4, 8, 16, 32]


def test_high_orders_freed_in_a_row_empty_the_lists() -> None:
    zone = make_zone()
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone)
    blocks = [c.pfn for _ in range(4) if (c := allocator.allocate(request(order=2)))]
    pcp = allocator.pcps[0, 0]
    pcp.free_factor = 1
    allocator.free(0, blocks[0], 2)
    assert pcp.count == 0


@pytest.mark.parametrize("count", [0, 60])
def test_a_tuned_list_grows_when_it_is_refilled(count: int) -> None:
    zone = make_zone(release=MID)
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone, batch=63, high=63, high_max=1000)
    pcp = allocator.pcps[0, 0]
    pcp.count = count
    assert allocator.allocate(request()) is not None
    assert (pcp.high, pcp.alloc_factor, pcp.count) == (126, 1, count + 62)


def test_decay_shrinks_by_an_eighth_and_gives_back_what_is_too_much() -> None:
    zone = make_zone(release=MID)
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone, batch=8, high=8, high_max=1000)
    pcp = allocator.pcps[0, 0]
    taken = [c.pfn for _ in range(64) if (c := allocator.allocate(request()))]
    pcp.high = 80
    for pfn in taken:
        allocator.free(0, pfn, 0)
    pcp.high = 40
    pcp.decay()
    assert pcp.high == 35
    assert pcp.count <= 35


@pytest.mark.parametrize("release", [OLD, MID, NEW])
def test_unmovable_requests_take_over_a_mostly_free_movable_pageblock(release: Release) -> None:
    zone = make_zone(release=release)
    fill(zone, [(512, 8, M)])
    zone.free.set_pageblock_migratetype(512, 0, M)
    allocator = make_allocator(zone)
    choice = allocator.allocate(request(order=4))
    assert choice is not None
    assert choice.pfn == 512
    # Half of the pageblock is free and the rest is not movable: the pageblock changes hands.
    assert zone.free.pageblock_migratetype(512) is U
    assert zone.free.pfns(7, U) == (512 + 128,)


@pytest.mark.parametrize(("release", "pfn"), [(OLD, 768), (MID, 512), (NEW, 512)])
def test_a_fallback_tells_of_the_block_found_or_of_the_page_taken(
    release: Release, pfn: int
) -> None:
    """The largest block is found; what is taken of its pageblock is the smallest sufficient."""
    zone = make_zone(release=release)
    fill(zone, [(768, 8, M), (512, 4, M)])
    zone.free.set_pageblock_migratetype(512, 0, M)
    zone.fallbacks = []
    choice = make_allocator(zone).allocate(request(order=4))
    assert choice is not None
    assert choice.pfn == 512
    (told,) = zone.fallbacks
    assert (told.pfn, told.order, told.owned) == (pfn, 4, True)
    assert (told.found.pfn, told.found.order) == (768, 8)
    assert (told.borrower, told.found.migratetype) == (U, M)


@pytest.mark.parametrize("release", [OLD, MID, NEW])
def test_a_pageblock_full_of_movable_pages_keeps_its_type(release: Release) -> None:
    zone = make_zone(release=release)
    fill(zone, [(512, 4, M)])
    zone.movable.update(range(528, 1024))
    allocator = make_allocator(zone)
    choice = allocator.allocate(request(order=4))
    assert choice is not None
    assert choice.pfn == 512
    assert zone.free.pageblock_migratetype(512) is M
    assert zone.watermark_boost == 512


@pytest.mark.parametrize("release", [OLD, MID, NEW])
def test_small_movable_requests_take_the_smallest_block_of_another_type(release: Release) -> None:
    zone = make_zone(release=release)
    fill(zone, [(512, 3, U), (1024, 1, U)])
    allocator = make_allocator(zone, batch=1)
    choice = allocator.allocate(request(migratetype=M, gfp=GFP_USER_MOVABLE))
    assert choice is not None
    assert choice.pfn == 1024
    # 6.1 moves the whole block to the movable list, later releases leave the rest where it was.
    assert zone.free.pfns(0, M if release < MID else U) == (1025,)


def test_reclaimable_lends_before_unmovable_to_movable() -> None:
    zone = make_zone()
    fill(zone, [(512, 6, U), (1024, 6, R)])
    choice = make_allocator(zone).allocate(request(order=6, migratetype=M, gfp=GFP_USER_MOVABLE))
    assert choice is not None
    assert choice.pfn == 1024


def test_a_zone_below_its_low_watermark_is_passed_over() -> None:
    near = make_zone(number=0, zone_type=2, pageblocks=4, watermarks=(100, 200, 300))
    far = make_zone(number=1, zone_type=1, start_pfn=1 << 14, pageblocks=4)
    fill(near, [(0, 7, U)])
    fill(far, [(1 << 14, 10, U)])
    choice = make_allocator(near, far).allocate(request(order=4))
    assert choice is not None
    assert (choice.zone, choice.attempt) == (1, 0)


def test_the_min_watermark_serves_when_the_low_one_does_not() -> None:
    zone = make_zone(watermarks=(100, 200, 300))
    fill(zone, [(0, 7, U)])
    choice = make_allocator(zone).allocate(request(order=4))
    assert choice is not None
    assert choice.attempt == 1


def test_reserves_are_for_those_who_cannot_wait() -> None:
    zone = make_zone(watermarks=(100, 200, 300))
    fill(zone, [(0, 6, U)])
    assert not watermark_ok(zone, 0, 100, 2, 0, 64)
    assert watermark_ok(zone, 0, 100, 2, int(Alloc.MIN_RESERVE), 64)
    assert watermark_ok(zone, 0, 100, 2, int(Alloc.MIN_RESERVE | Alloc.NON_BLOCK), 39)
    assert not watermark_ok(zone, 0, 100, 2, int(Alloc.MIN_RESERVE | Alloc.NON_BLOCK), 37)


def test_a_boost_does_not_count_for_atomic_single_pages_at_the_min_watermark() -> None:
    zone = make_zone(watermarks=(10, 20, 30))
    fill(zone, [(0, 6, U)])
    zone.watermark_boost = 500
    flags = int(Alloc.WMARK_MIN | Alloc.MIN_RESERVE)
    assert watermark_fast(zone, 0, zone.watermark(0), 2, flags, GFP_ATOMIC | Gfp.ATOMIC)
    assert not watermark_fast(zone, 0, zone.watermark(0), 2, 0, 0xCC0)


def test_high_atomic_requests_reserve_their_pageblock() -> None:
    zone = make_zone(pageblocks=256, watermarks=(300, 700, 900))
    fill(zone, [(1024, 9, M)])
    allocator = make_allocator(zone)
    choice = allocator.allocate(request(order=4, gfp=GFP_ATOMIC))
    assert choice is not None
    assert choice.attempt == 1
    assert zone.free.pageblock_migratetype(1024) is Migratetype.HIGHATOMIC
    assert zone.nr_reserved_highatomic == 512
    assert allocator.unreserve_highatomic(zone, M, force=True)
    assert zone.free.pageblock_migratetype(1024) is M
    assert zone.nr_reserved_highatomic == 0


def test_movable_requests_use_cma_when_most_free_memory_is_there() -> None:
    zone = make_zone()
    fill(zone, [(0, 8, M), (1024, 10, Migratetype.CMA)])
    zone.nr_free_cma.value = 1024
    allocator = make_allocator(zone, has_cma=True)
    movable = allocator.allocate(request(order=4, migratetype=M, gfp=GFP_USER_MOVABLE))
    unmovable = allocator.allocate(request(order=4))
    assert movable is not None
    assert movable.pfn == 1024
    assert unmovable is not None
    assert unmovable.pfn < 512
    assert zone.nr_free_cma.exact() == 1024 - 16


def test_counters_hand_over_beyond_the_threshold() -> None:
    zone = make_zone(threshold=10)
    fill(zone, [(0, 10, U)])
    zone.account(-10, U)
    assert zone.nr_free.seen() == 1024
    zone.account(-1, U)
    assert zone.nr_free.seen() == 1013
    zone.account(-4, U)
    zone.nr_free.fold(0)
    assert zone.nr_free.seen() == 1009


def test_normal_zones_keep_types_apart_at_first() -> None:
    low = make_zone(number=0, zone_type=1, pageblocks=8)
    normal = make_zone(number=1, zone_type=2, start_pfn=1 << 14, pageblocks=8)
    fill(low, [(0, 9, U)])
    fill(normal, [(1 << 14, 8, M)])
    choice = make_allocator(low, normal).allocate(request(order=4))
    assert choice is not None
    assert choice.zone == 0


def test_bulk_requests_take_pages_without_halving_free_factor() -> None:
    zone = make_zone()
    fill(zone, [(1024, 10, U)])
    allocator = make_allocator(zone)
    allocator.pcps[0, 0].free_factor = 4
    assert allocator.allocate_bulk(request(), 4) == [1024, 1025, 1026, 1027]
    assert allocator.pcps[0, 0].free_factor == 4


def test_isolated_blocks_leave_their_list_and_come_back_at_the_tail() -> None:
    zone = make_zone()
    fill(zone, [(1024, 4, M), (2048, 4, M)])
    allocator = make_allocator(zone)
    assert allocator.isolate_free(0, 1024, 4)
    assert not allocator.isolate_free(0, 1024, 4)
    allocator.put_back(0, 1024, 4, M)
    assert zone.free.pfns(4, M) == (2048, 1024)


def test_frees_above_the_pageblock_order_are_cut_since_6_10() -> None:
    zone = make_zone(release=MID)
    allocator = make_allocator(zone)
    zone.free.set_pageblock_migratetype(1024, 0, U)
    allocator.free(0, 1024, 10)
    # The second half found the first one free and both became one again.
    assert zone.free.pfns(10, M) == (1024,)


@pytest.mark.parametrize(
    ("gfp", "zone"), [(0xCC0, 2), (0xCC1, 0), (0xCC4, 1), (GFP_USER_MOVABLE, 3), (0xCC8, 2)]
)
def test_gfp_zone(gfp: int, zone: int) -> None:
    assert gfp_zone(gfp) == zone
