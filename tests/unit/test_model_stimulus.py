"""Rings taken and dropped, with counts worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from analysis.model.eras import era_of
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from analysis.model.stimulus import (
    Drop,
    Prediction,
    Reserve,
    Take,
    first_zone,
    percpu_orders,
    predict,
)

U, M = Migratetype.UNMOVABLE, Migratetype.MOVABLE
NOTHING = Reserve(watermark_low_pages=0, lowmem_reserve_pages=0, unusable_pages=0, drift_pages=0)


def run(
    free_blocks: Mapping[Migratetype, tuple[int, ...]],
    *requests: Take | Drop,
    reserve: Reserve = NOTHING,
    percpu: frozenset[int] = frozenset({0}),
) -> tuple[Prediction, ...]:
    return predict(
        free_blocks,
        requests,
        reserve=reserve,
        pageblock_order=3,
        percpu=percpu,
        era=era_of(Release(6, 1)),
    )


def test_take_and_drop_restore_the_row() -> None:
    base = {U: (0, 1, 1, 0, 1), M: (2, 0, 0, 0, 5)}
    steps = run(base, Take(ring=1, blocks=4, order=1), Drop(ring=1))
    # One block of order 1, two from order 2, the fourth from order 4: 1 + 1 + 1 are left.
    assert [step.free_blocks for step in steps] == [(2, 1, 1, 1, 5), (2, 1, 1, 0, 6)]


def test_halves_of_two_rings_coalesce_when_the_second_is_dropped() -> None:
    base = {U: (0, 0, 0, 1, 0), M: (0, 0, 0, 0, 5)}
    steps = run(
        base, Take(ring=1, blocks=1, order=2), Take(ring=2, blocks=1, order=2), Drop(ring=1),
        Drop(ring=2),
    )  # fmt: skip
    assert [step.free_blocks for step in steps] == [
        (0, 0, 1, 0, 5), (0, 0, 0, 0, 5), (0, 0, 1, 0, 5), (0, 0, 0, 1, 5),
    ]  # fmt: skip


def test_a_movable_pageblock_is_claimed_for_good() -> None:
    steps = run({U: (0,) * 5, M: (0, 0, 0, 2, 0)}, Take(ring=1, blocks=2, order=2), Drop(ring=1))
    assert [step.free_blocks for step in steps] == [(0, 0, 0, 1, 0), (0, 0, 0, 2, 0)]


def test_borrowing_small_blocks_ends_the_prediction() -> None:
    steps = run(
        {U: (0, 0, 1, 0, 0), M: (0, 0, 9, 0, 0)}, Take(ring=1, blocks=2, order=2), Drop(ring=1)
    )
    assert [step.free_blocks for step in steps] == [None, None]
    assert steps[0].why == steps[1].why
    assert "ring 1: request 2 of 2: no unmovable block of order 2 is left" in steps[0].why


@pytest.mark.parametrize("name", ["watermark_low_pages", "lowmem_reserve_pages", "unusable_pages"])
def test_a_request_that_may_not_fit_is_unknown(name: str) -> None:
    base = {U: (0, 0, 0, 0, 2), M: (0,) * 5}
    take = Take(ring=1, blocks=1, order=2)
    # 32 pages are free; 3 do not count for a request of four; more than the mark must remain.
    for pages, fits in ((28, True), (29, False)):
        values = {
            "watermark_low_pages": 0, "lowmem_reserve_pages": 0, "unusable_pages": 0,
            "drift_pages": 0, name: pages,
        }  # fmt: skip
        (step,) = run(base, take, reserve=Reserve(**values))
        assert (step.free_blocks is not None) is fits


def test_list_positions_that_nobody_knows_make_counts_unknown() -> None:
    # Rings 1 and 2 hold a stranger and halves of one block. Where the stranger goes when ring 1 is
    # dropped decides whether ring 3 takes it or the half that ring 2's half could merge with.
    base = {U: (0, 0, 1, 1, 0), M: (0, 0, 0, 0, 5)}
    steps = run(
        base,
        Take(ring=1, blocks=2, order=2),
        Take(ring=2, blocks=1, order=2),
        Drop(ring=1),
        Take(ring=3, blocks=1, order=2),
        Drop(ring=2),
    )
    assert [step.free_blocks for step in steps[:4]] == [
        (0, 0, 1, 0, 5), (0, 0, 0, 0, 5), (0, 0, 2, 0, 5), (0, 0, 1, 0, 5),
    ]  # fmt: skip
    assert steps[4].free_blocks is None
    assert "list positions" in steps[4].why


def test_dropping_what_was_never_taken_is_an_error() -> None:
    with pytest.raises(ValueError, match="ring 3"):
        run({U: (1, 0, 0, 0, 0)}, Drop(ring=3))
    with pytest.raises(ValueError, match="one common number"):
        run({U: (1, 0, 0, 0, 0), M: (1,)}, Drop(ring=3))


def test_per_cpu_orders_by_release() -> None:
    assert percpu_orders(Release(5, 10), pageblock_order=9, thp=True) == {0}
    assert percpu_orders(Release(6, 1), pageblock_order=9, thp=False) == {0, 1, 2, 3}
    assert percpu_orders(Release(6, 12), pageblock_order=9, thp=None) == {0, 1, 2, 3, 9}


def test_first_zone_of_a_node() -> None:
    assert first_zone({"DMA": 1, "DMA32": 5, "Normal": 0, "Movable": 9}) == "DMA32"
    assert first_zone({"Normal": 3, "HighMem": 8}) == "Normal"
    assert first_zone({"Movable": 9}) is None
