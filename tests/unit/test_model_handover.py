"""memblock's lists, the hand-over and the lines of a boot, computed by hand."""

from __future__ import annotations

import pytest

from analysis.model.eras import era_of
from analysis.model.freelist import Migratetype
from analysis.model.handover import boot_lines, freed
from analysis.model.handover.boot_lines import Unavailable
from analysis.model.handover.eras_handover import handover_era_of
from analysis.model.handover.first_lists import first_lists
from analysis.model.handover.freed import Block
from analysis.model.handover.memblock import (
    Region,
    RegionList,
    add,
    covered,
    gaps,
    merged,
    region_list,
    remove,
    set_flags,
    set_node,
    trim,
)
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span
from analysis.model.layout.zones import ZoneLayout
from analysis.model.release import Release


def lists(*spans: tuple[int, int]) -> RegionList:
    return region_list(Region(base, end) for base, end in spans)


def spans(memory: RegionList) -> list[tuple[int, int]]:
    return [(region.base, region.end) for region in memory.regions]


def zone(node: int, name: str, start: int, end: int, present: int | None = None) -> ZoneLayout:
    return ZoneLayout(
        node=node,
        zone=name,
        start_pfn=start,
        spanned_pages=end - start,
        present_pages=end - start if present is None else present,
    )


# memblock


def test_adding_fills_only_what_is_missing() -> None:
    kept = RegionList((Region(0x2000, 0x3000, node=0, flags=4),), 0x1000)
    after = add(kept, Region(0x1000, 0x5000, node=1))
    assert after.regions == (
        Region(0x1000, 0x2000, node=1),
        Region(0x2000, 0x3000, node=0, flags=4),
        Region(0x3000, 0x5000, node=1),
    )
    assert after.total_bytes == 0x4000


def test_neighbours_become_one() -> None:
    assert spans(add(lists((0, 0x1000), (0x2000, 0x3000)), Region(0x1000, 0x2000))) == [(0, 0x3000)]
    apart = (Region(0, 1, node=0), Region(1, 2, node=1), Region(2, 3, node=1, flags=1))
    assert merged(apart) == apart
    assert covered(apart) == (Span(0, 3),)


def test_adding_to_nothing_and_adding_nothing_new() -> None:
    assert spans(add(RegionList(), Region(5, 9))) == [(5, 9)]
    assert add(lists((0, 10)), Region(2, 5)) == lists((0, 10))


def test_removing_cuts() -> None:
    assert spans(remove(lists((0, 10), (20, 30)), Span(5, 25))) == [(0, 5), (25, 30)]
    assert spans(remove(lists((0, 10)), Span(3, 4))) == [(0, 3), (4, 10)]
    assert remove(lists((0, 10)), Span(0, 10)) == RegionList()
    assert remove(lists((0, 10)), Span(10, 20)) == lists((0, 10))
    assert remove(lists((0, 10), (20, 30)), Span(5, 25)).total_bytes == 10


def test_a_node_given_splits_and_the_same_node_joins() -> None:
    split = set_node(lists((0, 10)), Span(4, 20), 1)
    assert split.regions == (Region(0, 4), Region(4, 10, node=1))
    assert set_node(split, Span(0, 20), 0).regions == (Region(0, 10, node=0),)


def test_flags() -> None:
    marked = set_flags(lists((0, 10)), Span(2, 4), flags=4, on=True)
    assert marked.regions == (Region(0, 2), Region(2, 4, flags=4), Region(4, 10))
    assert set_flags(marked, Span(0, 10), flags=4, on=False) == lists((0, 10))


def test_trimming_keeps_the_sum() -> None:
    # QEMU's first range ends at 0x9fc00: 0xc00 bytes stay in the sum and in no region.
    trimmed = trim(lists((0x1000, 0x9FC00), (0x100000, 0x200000)), 0x1000)
    assert spans(trimmed) == [(0x1000, 0x9F000), (0x100000, 0x200000)]
    assert trimmed.total_bytes - sum(r.size for r in trimmed.regions) == 0xC00
    assert trim(lists((0x800, 0x1800)), 0x1000) == RegionList()


def test_gaps() -> None:
    assert list(gaps([Region(2, 4), Region(6, 8)], Span(0, 10))) == [
        Span(0, 2),
        Span(4, 6),
        Span(8, 10),
    ]
    assert list(gaps([Region(0, 20)], Span(5, 10))) == []
    assert list(gaps([], Span(5, 10))) == [Span(5, 10)]


def test_regions_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="not behind"):
        region_list([Region(5, 10), Region(0, 3)])
    with pytest.raises(ValueError, match="empty"):
        region_list([Region(5, 5)])


# the hand-over


def test_a_page_with_one_reserved_byte_stays() -> None:
    memory = [NodeSpan(0, 0, 8), NodeSpan(1, 8, 12)]
    reserved = [Region(0x2FFF, 0x3001), Region(0x8000, 0x9000)]
    assert freed.handed_over(memory, reserved, 0x1000) == (
        NodeSpan(0, 0, 2),
        NodeSpan(0, 4, 8),
        NodeSpan(1, 9, 12),
    )


def test_no_whole_page_is_nothing() -> None:
    assert freed.handed_over([NodeSpan(0, 0, 1)], [Region(100, 200)], 4096) == ()


def test_large_pages() -> None:
    # The same reserved KiB costs a page of 4 KiB, and one of 16 KiB.
    reserved = [Region(0x4000, 0x4400)]
    small = freed.handed_over([NodeSpan(0, 0, 16)], reserved, 4096)
    large = freed.handed_over([NodeSpan(0, 0, 4)], reserved, 16384)
    assert sum(end - start for _, start, end in small) == 15
    assert sum(end - start for _, start, end in large) == 3


def test_pages_go_to_the_zone_of_their_node() -> None:
    zones = [zone(0, "DMA32", 0, 100), zone(0, "Normal", 100, 200), zone(1, "Normal", 50, 300)]
    ranges = [NodeSpan(0, 90, 110), NodeSpan(1, 60, 70)]
    assert freed.pages_by_zone(ranges, zones) == {
        (0, "DMA32"): 10,
        (0, "Normal"): 10,
        (1, "Normal"): 10,
    }


def test_an_empty_zone_has_none() -> None:
    assert freed.pages_by_zone([NodeSpan(0, 0, 9)], [zone(0, "Normal", 0, 0)]) == {(0, "Normal"): 0}


@pytest.mark.parametrize(
    ("span", "blocks"),
    [
        (Span(0, 1024), [(0, 10)]),
        (Span(0, 2048), [(0, 10), (1024, 10)]),
        (Span(1, 8), [(1, 0), (2, 1), (4, 2)]),
        (Span(3, 10), [(3, 0), (4, 2), (8, 1)]),
        (Span(1024, 1025), [(1024, 0)]),
        (Span(5, 5), []),
        (Span(0, 3), [(0, 1), (2, 0)]),
    ],
)
def test_first_blocks(span: Span, blocks: list[tuple[int, int]]) -> None:
    assert list(freed.first_blocks(span, 10)) == [Block(*block) for block in blocks]


SECTION = 32768


def test_a_node_of_one_section_defers_nothing() -> None:
    zones = [zone(0, "DMA32", 0, SECTION)]
    assert freed.first_deferred([NodeSpan(0, 0, SECTION)], zones, SECTION) == {}


def test_more_than_a_section_up_to_the_next_border() -> None:
    # 512 MiB in DMA32 from 16 MiB on, as node 0 of a 1 GiB machine: the zone begins 4096 pages
    # into a section, so a section's worth ends inside one, and 0x10000 is the next border.
    zones = [zone(0, "DMA", 1, 4096), zone(0, "DMA32", 4096, 0x20000)]
    memory = [NodeSpan(0, 1, 0x9F), NodeSpan(0, 0x100, 0x20000)]
    assert freed.first_deferred(memory, zones, SECTION) == {0: 0x10000}
    # An aligned node stops one section behind its begin.
    assert freed.first_deferred(
        [NodeSpan(1, 0x20000, 0x40000)], [zone(1, "DMA32", 0x20000, 0x40000)], SECTION
    ) == {1: 0x28000}


def test_only_the_last_zone_of_a_node_waits() -> None:
    zones = [zone(0, "Normal", 0, 4 * SECTION), zone(0, "Movable", 4 * SECTION, 5 * SECTION)]
    assert freed.first_deferred([NodeSpan(0, 0, 5 * SECTION)], zones, SECTION) == {}


def test_counting_goes_on_behind_a_hole() -> None:
    zones = [zone(0, "Normal", 0, 8 * SECTION)]
    memory = [NodeSpan(0, 0, SECTION // 2), NodeSpan(0, 4 * SECTION, 8 * SECTION)]
    assert freed.first_deferred(memory, zones, SECTION) == {0: 5 * SECTION}


def test_blocks_from_the_first_deferred_page_on_are_not_free() -> None:
    ranges = [NodeSpan(0, 0, 4096), NodeSpan(1, 4096, 8192)]
    assert freed.free_at_once(ranges, {0: 1024}, 10) == {0: 1024, 1: 4096}
    assert freed.free_at_once(ranges, {0: 0}, 10) == {1: 4096}


def test_page_tables_of_the_vmalloc_area() -> None:
    # 32 TiB / 512 GiB and 12800 TiB / 256 TiB.
    assert freed.vmalloc_table_pages(five_levels=False, aligned=True) == (64,)
    assert freed.vmalloc_table_pages(five_levels=True, aligned=True) == (50,)
    assert freed.vmalloc_table_pages(five_levels=False, aligned=False) == (64, 65)


def test_first_lists_of_a_pc() -> None:
    # Below 16 MiB: the first MiB is reserved, and page 0 is no memory, so that the first pageblock
    # never got a type.
    dma = zone(0, "DMA", 1, 4096, present=3998)
    memory = [NodeSpan(0, 1, 0x9F), NodeSpan(0, 0x100, 0x20000)]
    lists = first_lists(
        dma,
        memory,
        [NodeSpan(0, 0x100, 0x1000)],
        {},
        max_order=10,
        pageblock_order=9,
        era=era_of(Release(6, 1)),
    )
    lists.check()
    assert lists.free_pages == 3840
    assert lists.pfns(8, Migratetype.UNMOVABLE) == (0x100,)
    assert lists.pfns(9, Migratetype.MOVABLE) == (0x200,)
    assert lists.pfns(10, Migratetype.MOVABLE) == (0x400, 0x800, 0xC00)


def test_ranges_that_touch_coalesce_and_go_to_the_tail() -> None:
    normal = zone(0, "Normal", 0, 64)
    ranges = [NodeSpan(0, 0, 3), NodeSpan(0, 3, 4), NodeSpan(0, 8, 10), NodeSpan(1, 10, 20)]
    lists = first_lists(
        normal,
        [NodeSpan(0, 0, 64)],
        ranges,
        {0: 9},
        max_order=4,
        pageblock_order=4,
        era=era_of(Release(6, 12)),
    )
    # 0-1, 2 and 3 become one block of four; 8-9 is one block, and begins below the first
    # deferred page.
    assert lists.pfns(2, Migratetype.MOVABLE) == (0,)
    assert lists.pfns(1, Migratetype.MOVABLE) == (8,)
    assert lists.free_pages == 6


# what the boot says


def test_managed_before_the_handover() -> None:
    managed = boot_lines.managed_before_handover
    # 3998 present, 64 of memmap, 158 reserved: the DMA zone of a PC.
    assert managed(3998, 64, reserved_pages=158) == 3776
    assert managed(126976, 1984) == 124992
    assert managed(36828, 360, highmem=True) == 36828
    assert managed(10, 64) == 10  # a memmap larger than the zone is not taken off
    assert managed(100, 0, reserved_pages=100) == 100  # nor as much reserved as there is
    assert managed(0, 0) == 0


def test_holes_of_a_pc() -> None:
    memory = [NodeSpan(0, 1, 0x9F), NodeSpan(0, 0x100, 0x3FFDA)]
    zones = [zone(0, "DMA", 1, 0x1000), zone(0, "DMA32", 0x1000, 0x3FFDA)]
    told = boot_lines.unavailable_ranges(
        memory, zones, end_align=SECTION, block_pages=512, valid=lambda pfn: pfn < 0x40000
    )
    assert told == (
        Unavailable(0, "DMA", 1),
        Unavailable(0, "DMA", 97),
        Unavailable(0, "DMA32", 38),
    )


def test_a_hole_without_struct_pages_is_not_told() -> None:
    memory = [NodeSpan(0, 0, SECTION), NodeSpan(1, 3 * SECTION, 4 * SECTION)]
    zones = [zone(0, "Normal", 0, SECTION), zone(1, "Normal", 3 * SECTION, 4 * SECTION)]
    assert (
        boot_lines.unavailable_ranges(
            memory,
            zones,
            end_align=SECTION,
            block_pages=512,
            valid=lambda pfn: pfn // SECTION in (0, 3),
        )
        == ()
    )


def test_flatmem_tells_nothing_behind_memory() -> None:
    told = boot_lines.unavailable_ranges(
        [NodeSpan(0, 1, 100)],
        [zone(0, "Normal", 1, 100), zone(0, "Movable", 0, 0)],
        end_align=1,
        block_pages=512,
        valid=lambda pfn: pfn < 100,
    )
    assert told == (Unavailable(0, "Normal", 1),)


def test_no_memory_no_holes() -> None:
    assert (
        boot_lines.unavailable_ranges(
            [], [], end_align=SECTION, block_pages=512, valid=lambda _: True
        )
        == ()
    )


def test_eras() -> None:
    old, new = handover_era_of(Release(6, 1)), handover_era_of(Release(6, 12))
    assert old.memmap_taken_off
    assert not new.memmap_taken_off
    assert not old.reports_after_deferred
    assert new.reports_after_deferred
    assert handover_era_of(Release(5, 10)).told_unavailable
    assert not handover_era_of(Release(5, 11)).told_unavailable
    assert not handover_era_of(Release(4, 18)).told_unavailable
