"""The model's arithmetic against numbers worked out by hand."""

from __future__ import annotations

import pytest

from analysis.model.fragmentation import extfrag_index_milli, unusable_index_milli
from analysis.model.release import Release, parse_release
from analysis.model.watermark import Watermarks, movable_counts_as_lowmem, watermarks


@pytest.mark.parametrize(
    ("free_blocks", "order", "unusable", "extfrag"),
    [
        ((0, 0, 0), 1, 1000, 0),
        ((1, 0, 0), 1, 1000, -500),
        ((1, 0, 1), 0, 0, -1000),
        ((1, 0, 1), 1, 200, -1000),
        ((3, 0, 1), 2, 428, -1000),
        ((100, 0, 0), 2, 1000, 740),
        ((7, 3, 0), 2, 1000, 575),
    ],
)
def test_indexes(free_blocks: tuple[int, ...], order: int, unusable: int, extfrag: int) -> None:
    assert unusable_index_milli(free_blocks, order) == unusable
    assert extfrag_index_milli(free_blocks, order) == extfrag


def test_an_order_that_the_zone_lacks_is_an_error() -> None:
    with pytest.raises(IndexError, match="orders 0 to 2"):
        unusable_index_milli((1, 2, 3), 3)
    with pytest.raises(IndexError, match="orders 0 to 2"):
        extfrag_index_milli((1, 2, 3), -1)


def marks(
    managed: dict[str, int], *, movable_is_lowmem: bool, kbytes: int = 4096, scale: int = 10
) -> dict[str, tuple[int, int, int, int]]:
    found = watermarks(
        {(0, zone): pages for zone, pages in managed.items()},
        min_free_kbytes=kbytes,
        watermark_scale_factor=scale,
        page_size_bytes=4096,
        movable_is_lowmem=movable_is_lowmem,
    )
    return {
        zone: (mark.min_pages, mark.low_pages, mark.high_pages, mark.promo_pages)
        for (_, zone), mark in found.items()
    }


def test_watermarks_share_min_free_kbytes() -> None:
    # 1024 pages over 250000; the distance is the larger of a quarter and managed/1000.
    assert marks({"DMA32": 120000, "Normal": 130000}, movable_is_lowmem=True) == {
        "DMA32": (491, 613, 735, 857),
        "Normal": (532, 665, 798, 931),
    }
    wide = marks({"DMA32": 120000, "Normal": 130000}, movable_is_lowmem=True, scale=100)
    assert wide["Normal"] == (532, 1832, 3132, 4432)


def test_movable_is_capped_where_it_is_no_lowmem() -> None:
    zones = {"Normal": 100000, "Movable": 100000}
    assert marks(zones, movable_is_lowmem=True)["Movable"][0] == 512
    capped = marks(zones, movable_is_lowmem=False)
    # 100000/1024 = 97; the distance still comes from its share, 1024/4.
    assert capped["Movable"] == (97, 353, 609, 865)
    assert capped["Normal"][0] == 1024
    assert marks({"Normal": 100, "Movable": 0}, movable_is_lowmem=False)["Movable"] == (32,) * 4
    assert marks({"Normal": 100, "Movable": 0}, movable_is_lowmem=True)["Movable"] == (0,) * 4


def test_highmem_is_capped_and_takes_movable_with_it() -> None:
    zones = {"Normal": 200000, "HighMem": 500000, "Movable": 1000}
    found = marks(zones, movable_is_lowmem=True)
    assert found["HighMem"][0] == 128
    assert found["Movable"][0] == 32
    assert found["Normal"][0] == 1024


def test_watermarks_of_a_large_page_size() -> None:
    found = watermarks(
        {(0, "Normal"): 65536},
        min_free_kbytes=5000,
        watermark_scale_factor=10,
        page_size_bytes=65536,
        movable_is_lowmem=False,
    )
    # 5000 >> 6 = 78 pages
    expected = Watermarks(min_pages=78, low_pages=143, high_pages=208, promo_pages=273)
    assert found[0, "Normal"] == expected


def test_watermarks_need_lowmem() -> None:
    with pytest.raises(ValueError, match="lowmem"):
        marks({"HighMem": 5}, movable_is_lowmem=True)


def test_releases() -> None:
    assert parse_release("6.1.0-37-amd64") == Release(6, 1) < Release(6, 12)
    assert str(parse_release("7.3-rc2")) == "7.3"
    with pytest.raises(ValueError, match="not a kernel release"):
        parse_release("next-20250101")
    assert movable_counts_as_lowmem(Release(5, 10)) == {True}
    assert movable_counts_as_lowmem(Release(6, 12)) == {False}
    assert movable_counts_as_lowmem(Release(6, 6)) == {True, False}
