"""Orders, pageblocks, sections and the memmap: examples by hand."""

from __future__ import annotations

import pytest

from analysis.model.layout import memory_model
from analysis.model.layout.eras_layout import layout_era_of, layout_eras_of
from analysis.model.layout.memory_model import (
    flat_memmap_pages,
    huge_page_memmap_kib,
    sparse_memmap_pages,
    struct_page_bytes,
    zone_memmap_pages,
)
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.orders import buddy_orders, huge_page_shift, pageblock_order
from analysis.model.layout.page_flags import cpupid_outside_flags, flag_count
from analysis.model.layout.pageblocks import HoleUnknownError, Validity, counted_pageblocks
from analysis.model.layout.sections import (
    memory_blocks,
    present_sections,
    section_bits,
    x86_memory_block_bytes,
)
from analysis.model.layout.zones import ZoneLayout
from analysis.model.release import Release

MIB = 1 << 20
GIB = 1 << 30
NEW = layout_era_of(Release(7, 3))
OLD = layout_era_of(Release(5, 10))


def order(
    *,
    orders: int = 11,
    page: int = 4096,
    shift: int = 21,
    new: bool = True,
    hugetlb: bool = True,
    thp: bool = True,
    limit: int | None = None,
) -> int:
    return pageblock_order(
        NEW if new else OLD,
        orders=orders,
        page_bytes=page,
        huge_shift=shift,
        hugetlb=hugetlb,
        thp=thp,
        own_limit=limit,
    )


def test_the_option_changed_its_meaning() -> None:
    assert buddy_orders(None, inclusive=True) == buddy_orders(None, inclusive=False) == 11
    assert buddy_orders(13, inclusive=True) == buddy_orders(14, inclusive=False) == 14


@pytest.mark.parametrize(
    ("arch", "page", "pae", "shift"),
    [
        ("x86_64", 4096, False, 21),
        ("arm64", 4096, False, 21),
        ("arm64", 16384, False, 25),
        ("arm64", 65536, False, 29),
        ("i386", 4096, True, 21),
        ("i386", 4096, False, 22),
        ("arm", 4096, True, 21),
        ("s390x", 4096, False, None),
    ],
)
def test_what_a_middle_entry_maps(arch: str, page: int, pae: bool, shift: int | None) -> None:
    assert huge_page_shift(arch, page, pae=pae) == shift


def test_pageblocks_are_huge_pages() -> None:
    assert order() == 9
    assert order(shift=22) == 10
    assert order(page=16384, shift=25, orders=12) == 11
    assert order(page=65536, shift=29, orders=14) == 13


def test_pageblocks_are_no_larger_than_buddy_blocks() -> None:
    assert order(orders=8) == 7
    assert order(orders=8, new=False) == 9  # 5.10 did not check
    assert order(limit=7) == 7
    assert order(limit=7, new=False) == 9  # 5.10 has no such limit


def test_without_hugetlb() -> None:
    assert order(hugetlb=False) == 9
    assert order(hugetlb=False, new=False) == 10
    assert order(hugetlb=False, thp=False) == 10


def test_eras_between_the_sources_compared_are_several() -> None:
    assert layout_eras_of(Release(6, 12)) == (layout_era_of(Release(6, 12)),)
    assert len(layout_eras_of(Release(6, 6))) == 8


def zone(start: int, pages: int, present: int, name: str = "DMA32", node: int = 0) -> ZoneLayout:
    return ZoneLayout(
        node=node, zone=name, start_pfn=start, spanned_pages=pages, present_pages=present
    )


SUBSECTIONS = Validity(unit_pages=512, end_pfn=1 << 40, holes_follow_memory=True)


def count(
    one: ZoneLayout,
    ranges: tuple[NodeSpan, ...],
    validity: Validity = SUBSECTIONS,
    others: tuple[ZoneLayout, ...] = (),
) -> int:
    return counted_pageblocks(one, (one, *others), ranges, 512, validity)


def test_a_zone_that_begins_at_page_1() -> None:
    # frames 1, 513 … 3585 are looked at: eight
    ranges = (NodeSpan(0, 1, 0x9F), NodeSpan(0, 0x100, 0x1000))
    assert count(zone(1, 4095, 3998, "DMA"), ranges) == 8


def test_an_empty_zone_has_none() -> None:
    assert count(zone(0, 0, 0), (NodeSpan(0, 0, 100),)) == 0


def test_a_hole_is_not_counted() -> None:
    ranges = (NodeSpan(0, 0, 0x8000), NodeSpan(0, 0x20000, 0x28000))
    assert count(zone(0, 0x28000, 0x10000), ranges) == 128


def test_the_ends_of_a_hole_belong_to_what_follows() -> None:
    # memory ends in the middle of a subsection: the frame at 0x8200 lies in it, but is aligned
    unaligned = zone(0x100, 0x27F00, 0)
    ranges = (NodeSpan(0, 0x100, 0x8280), NodeSpan(0, 0x20000, 0x28000))
    # 0x100, 0x300 … 0x8100: 65; 0x8300 in the subsection 0x8200-0x8400: 1; 0x20100 …: 64
    assert count(unaligned, ranges) == 65 + 1 + 64
    by_memory = Validity(unit_pages=1, end_pfn=0, holes_follow_memory=True)
    assert count(unaligned, ranges, by_memory) == 65 + 64


def test_the_end_of_a_hole_before_another_zone_is_not_the_zones() -> None:
    one = zone(0x100, 0xFF00, 0x8180)
    other = zone(0x10000, 0x8000, 0x8000, "Normal")
    ranges = (NodeSpan(0, 0x100, 0x8280), NodeSpan(0, 0x10000, 0x18000))
    assert count(one, ranges, others=(other,)) == 65


def test_frames_of_another_node_are_not_the_zones() -> None:
    one = zone(0, 0x3000, 0x2000)
    other = zone(0x1000, 0x1000, 0x1000, node=1)
    ranges = (NodeSpan(0, 0, 0x1000), NodeSpan(1, 0x1000, 0x2000), NodeSpan(0, 0x2000, 0x3000))
    assert count(one, ranges, others=(other,)) == 16
    assert counted_pageblocks(other, (one, other), ranges, 512, SUBSECTIONS) == 8


def test_under_flatmem_every_frame_counts() -> None:
    flat = Validity(unit_pages=None, end_pfn=0x28000, holes_follow_memory=True)
    ranges = (NodeSpan(0, 0, 0x8000), NodeSpan(0, 0x20000, 0x28000))
    assert count(zone(0, 0x28000, 0x10000), ranges, flat) == 0x28000 // 512


def test_kernels_that_ask_the_section_count_holes_within() -> None:
    whole = Validity(unit_pages=32768, end_pfn=0, holes_follow_memory=True)
    ranges = (NodeSpan(0, 0, 0x1000), NodeSpan(0, 0x5000, 0x8000))
    assert count(zone(0, 0x8000, 0x4000), ranges, whole) == 64
    assert count(zone(0, 0x8000, 0x4000), ranges) == 32


def test_old_kernels_say_nothing_certain_of_holes() -> None:
    old = Validity(unit_pages=512, end_pfn=0, holes_follow_memory=False)
    ranges = (NodeSpan(0, 0x100, 0x8280), NodeSpan(0, 0x20000, 0x28000))
    with pytest.raises(HoleUnknownError, match="1 frames looked at lie in a hole"):
        count(zone(0x100, 0x27F00, 0), ranges, old)


@pytest.mark.parametrize(
    ("arch", "page", "small", "pae", "bits"),
    [
        ("x86_64", 4096, False, False, 27),
        ("riscv64", 4096, False, False, 27),
        ("i386", 4096, False, True, 29),
        ("i386", 4096, False, False, 26),
        ("arm64", 4096, False, False, 30),
        ("arm64", 16384, True, False, 27),
        ("arm64", 65536, True, False, 29),
        ("s390x", 4096, False, False, None),
    ],
)
def test_section_sizes(arch: str, page: int, small: bool, pae: bool, bits: int | None) -> None:
    assert section_bits(arch, page, arm64_small=small, pae=pae) == bits


def test_a_shared_section_belongs_to_its_first_node() -> None:
    ranges = (NodeSpan(0, 1, 100), NodeSpan(1, 100, 300))
    assert present_sections(ranges, 128) == {0: 0, 1: 1, 2: 1}
    assert present_sections((), 128) == {}
    assert memory_blocks({0: 0, 1: 1, 2: 1, 9: 1}, 2) == (0, 1, 4)


def test_memory_blocks_of_large_machines() -> None:
    section = 128 * MIB
    assert x86_memory_block_bytes(section, 64 * GIB - 4096, hypervisor=False) == section
    assert x86_memory_block_bytes(section, 64 * GIB, hypervisor=False) == 2 * GIB
    assert x86_memory_block_bytes(section, 67 * GIB, hypervisor=True) == GIB
    assert x86_memory_block_bytes(section, 64 * GIB + 4096, hypervisor=True) == section


def test_memory_models() -> None:
    assert memory_model.memory_model({"SPARSEMEM", "SPARSEMEM_VMEMMAP"}) == "SPARSEMEM_VMEMMAP"
    assert memory_model.memory_model({"SPARSEMEM"}) == "SPARSEMEM"
    assert memory_model.memory_model({"FLATMEM"}) == "FLATMEM"
    with pytest.raises(ValueError, match="no memory model"):
        memory_model.memory_model(())


def test_bytes_of_a_struct_page() -> None:
    assert struct_page_bytes(bits=64, memcg=True, double_aligned=True) == 64
    assert struct_page_bytes(bits=64, memcg=False, double_aligned=True) == 64
    assert struct_page_bytes(bits=64, memcg=False, double_aligned=False) == 56
    assert struct_page_bytes(bits=64, memcg=True, double_aligned=True, cpupid=True) == 80
    assert struct_page_bytes(bits=32, memcg=True, double_aligned=True) == 40
    assert struct_page_bytes(bits=32, memcg=False, double_aligned=False) == 32
    assert struct_page_bytes(bits=32, memcg=False, double_aligned=False, virtual=True) == 36


def test_pages_of_memmap() -> None:
    assert sparse_memmap_pages(8, 32768, 64, 4096) == 4096
    assert sparse_memmap_pages(8, 8192, 64, 16384) == 256
    assert flat_memmap_pages([NodeSpan(0, 1, 0x3FFDA)], 1024, 40, 4096) == 2560
    assert flat_memmap_pages([], 1024, 40, 4096) == 0


def test_the_kernels_guess_of_a_zone() -> None:
    # 4,095 spanned, 3,998 present: holes are less than a sixteenth
    assert zone_memmap_pages(4095, 3998, 64, 4096, sparse=True) == 64
    assert zone_memmap_pages(20_000, 10_000, 64, 4096, sparse=True) == 157
    assert zone_memmap_pages(20_000, 10_000, 64, 4096, sparse=False) == 313


def test_memmap_that_huge_pages_give_back() -> None:
    assert huge_page_memmap_kib(2 * MIB, 4096, 64, optimized=True) == 28
    assert huge_page_memmap_kib(2 * MIB, 4096, 64, optimized=True, reserve_pages=2) == 24
    assert huge_page_memmap_kib(GIB, 4096, 64, optimized=True) == 16_380
    assert huge_page_memmap_kib(2 * MIB, 4096, 80, optimized=True) == 0
    assert huge_page_memmap_kib(64 * 1024, 4096, 64, optimized=True) == 0
    assert huge_page_memmap_kib(2 * MIB, 4096, 64, optimized=False) == 0


def test_flags_and_what_fits_beside_them() -> None:
    on = {"MMU", "MEMORY_FAILURE", "PAGE_IDLE_FLAG", "ARCH_USES_PG_UNCACHED", "NUMA_BALANCING"}
    flags = flag_count(on, bits=64, base=21, arch_2_on_64_bits=True)
    assert flags == 27
    assert flag_count(on, bits=64, base=19, arch_2_on_64_bits=False) == 23

    def outside(cpus: int, options: set[str]) -> bool:
        return cpupid_outside_flags(
            options,
            bits=64,
            zones=5,
            nodes_shift=10,
            sections_width=0,
            cpus=cpus,
            flags=flags,
            kasan_hw_tag_bits=4,
        )

    # zone 3, node 10, generation 3, cpu 13, pid 8: 37 of the 37 bits that 27 flags leave
    assert not outside(8192, on | {"LRU_GEN"})
    assert outside(8193, on | {"LRU_GEN"})
    assert not outside(8193, {"LRU_GEN"})
    assert outside(64, on | {"LRU_GEN", "KASAN_SW_TAGS"})
    assert not outside(512, on | {"LRU_GEN", "KASAN_HW_TAGS"})
