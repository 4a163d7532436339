"""Laws between numbers of /proc, computed by hand."""

from __future__ import annotations

import pytest

from analysis.model import vmstat_names
from analysis.model.drift import (
    Finding,
    Reading,
    moved_pages,
    node_threshold,
    private_pages,
    settle,
)
from analysis.model.identities import blocks, meminfo, numa, zones
from analysis.model.release import Release


def test_sums_of_meminfo() -> None:
    assert meminfo.together(472, 1488) == 1960  # Active of a 5.10 guest
    assert meminfo.together() == 0
    assert meminfo.lowmem(1048576, 147312) == 901264
    assert meminfo.file_pages(cached=13524, buffers=32, swap_cached=0) == 13556
    assert meminfo.reclaimable(slab=7136, other=64) == 7200


def test_commit_limit() -> None:
    # 988776 kB are 247194 pages; half of them is 123597, 494388 kB
    limit = meminfo.commit_limit_pages(
        total_pages=247194,
        hugetlb_pages=0,
        swap_pages=0,
        overcommit_ratio=50,
        overcommit_kbytes=0,
        page_size_bytes=4096,
    )
    assert limit * 4 == 494388
    # with huge pages and swap; odd shares are rounded down
    assert (
        meminfo.commit_limit_pages(
            total_pages=1001,
            hugetlb_pages=512,
            swap_pages=7,
            overcommit_ratio=50,
            overcommit_kbytes=0,
            page_size_bytes=4096,
        )
        == 244 + 7
    )
    # a fixed amount, rounded down to pages of 16 KiB
    assert (
        meminfo.commit_limit_pages(
            total_pages=1001,
            hugetlb_pages=0,
            swap_pages=0,
            overcommit_ratio=50,
            overcommit_kbytes=1000,
            page_size_bytes=16384,
        )
        == 62
    )
    with pytest.raises(ValueError, match="2 pages of hugetlb among 1"):
        meminfo.commit_limit_pages(
            total_pages=1,
            hugetlb_pages=2,
            swap_pages=0,
            overcommit_ratio=50,
            overcommit_kbytes=0,
            page_size_bytes=4096,
        )


def test_huge_pages() -> None:
    assert meminfo.hugetlb_kib({2048: 16, 1048576: 1}) == 32768 + 1048576
    assert meminfo.hugetlb_kib({}) == 0
    assert meminfo.default_hugepage_kib("x86_64", 4096) == 2048
    assert meminfo.default_hugepage_kib("arm64", 16384) == 32768
    assert meminfo.default_hugepage_kib("arm64", 65536) == 524288
    assert meminfo.default_hugepage_kib("i386", 4096, pae=True) == 2048
    assert meminfo.default_hugepage_kib("i386", 4096, pae=False) == 4096
    with pytest.raises(ValueError, match="s390x"):
        meminfo.default_hugepage_kib("s390x", 4096)
    assert meminfo.hugepages_nest(total=8, free=4, reserved=2, surplus=0)
    assert meminfo.hugepages_nest(total=0, free=0, reserved=0, surplus=0)
    assert not meminfo.hugepages_nest(total=8, free=9, reserved=2, surplus=0)
    assert not meminfo.hugepages_nest(total=8, free=4, reserved=5, surplus=0)
    assert not meminfo.hugepages_nest(total=8, free=4, reserved=2, surplus=9)


def test_lines_in_the_unit_of_their_counter() -> None:
    lines = meminfo.LINES
    assert meminfo.in_unit_of_counter(lines["MemFree"], 905812, 4096, 2048) == 226453
    assert meminfo.in_unit_of_counter(lines["MemFree"], 927056, 16384, 32768) == 57941
    assert meminfo.in_unit_of_counter(lines["KernelStack"], 912, 4096, 2048) == 912
    assert meminfo.in_unit_of_counter(lines["AnonHugePages"], 6144, 4096, 2048) == 3
    assert meminfo.in_unit_of_counter(lines["FileHugePages"], 6140, 4096, 2048) == 2


def test_sizes_of_zones() -> None:
    assert zones.nests(managed_pages=3977, present_pages=3998, spanned_pages=4095)
    assert zones.nests(managed_pages=0, present_pages=0, spanned_pages=65536)  # Device
    assert zones.nests(managed_pages=0, present_pages=0, spanned_pages=0)  # empty
    assert not zones.nests(managed_pages=3999, present_pages=3998, spanned_pages=4095)
    assert not zones.nests(managed_pages=3977, present_pages=4096, spanned_pages=4095)
    assert zones.total_pages([3977, 114350, 0]) == 118327
    assert zones.total_pages([]) == 0  # a node without memory
    assert zones.used_kib(473308, 410292) == 63016
    assert zones.cma_pages([0, 4096]) == 4096


def test_sums_of_counters() -> None:
    dma: dict[str, int] = {"nr_free_pages": 3945, "nr_zone_active_anon": 0}
    dma32 = {"nr_free_pages": 98663, "nr_zone_active_anon": 115}
    assert zones.counter_sum([dma, dma32], "nr_free_pages") == 102608
    assert zones.lru_pages([dma, dma32, {}], "active_anon") == 115
    with pytest.raises(KeyError):
        zones.counter_sum([dma, {}], "nr_free_pages")


def test_direct_map() -> None:
    # 512 MiB in zones DMA and DMA32: page 0 and 0x9f to 0xff are in no zone
    pages = zones.direct_map_pages(
        present_pages=3998 + 126976, first_pfn=1, lower_hole_pages=4095 - 3998
    )
    assert pages == 512 * 256
    with pytest.raises(ValueError, match="300 pages"):
        zones.direct_map_pages(present_pages=1, first_pfn=0, lower_hole_pages=300)
    # a machine of 24 GiB whose 1 GiB pages show 2 GiB more
    assert zones.counted_once(27262976, 1 << 20) == zones.counted_once(25165824, 1 << 20) == 0
    assert zones.counted_once(1903464, 2048) == zones.counted_once(1901416, 2048)
    with pytest.raises(ValueError, match="0 KiB"):
        zones.counted_once(4, 0)


def test_free_blocks_and_slabs() -> None:
    assert blocks.pages_of_blocks((1, 2, 3)) == 1 + 4 + 12
    assert blocks.pages_of_blocks(()) == 0
    assert blocks.pages_on_lists(free_pages=100, unaccepted_pages=64, isolated_pages=8) == 44
    assert blocks.blocks_by_type([(1, 0, 2), (0, 1, 0)]) == 1 + 8 + 2
    assert blocks.slab_pages([(3, 8), (10, 1), (0, 4)]) == 34


def test_numa_events() -> None:
    assert numa.placed(local=14299, other=670) == 14969
    assert numa.foreign(2) == 2


def test_private_shares() -> None:
    assert private_pages([12, 12]) == 24
    assert private_pages([]) == 0
    # 2 CPUs: 2 * 2 * (1 + bits of the number of whole 128 MiB); the larger zone decides
    assert node_threshold([3977, 114350], cpus=2, page_shift=12) == 2 * 2 * (1 + 2)
    assert node_threshold([], cpus=2, page_shift=12) == 0
    assert node_threshold([0, 0], cpus=2, page_shift=12) == 0  # a node without memory
    assert node_threshold([3977], cpus=1, page_shift=12) == 2


def test_moved_pages() -> None:
    before = {"pgalloc_dma": 1, "pgalloc_normal": 100, "pgfree": 90, "pgfault": 5}
    after = {"pgalloc_dma": 1, "pgalloc_normal": 107, "pgfree": 93, "pgfault": 500}
    assert moved_pages(before, after) == 10
    assert moved_pages(before, before) == 0


def reading(value: int, again: int | None = None) -> Reading:
    return Reading(terms=(value,), again=None if again is None else (again,))


@pytest.mark.parametrize(
    ("first", "second", "finding"),
    [
        (reading(5), reading(5), Finding.EQUAL),
        (reading(5, 6), reading(5, 7), Finding.EQUAL),
        (reading(5), reading(8), Finding.WITHIN),
        (reading(5), reading(9), Finding.MOVED),  # nothing was read again
        (reading(5, 5), reading(9), Finding.OFF),  # the first stood still around the second
        (reading(5, 5), reading(9, 4), Finding.OFF),
        (reading(5, 9), reading(9, 9), Finding.EQUAL),  # the first's second reading agrees
        (reading(5, 12), reading(9, 9), Finding.WITHIN),
        (reading(5, 13), reading(9, 9), Finding.OFF),
        (reading(5, 6), reading(9, 10), Finding.MOVED),
        (reading(5), reading(9, 9), Finding.MOVED),
    ],
)
def test_two_readings(first: Reading, second: Reading, finding: Finding) -> None:
    assert settle(first, second, private=3) is finding


def test_what_is_known_to_have_moved() -> None:
    still, other = reading(5, 5), reading(9)
    assert settle(still, other, moved=0) is Finding.OFF
    assert settle(still, other, moved=4) is Finding.MOVED  # it may have moved and come back
    assert settle(reading(5, 6), reading(106, 107), moved=0) is Finding.OFF
    assert settle(reading(5, 6), reading(105, 107), moved=0) is Finding.MOVED
    assert settle(reading(5, 6), reading(106, 107), moved=1) is Finding.MOVED


def test_terms_are_steady_one_by_one() -> None:
    swapped = Reading(terms=(1, 2), again=(2, 1))
    assert swapped.total == 3
    assert not swapped.steady


OPTIONS = frozenset({"VM_EVENT_COUNTERS", "NUMA", "ZONE_DMA", "ZONE_DMA32", "SWAP", "X86"})


def test_counter_names() -> None:
    names = vmstat_names.counter_names(Release(5, 10), OPTIONS, stack_bytes=16384)
    assert {"nr_bounce", "numa_hit", "pgalloc_dma32", "allocstall_movable", "nr_unstable"} <= names
    assert not {"nr_swapcached", "pgalloc_high", "pgskip_device", "thp_split_pmd"} & names
    later = vmstat_names.counter_names(Release(7, 3), OPTIONS, stack_bytes=16384)
    assert {"nr_vmalloc", "pgrotate_anon", "nrswpin", "direct_map_level2_collapses"} <= later
    assert not {"nr_bounce", "nr_writeback_temp"} & later


def test_counter_names_by_zone_and_stack() -> None:
    highmem = (OPTIONS - {"ZONE_DMA32"}) | {"HIGHMEM", "ZONE_DEVICE"}
    assert vmstat_names.zone_suffixes(Release(5, 10), highmem) == (
        "dma",
        "normal",
        "high",
        "movable",
    )
    assert vmstat_names.zone_suffixes(Release(6, 1), highmem)[-1] == "device"
    debug = OPTIONS | {"DEBUG_STACK_USAGE"}
    names = vmstat_names.counter_names(Release(6, 12), debug, stack_bytes=16384)
    assert "kstack_16k" in names
    assert "kstack_32k" not in names
    large = vmstat_names.counter_names(Release(6, 12), debug, stack_bytes=131072)
    assert {"kstack_64k", "kstack_rest"} <= large


def test_counter_names_not_described() -> None:
    with pytest.raises(ValueError, match=r"6\.6"):
        vmstat_names.counter_names(Release(6, 6), OPTIONS, stack_bytes=16384)
    with pytest.raises(ValueError, match="VM_EVENT_COUNTERS"):
        vmstat_names.counter_names(Release(6, 1), frozenset(), stack_bytes=16384)
    assert vmstat_names.fell(5, 4)
    assert not vmstat_names.fell(5, 5)
