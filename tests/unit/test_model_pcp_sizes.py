"""Sizes of per-cpu lists, by numbers worked out by hand and seen in guests."""

from __future__ import annotations

import pytest

from analysis.model.eras_pcp_sizes import pcp_sizes_era_of
from analysis.model.pcp_sizes import (
    high_from_batch,
    high_limits,
    pageset_batch,
    sharing_cpus,
    sizes_by_fraction,
    zone_batchsize,
    zone_highsize,
)
from analysis.model.release import Release
from analysis.model.stat_threshold import normal_threshold

KIB4, KIB16, KIB64 = 4096, 16384, 65536


@pytest.mark.parametrize(
    ("managed", "page_size", "batchsize"),
    [
        (0, KIB4, 0),
        (3977, KIB4, 0),  # DMA: 3 / 4 = 0, taken as 1; 1 - 1
        (29587, KIB4, 7),  # 28 / 4 = 7; 10 → 8 - 1
        (83914, KIB4, 15),  # 81 / 4 = 20; 30 → 16 - 1
        (90112 - 1, KIB4, 15),  # 87 / 4 = 21; 31
        (90112, KIB4, 31),  # 88 / 4 = 22; 33 → 32 - 1
        (173430, KIB4, 31),  # 169 / 4 = 42; 63
        (178364, KIB4, 63),  # 174 / 4 = 43; 64
        (257786, KIB4, 63),
        (100_000_000, KIB4, 63),  # at most 1 MiB: 256 / 4 = 64; 96 → 64 - 1
        (62817, KIB16, 15),  # 61 / 4 = 15; 22 → 16 - 1
        (190267, KIB16, 15),  # 64 (1 MiB) / 4 = 16; 24
        (32768, KIB64, 3),  # 16 (1 MiB) / 4 = 4; 6 → 4 - 1
    ],
)
def test_batchsize(managed: int, page_size: int, batchsize: int) -> None:
    assert zone_batchsize(managed, page_size) == batchsize


def test_the_limit_was_half_a_mebibyte() -> None:
    assert zone_batchsize(1_000_000, KIB4, limit_kib=512) == 31  # 128 / 4 = 32; 48 → 32 - 1


def test_a_list_takes_at_least_one() -> None:
    assert pageset_batch(0) == 1
    assert pageset_batch(31) == 31


def test_six_batches_before_5_14() -> None:
    assert high_from_batch(63) == 378
    assert high_from_batch(0) == 0


@pytest.mark.parametrize(
    ("managed", "fraction", "page_size", "sizes"),
    [
        (3977, 16, KIB4, (248, 62)),
        (178364, 16, KIB4, (11147, 96)),  # 2786, but at most 8 * 12
        (62817, 8, KIB16, (7852, 112)),
        (20, 16, KIB4, (1, 1)),
    ],
)
def test_fraction_before_5_14(
    managed: int, fraction: int, page_size: int, sizes: tuple[int, int]
) -> None:
    assert sizes_by_fraction(managed, fraction, page_size) == sizes


def test_no_fraction_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        sizes_by_fraction(1000, 0, KIB4)


def test_high_is_a_share_of_the_low_watermark() -> None:
    assert zone_highsize(10695, 31, 2) == 5347
    assert zone_highsize(62, 1, 4) == 15
    assert zone_highsize(246, 63, 4) == 252  # four batches are more than 61


def test_a_node_without_cpus_is_shared_by_all() -> None:
    assert sharing_cpus(0, 4) == 4
    assert sharing_cpus(1, 4) == 1


def test_limits_seen_in_a_guest() -> None:
    # 7.2 x86_64, 1 GiB, one CPU: 242738 managed later, 5285 pages fewer when it was computed
    assert high_limits(242738 - 5285, 13855, 63, 1) == (13855, 29681)
    # its DMA zone: a batch of 1
    assert high_limits(3840, 223, 1, 1) == (223, 480)


def test_a_fraction_fixes_both_limits() -> None:
    assert high_limits(178364, 10761, 63, 2, fraction=16) == (5573, 5573)


def test_eras() -> None:
    assert pcp_sizes_era_of(Release(4, 18)).batch_limit_kib == 512
    assert not pcp_sizes_era_of(Release(5, 13)).high_follows_low
    assert pcp_sizes_era_of(Release(5, 14)).high_follows_low
    assert not pcp_sizes_era_of(Release(6, 6)).tunes_itself
    assert pcp_sizes_era_of(Release(6, 7)).tunes_itself


@pytest.mark.parametrize(
    ("managed", "cpus", "page_shift", "pages"),
    [
        (3977, 1, 12, 2),  # no 128 MiB: 2 * 1 * 1
        (242939, 1, 12, 8),  # 7 of them, 3 bits: 2 * 1 * 4
        (242939, 2, 12, 16),
        (32768, 4, 12, 12),  # exactly one: 2 * 3 * 2
        (32767, 4, 12, 6),
        (62817, 2, 14, 16),
        (100_000_000, 128, 12, 125),  # 2 * 8 * 13
    ],
)
def test_normal_threshold(managed: int, cpus: int, page_shift: int, pages: int) -> None:
    assert normal_threshold(managed, cpus, page_shift) == pages
