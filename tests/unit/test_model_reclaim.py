"""Checks of watermarks, and how kswapd's rounds end."""

from __future__ import annotations

from analysis.model.compaction_suitable import request_met
from analysis.model.reclaim import KswapdRounds, ZoneFree


def test_a_zone_at_its_mark_does_not_pass() -> None:
    assert ZoneFree(free_pages=1379, mark_pages=1379).margin_pages == 0
    assert ZoneFree(free_pages=1380, mark_pages=1379).margin_pages == 1


def test_reserve_boost_and_unusable_pages_are_kept() -> None:
    zone = ZoneFree(
        free_pages=484, mark_pages=183, reserve_pages=169, unusable_pages=32, boost_pages=100
    )
    assert zone.margin_pages == 0


def test_a_larger_request_needs_its_own_pages_besides() -> None:
    assert ZoneFree(free_pages=100, mark_pages=0, order=3).margin_pages == 93


def test_rounds_end_in_three_ways() -> None:
    rounds = KswapdRounds(begun=49, slept=7, low_hit_quickly=37, high_hit_quickly=5)
    assert rounds.ended == rounds.begun


def test_a_request_is_met_by_pages_and_by_a_block() -> None:
    def met(blocks: tuple[int, ...], order: int, free: int) -> bool:
        return request_met(
            blocks, order, usable_free_pages=free, watermark_pages=100, lowmem_reserve_pages=10
        )

    assert not met((111, 0, 0), 0, 110)
    assert met((111, 0, 0), 0, 111)
    assert not met((500, 0, 0), 1, 500)
    assert met((500, 0, 1), 1, 504)
    assert not met((0, 0, 28), 2, 113)  # 113 - 3 = 110 is not above 100 + 10
    assert met((0, 0, 29), 2, 114)
