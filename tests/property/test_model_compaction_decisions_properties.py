"""Laws of what decides about compaction, whatever the free blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.compaction_suitable import (
    Suitable,
    compact_gap,
    compaction_suitable,
    wanted_free_pages,
)
from analysis.model.eras_compaction import CompactionEra, compaction_eras_of
from analysis.model.fragmentation import free_pages, unusable_index_milli
from analysis.model.proactive_compaction import (
    ScoredZone,
    begins_proactively,
    extfrag_for_order,
    fragmentation_score_node,
    score_marks,
)
from analysis.model.release import Release

free_blocks = st.lists(st.integers(0, 5000), min_size=11, max_size=11).map(tuple)
orders = st.integers(0, 10)
eras = st.sampled_from([*compaction_eras_of(Release(6, 12)), *compaction_eras_of(Release(7, 2))])


@given(blocks=free_blocks, order=orders)
def test_the_share_is_the_unusable_index_in_percent(blocks: tuple[int, ...], order: int) -> None:
    share = extfrag_for_order(blocks, order)
    assert 0 <= share <= 100
    if free_pages(blocks):
        assert share == unusable_index_milli(blocks, order) // 10
    if order:
        assert extfrag_for_order(blocks, order - 1) <= share


@given(
    zones=st.lists(
        st.builds(ScoredZone, free_blocks=free_blocks, present_pages=st.integers(0, 1 << 24)),
        max_size=4,
    )
)
def test_a_node_is_no_worse_than_its_worst_zone(zones: list[ScoredZone]) -> None:
    score = fragmentation_score_node(zones, 9)
    worst = max((extfrag_for_order(zone.free_blocks, 9) for zone in zones), default=0)
    assert 0 <= score <= worst


@given(proactiveness=st.integers(0, 100), era=eras, score=st.integers(0, 100))
def test_marks_are_in_order_and_fall_with_proactiveness(
    proactiveness: int, era: CompactionEra, score: int
) -> None:
    marks = score_marks(proactiveness, era)
    assert 0 <= marks.low <= marks.high <= 100
    if proactiveness:
        before = score_marks(proactiveness - 1, era)
        assert marks.low <= before.low
        assert marks.high <= before.high
    if begins_proactively(score, proactiveness, era):
        assert score > marks.high


@given(
    blocks=free_blocks,
    order=orders,
    wanted=st.integers(0, 1 << 20),
    reserve=st.integers(0, 1 << 16),
    usable=st.integers(0, 1 << 21),
    more=st.integers(0, 1 << 20),
)
def test_more_free_memory_is_never_skipped_instead(
    blocks: tuple[int, ...], order: int, wanted: int, reserve: int, usable: int, more: int
) -> None:
    def verdict(pages: int) -> Suitable:
        return compaction_suitable(
            blocks,
            order,
            usable_free_pages=pages,
            wanted_pages=wanted,
            lowmem_reserve_pages=reserve,
        )

    if verdict(usable) is not Suitable.SKIPPED:
        assert verdict(usable + more) is verdict(usable)
    if order <= 3:
        assert verdict(usable) is not Suitable.NOT_SUITABLE_ZONE


@given(order=orders, low=st.integers(0, 1 << 20), mark=st.integers(0, 1 << 20), era=eras)
def test_what_must_be_free_lies_beyond_a_watermark(
    order: int, low: int, mark: int, era: CompactionEra
) -> None:
    minimum = low * 4 // 5
    wanted = wanted_free_pages(
        order, min_pages=minimum, low_pages=low, watermark_pages=mark, era=era
    )
    floor = mark if era.watermark_from_caller else minimum
    assert wanted >= floor + compact_gap(order, era)
