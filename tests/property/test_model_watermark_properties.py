"""Laws of watermarks and reserves."""

from __future__ import annotations

import itertools
from math import isqrt

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.boot_watermark import Khugepaged, boot_watermarks
from analysis.model.deferred_pages import managed_while_deferred
from analysis.model.dirty_limits import dirty_limits, dirtyable_pages
from analysis.model.eras_watermark import watermark_eras
from analysis.model.lowmem_reserve import lowmem_reserve
from analysis.model.min_free import (
    automatic_min_free_kbytes,
    nr_free_buffer_pages,
    recommended_min_free_kbytes,
)
from analysis.model.release import Release
from analysis.model.totalreserve import ZoneReserve, mem_available_pages, totalreserve_pages
from analysis.model.watermark import ZoneKey, watermarks
from analysis.model.watermark_boost import max_boost_pages, possible_boosts

PAGES = st.integers(min_value=0, max_value=1 << 32)
PAGE_SIZES = st.sampled_from((4096, 16384, 65536))
ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")
RELEASES = st.sampled_from([Release(5, 10), Release(6, 1), Release(6, 12), Release(7, 3)])
MACHINES = st.dictionaries(
    st.tuples(st.integers(min_value=0, max_value=3), st.sampled_from(ZONES)), PAGES, max_size=12
).map(lambda zones: {(0, "Normal"): 100_000} | zones | {(3, "Normal"): 1})


@given(buffer_pages=PAGES, more=PAGES, page_size_bytes=PAGE_SIZES)
def test_automatic_min_free_rises_with_memory(
    buffer_pages: int, more: int, page_size_bytes: int
) -> None:
    kbytes = automatic_min_free_kbytes(buffer_pages, page_size_bytes=page_size_bytes)
    assert 128 <= kbytes <= 262144
    assert kbytes <= automatic_min_free_kbytes(buffer_pages + more, page_size_bytes=page_size_bytes)
    in_4k = buffer_pages * (page_size_bytes // 4096)
    assert kbytes == automatic_min_free_kbytes(in_4k, page_size_bytes=4096)
    if 128 < kbytes < 262144:
        assert kbytes == isqrt(buffer_pages * page_size_bytes // 1024 * 16)


@given(buffer_pages=PAGES, zones=st.integers(0, 20), order=st.integers(0, 13), size=PAGE_SIZES)
def test_khugepaged_never_asks_for_more_than_a_twentieth(
    buffer_pages: int, zones: int, order: int, size: int
) -> None:
    kbytes = recommended_min_free_kbytes(
        buffer_pages, populated_zones=zones, pageblock_pages=1 << order, page_size_bytes=size
    )
    pages, rest = divmod(kbytes, size // 1024)
    assert rest == 0
    assert pages * 20 <= buffer_pages
    assert pages <= 11 * zones << order


@given(managed=MACHINES, release=RELEASES, khugepaged=st.sampled_from(Khugepaged), size=PAGE_SIZES)
def test_a_boot_orders_its_marks(
    managed: dict[ZoneKey, int], release: Release, khugepaged: Khugepaged, size: int
) -> None:
    (era,) = watermark_eras(release)
    chain = boot_watermarks(
        managed,
        managed,
        khugepaged=khugepaged,
        populated_zones=sum(1 for pages in managed.values() if pages),
        pageblock_pages=512,
        page_size_bytes=size,
        era=era,
    )
    for zone in chain.last.values():
        assert 0 <= zone.min_pages <= zone.low_pages <= zone.high_pages <= zone.promo_pages
        gap = zone.low_pages - zone.min_pages
        assert zone.high_pages - zone.low_pages == gap == zone.promo_pages - zone.high_pages
    if khugepaged is Khugepaged.STOPPED:
        assert chain.min_free_kbytes <= chain.automatic_kbytes
    else:
        assert chain.min_free_kbytes >= chain.automatic_kbytes
    if chain.buffer_pages is not None:
        assert chain.buffer_pages <= nr_free_buffer_pages(managed, {})


@given(managed=MACHINES, kbytes=st.integers(0, 1 << 20), scale=st.integers(1, 3000))
def test_shares_of_min_free_add_up_to_no_more_than_it(
    managed: dict[ZoneKey, int], kbytes: int, scale: int
) -> None:
    marks = watermarks(
        managed,
        min_free_kbytes=kbytes,
        watermark_scale_factor=scale,
        page_size_bytes=4096,
        movable_is_lowmem=False,
    )
    shared = sum(mark.min_pages for (_, zone), mark in marks.items() if zone != "Movable")
    assert kbytes // 4 - len(managed) < shared <= kbytes // 4
    assert all(
        32 <= mark.min_pages <= 128 for (_, zone), mark in marks.items() if zone == "Movable"
    )


@given(managed=st.lists(PAGES, min_size=1, max_size=5), ratio=st.integers(0, 1000), data=st.data())
def test_lowmem_reserve_never_falls_and_never_looks_down(
    managed: list[int], ratio: int, data: st.DataObject
) -> None:
    zones = list(zip(ZONES, managed, strict=False))
    ratios = [ratio] * len(zones)
    reserve = lowmem_reserve(zones, ratios)
    for index, (zone, pages) in enumerate(zones):
        kept = reserve[zone]
        assert len(kept) == len(zones)
        assert kept[: index + 1] == (0,) * (index + 1)
        assert list(kept) == sorted(kept)
        if not pages or not ratio:
            assert not any(kept)
        else:
            assert kept[-1] == sum(above for _, above in zones[index + 1 :]) // ratio
    grown = data.draw(st.integers(0, len(zones) - 1))
    more = [(name, pages + (1000 if i == grown else 0)) for i, (name, pages) in enumerate(zones)]
    for name, kept in lowmem_reserve(more, ratios).items():
        assert all(new >= old for new, old in zip(kept, reserve[name], strict=True))


@given(
    zones=st.lists(
        st.builds(
            ZoneReserve,
            lowmem_reserve=st.lists(PAGES, max_size=5).map(tuple),
            high_pages=PAGES,
            managed_pages=PAGES,
        ),
        max_size=8,
    )
)
def test_totalreserve_is_no_more_than_memory_and_adds_up(zones: list[ZoneReserve]) -> None:
    total = totalreserve_pages(zones)
    assert total <= sum(zone.managed_pages for zone in zones)
    assert total == sum(totalreserve_pages([zone]) for zone in zones)


@given(free=PAGES, file=PAGES, slab=PAGES, reserve=PAGES, low=PAGES)
def test_available_memory_lies_between_free_and_all(
    free: int, file: int, slab: int, reserve: int, low: int
) -> None:
    def available(total: int, low_pages: int) -> int:
        return mem_available_pages(
            free_pages=free,
            file_pages=file,
            reclaimable_pages=slab,
            totalreserve=total,
            low_pages=low_pages,
        )

    assert max(0, free - reserve) <= available(reserve, low) <= free + file + slab
    assert available(reserve + 1, low) <= available(reserve, low)
    assert available(reserve, low + 1) <= available(reserve, low)
    assert 2 * (available(0, low) - free) >= file + slab


@given(
    free=PAGES,
    file=PAGES,
    reserve=PAGES,
    ratios=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    size=PAGE_SIZES,
)
def test_dirty_limits_stay_below_their_ratio(
    free: int, file: int, reserve: int, ratios: tuple[int, int], size: int
) -> None:
    dirtyable = dirtyable_pages(free_pages=free, file_pages=file, totalreserve=reserve)
    assert 1 <= dirtyable <= free + file + 1
    limits = dirty_limits(
        dirtyable, dirty_ratio=ratios[0], background_ratio=ratios[1], page_size_bytes=size
    )
    assert limits.dirty_pages * 100 <= dirtyable * ratios[0]
    assert limits.background_pages < limits.dirty_pages or limits.dirty_pages <= 1
    assert limits.background_pages * 100 <= dirtyable * max(ratios)


@given(high=PAGES, managed=PAGES, factor=st.integers(0, 30000), order=st.integers(0, 13))
def test_boosts_are_closed_and_bounded(high: int, managed: int, factor: int, order: int) -> None:
    pageblock = 1 << order
    high = min(high, 100 * pageblock)
    largest = max_boost_pages(
        high_pages=high,
        managed_pages=managed,
        watermark_boost_factor=factor,
        pageblock_pages=pageblock,
    )
    assert largest == 0 or pageblock <= largest
    assert largest <= max(pageblock, high * factor // 10000)
    possible = possible_boosts(largest, pageblock)
    assert min(possible) == 0
    assert max(possible) == largest


@given(
    largest=st.integers(0, 5000),
    order=st.integers(0, 10),
    steps=st.lists(st.sampled_from(("fall back", "kswapd begins", "kswapd ends")), max_size=40),
)
def test_no_order_of_fallbacks_and_kswapd_leaves_the_possible_boosts(
    largest: int, order: int, steps: list[str]
) -> None:
    pageblock = 1 << order
    largest = max(largest, pageblock)
    possible = possible_boosts(largest, pageblock)
    boost, seen = 0, 0
    for step in steps:
        if step == "fall back":
            boost = min(boost + pageblock, largest)
        elif step == "kswapd begins":
            seen = boost
        else:
            boost, seen = boost - min(boost, seen), 0
        assert boost in possible


@given(
    st.integers(min_value=0, max_value=1 << 28),
    st.integers(min_value=0, max_value=1 << 28),
    st.sampled_from([2048, 32768, 262144]),
)
def test_what_was_managed_while_deferred_differs_by_sections(
    there: int, deferred: int, section: int
) -> None:
    found = managed_while_deferred(there + deferred, deferred, section)
    assert found[0] == there
    assert all(more - less == section for more, less in itertools.pairwise(found))
    assert 0 <= found[-1] <= section
    if there <= section:
        assert found == (there,)
