"""Watermarks, reserves and the chain of a boot against numbers worked out by hand."""

from __future__ import annotations

import pytest

from analysis.model.boot_watermark import (
    BootWatermarks,
    Khugepaged,
    boot_watermarks,
    khugepaged_min_free_kbytes,
)
from analysis.model.dirty_limits import dirty_limits, dirtyable_pages
from analysis.model.eras_watermark import watermark_eras
from analysis.model.lowmem_reserve import default_ratios, lowmem_reserve
from analysis.model.min_free import (
    automatic_min_free_kbytes,
    holds_buffers,
    nr_free_buffer_pages,
    recommended_min_free_kbytes,
)
from analysis.model.release import Release
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages
from analysis.model.watermark import ZoneKey, capped_zones
from analysis.model.watermark_boost import max_boost_pages, possible_boosts

DMA: ZoneKey = (0, "DMA")
DMA32: ZoneKey = (0, "DMA32")
MANAGED = {DMA: 3840, DMA32: 246160}
"""250,000 pages of 4 KiB: a million KiB, of which 16 times has the root 4000."""
(OLD,) = watermark_eras(Release(5, 10))
(NEW,) = watermark_eras(Release(7, 3))


def boot(
    managed: dict[ZoneKey, int] = MANAGED,
    *,
    first: dict[ZoneKey, int] | None = None,
    khugepaged: Khugepaged = Khugepaged.STARTED,
    page_size_bytes: int = 4096,
    pageblock_pages: int = 512,
) -> BootWatermarks:
    return boot_watermarks(
        first or managed,
        managed,
        khugepaged=khugepaged,
        populated_zones=sum(1 for pages in managed.values() if pages),
        pageblock_pages=pageblock_pages,
        page_size_bytes=page_size_bytes,
        era=NEW,
    )


def marks(chain: BootWatermarks, key: ZoneKey) -> tuple[int, int, int, int]:
    zone = chain.last[key]
    return zone.min_pages, zone.low_pages, zone.high_pages, zone.promo_pages


def test_the_chain_of_a_boot() -> None:
    chain = boot()
    assert chain.automatic_kbytes == 4000
    # 1000 pages: DMA 15.36 of them, gap 3 (a thousandth); DMA32 984.64, gap 246.
    assert (chain.first[DMA].high_pages, chain.first[DMA32].high_pages) == (21, 1476)
    assert chain.buffer_pages == 250_000 - 21 - 1476
    # Two zones of eleven pageblocks are less than a twentieth of that.
    assert chain.recommended_kbytes == 2 * 11 * 512 * 4 == chain.min_free_kbytes
    # 11264 pages: DMA 173.01 of them, a quarter is 43; DMA32 11090.98, a quarter 2772.
    assert marks(chain, DMA) == (173, 216, 259, 302)
    assert marks(chain, DMA32) == (11090, 13862, 16634, 19406)


def test_khugepaged_asks_for_a_twentieth_at_most() -> None:
    chain = boot({DMA: 3840, DMA32: 156160})
    # sqrt(16 x 640000) = 3200 KiB, 800 pages: DMA 19.2, gap 4; DMA32 780.8, gap 195.
    assert chain.automatic_kbytes == 3200
    assert chain.buffer_pages == 160_000 - 27 - 1170
    assert chain.recommended_kbytes == 158_803 // 20 * 4


def test_what_came_between_the_two_computations_counts_in_the_second_only() -> None:
    chain = boot(first={DMA: 3840, DMA32: 236160})
    assert chain.automatic_kbytes == 3919  # the root of 16 x 960000 is 3919.2
    assert chain.buffer_pages is not None
    assert chain.buffer_pages > 240_000
    assert marks(chain, DMA32) == (11090, 13862, 16634, 19406)


def test_never_wanted_computes_the_automatic_value_again_after_5_10() -> None:
    chain = boot(khugepaged=Khugepaged.STOPPED)
    # 250000 - 1497 pages beyond the first high watermarks: the root of 15904192 is 3988.006.
    assert chain.min_free_kbytes == 3988
    assert chain.recommended_kbytes is None
    old = boot_watermarks(
        MANAGED, MANAGED, khugepaged=Khugepaged.STOPPED, populated_zones=2, pageblock_pages=512,
        page_size_bytes=4096, era=OLD,
    )  # fmt: skip
    assert (old.min_free_kbytes, old.buffer_pages) == (4000, None)
    assert old.last == old.first


def test_khugepaged_that_is_absent_asks_for_nothing() -> None:
    with pytest.raises(ValueError, match="not there"):
        khugepaged_min_free_kbytes(
            4000, MANAGED, {}, khugepaged=Khugepaged.ABSENT, populated_zones=2,
            pageblock_pages=512, page_size_bytes=4096,
        )  # fmt: skip


def test_a_machine_below_512_mib_starts_no_khugepaged() -> None:
    chain = boot({DMA: 3840, DMA32: 131071 - 3840})
    assert chain.recommended_kbytes is None
    assert chain.min_free_kbytes == 2896
    assert boot({DMA: 3840, DMA32: 131072 - 3840}).recommended_kbytes is not None


def test_pages_of_16_kib() -> None:
    chain = boot({DMA: 60000}, page_size_bytes=16384, pageblock_pages=2048)
    # 960,000 KiB: the root of 15,360,000 is 3919.2; 244 pages, a quarter 61, a thousandth 60.
    assert chain.automatic_kbytes == 3919
    assert chain.first[DMA].high_pages == 244 + 2 * 61
    assert chain.recommended_kbytes == (60000 - 366) // 20 * 16
    assert marks(chain, DMA) == (2981, 2981 + 745, 2981 + 2 * 745, 2981 + 3 * 745)


def test_memoryless_nodes_and_movable_zones_take_no_part() -> None:
    managed = {**MANAGED, (0, "Movable"): 50_000, (1, "Normal"): 0, (1, "Movable"): 0}
    assert nr_free_buffer_pages(managed, {}) == 250_000
    chain = boot(managed)
    assert chain.automatic_kbytes == 4000
    assert marks(chain, (1, "Normal")) == (0, 0, 0, 0)
    assert marks(chain, (1, "Movable")) == (32, 32, 32, 32)
    assert chain.last[0, "Movable"].min_pages == 50_000 // 1024


@pytest.mark.parametrize(
    ("zone", "answer"),
    [("DMA", True), ("Normal", True), ("HighMem", False), ("Movable", False), ("Device", False)],
)
def test_zones_up_to_normal_hold_buffers(zone: str, answer: bool) -> None:
    assert holds_buffers(zone) is answer


@pytest.mark.parametrize(
    ("buffer_pages", "kbytes"),
    [
        (0, 128),
        (255, 128),  # 1020 KiB: 127.7
        (256, 128),
        (1 << 18, 4096),
        (1 << 30, 262144),  # 4 TiB: exactly the bound
        (1 << 31, 262144),
    ],
)
def test_the_automatic_value_has_bounds(buffer_pages: int, kbytes: int) -> None:
    assert automatic_min_free_kbytes(buffer_pages, page_size_bytes=4096) == kbytes


def test_a_zone_below_its_high_watermark_adds_nothing() -> None:
    assert nr_free_buffer_pages({DMA: 10, DMA32: 100}, {DMA: 20, DMA32: 30}) == 70


def test_recommended_with_no_zones() -> None:
    assert (
        recommended_min_free_kbytes(
            1000, populated_zones=0, pageblock_pages=512, page_size_bytes=4096
        )
        == 0
    )


def test_eras() -> None:
    assert (OLD.movable_is_lowmem, OLD.recomputes_without_khugepaged) == (True, False)
    (six,) = watermark_eras(Release(6, 1))
    assert (six.movable_is_lowmem, six.recomputes_without_khugepaged) == (True, True)
    assert not six.reserve_follows_managed
    assert (NEW.movable_is_lowmem, NEW.reserve_follows_managed) == (False, True)
    assert len(watermark_eras(Release(5, 15))) == 4, "highmem by name or range, khugepaged stopped"
    assert (OLD.highmem_by_name, six.highmem_by_name) == (True, False)
    assert len(watermark_eras(Release(6, 8))) == 2
    assert watermark_eras(Release(9, 0)) == (NEW,)
    (oldest,) = watermark_eras(Release(4, 18))
    assert (oldest.automatic_kbytes_max, oldest.empty_zones_keep, oldest.boosts) == (
        65536,
        True,
        False,
    )
    assert (OLD.automatic_kbytes_max, OLD.empty_zones_keep, OLD.boosts) == (262144, False, True)
    assert len(watermark_eras(Release(5, 4))) == 4
    with pytest.raises(ValueError, match=r"4\.18"):
        watermark_eras(Release(4, 17))


def test_lowmem_reserve_of_a_server() -> None:
    zones = [
        ("DMA", 3840),
        ("DMA32", 768_000),
        ("Normal", 8_000_000),
        ("Movable", 0),
        ("Device", 0),
    ]
    assert lowmem_reserve(zones, (256, 256, 32, 0, 0)) == {
        "DMA": (0, 3000, 34250, 34250, 34250),
        "DMA32": (0, 0, 31250, 31250, 31250),
        "Normal": (0, 0, 0, 0, 0),
        "Movable": (0, 0, 0, 0, 0),
        "Device": (0, 0, 0, 0, 0),
    }


def test_lowmem_reserve_of_an_empty_zone_and_of_ratio_0() -> None:
    assert lowmem_reserve([("DMA", 0), ("Normal", 1000)], (256, 32))["DMA"] == (0, 0)
    assert lowmem_reserve([("DMA", 10), ("Normal", 1000)], (0, 32))["DMA"] == (0, 0)
    assert lowmem_reserve([("Normal", 3200), ("Movable", 320)], (32, 0))["Normal"] == (0, 10)
    assert lowmem_reserve([], ()) == {}


def test_empty_zones_kept_something_once() -> None:
    zones = [("DMA", 0), ("Normal", 1000)]
    assert lowmem_reserve(zones, (250, 32), empty_keep=True)["DMA"] == (0, 4)


def test_the_automatic_value_ended_at_64_mib_once() -> None:
    pages = 1 << 30  # 4 TiB: the root of 2^36 is 262144
    assert automatic_min_free_kbytes(pages, page_size_bytes=4096) == 262144
    assert automatic_min_free_kbytes(pages, page_size_bytes=4096, kbytes_max=65536) == 65536


def test_what_is_reclaimable_indirectly_counts_in_full() -> None:
    numbers = {
        "free_pages": 1000,
        "file_pages": 100,
        "reclaimable_pages": 100,
        "totalreserve": 500,
        "low_pages": 1000,
    }
    assert mem_available_pages(**numbers) == 600
    assert mem_available_pages(**numbers, indirectly_reclaimable_pages=131) == 731


@pytest.mark.parametrize("ratios", [(256,), (256, -1), (256, 32, 0)])
def test_lowmem_reserve_wants_a_ratio_for_each_zone(ratios: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one each"):
        lowmem_reserve([("DMA", 1), ("Normal", 2)], ratios)


def test_default_ratios() -> None:
    assert default_ratios(("DMA", "DMA32", "Normal", "Movable")) == (256, 256, 32, 0)
    assert default_ratios(("DMA", "Normal", "HighMem", "Movable")) == (256, 32, 0, 0)


def test_totalreserve_is_capped_by_what_a_zone_manages() -> None:
    dma = ZoneReserve(lowmem_reserve=(0, 3000, 34250), high_pages=20, managed_pages=3840)
    normal = ZoneReserve(lowmem_reserve=(0, 0, 0), high_pages=9000, managed_pages=8_000_000)
    assert dma.pages == 3840
    assert totalreserve_pages([dma, normal]) == 12840
    assert totalreserve_pages([]) == 0


def test_mem_available() -> None:
    # Of 400 file pages 100 stay (the low watermarks), of 60 reclaimable ones 30 (half).
    assert (
        mem_available_pages(
            free_pages=1000, file_pages=400, reclaimable_pages=60, totalreserve=150, low_pages=100
        )
        == 850 + 300 + 30
    )
    assert (
        mem_available_pages(
            free_pages=10, file_pages=0, reclaimable_pages=0, totalreserve=150, low_pages=100
        )
        == 0
    )


def test_dirty_limits() -> None:
    dirtyable = dirtyable_pages(free_pages=100_000, file_pages=5000, totalreserve=4999)
    assert dirtyable == 100_002
    limits = dirty_limits(dirtyable, dirty_ratio=20, background_ratio=10, page_size_bytes=4096)
    # 20 % of a page are 819 bytes of 4096, 10 % are 409.
    assert (limits.dirty_pages, limits.background_pages) == (
        819 * 100_002 // 4096,
        409 * 100_002 // 4096,
    )


def test_dirty_limits_in_bytes_round_up_and_background_stays_below() -> None:
    limits = dirty_limits(
        1000, dirty_ratio=0, background_ratio=0, dirty_bytes=8193, background_bytes=1 << 20,
        page_size_bytes=4096,
    )  # fmt: skip
    assert (limits.dirty_pages, limits.background_pages) == (3, 1)


def test_nothing_dirtyable_and_highmem() -> None:
    assert dirtyable_pages(free_pages=5, file_pages=0, totalreserve=9) == 1
    assert dirtyable_pages(free_pages=50, file_pages=9, totalreserve=9, highmem_pages=20) == 31
    assert dirtyable_pages(free_pages=5, file_pages=0, totalreserve=0, highmem_pages=20) == 1


@pytest.mark.parametrize(
    ("high", "managed", "factor", "largest"),
    [
        (16634, 246160, 15000, 24951),
        (100, 246160, 15000, 512),  # at least a pageblock
        (259, 3840, 15000, 512),
        (259, 2047, 15000, 0),  # below four pageblocks
        (16634, 246160, 0, 0),
        (0, 246160, 15000, 0),
    ],
)
def test_the_largest_boost(high: int, managed: int, factor: int, largest: int) -> None:
    assert (
        max_boost_pages(
            high_pages=high,
            managed_pages=managed,
            watermark_boost_factor=factor,
            pageblock_pages=512,
        )
        == largest
    )


def test_possible_boosts() -> None:
    assert possible_boosts(0, 512) == {0}
    assert possible_boosts(512, 512) == {0, 512}
    assert possible_boosts(1200, 512) == {0, 512, 1024, 1200, 688, 176}
    with pytest.raises(ValueError, match="pageblock"):
        possible_boosts(100, 0)


@pytest.mark.parametrize(
    ("zones", "movable_is_lowmem", "by_name", "capped"),
    [
        ({"Normal": 100, "Movable": 10}, True, True, {"HighMem"}),
        ({"Normal": 100, "Movable": 10}, False, False, {"HighMem", "Movable"}),
        ({"Normal": 100, "HighMem": 5, "Movable": 10}, True, False, {"HighMem", "Movable"}),
        # 5.10 on an i386 machine whose memory is all low: the zone is there, and empty
        ({"Normal": 100, "HighMem": 0, "Movable": 0}, True, True, {"HighMem", "Movable"}),
        ({"Normal": 100, "HighMem": 0, "Movable": 0}, True, False, {"HighMem"}),
    ],
)
def test_capped_zones(
    zones: dict[str, int], movable_is_lowmem: bool, by_name: bool, capped: set[str]
) -> None:
    managed = {(0, name): pages for name, pages in zones.items()}
    found = capped_zones(managed, movable_is_lowmem=movable_is_lowmem, highmem_by_name=by_name)
    assert found == capped
