"""vmalloc, computed by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from analysis.model import vmalloc, vmalloc_space
from analysis.model.eras_vmalloc import vmalloc_era
from analysis.model.release import Release

V5_10, V6_1, V6_12, V7_2 = Release(5, 10), Release(6, 1), Release(6, 12), Release(7, 2)


def test_an_area_has_a_guard_page() -> None:
    assert vmalloc.area_size_bytes(4, 4096) == 20480  # a kernel stack of 16 KiB
    assert vmalloc.area_size_bytes(1, 16384) == 32768  # the same with pages of 16 KiB
    assert vmalloc.area_size_bytes(1, 65536) == 131072
    assert vmalloc.area_size_bytes(2048, 4096) == 8392704  # a hash table of 8 MiB
    assert vmalloc.area_size_bytes(4, 4096, guard=False) == 16384
    assert vmalloc.least_area_bytes(4096) == 8192
    with pytest.raises(ValueError, match="-1 pages"):
        vmalloc.area_size_bytes(-1, 4096)


def test_percpu_chunks_have_no_guard() -> None:
    # four nodes of one CPU each, a unit of 2 MiB: four areas
    assert vmalloc.percpu_area_sizes([1, 1, 1, 1], 2097152) == Counter({2097152: 4})
    # arm64, four CPUs of one node, units of 31 pages: one area
    assert vmalloc.percpu_area_sizes([4], 126976) == Counter({507904: 1})
    assert vmalloc.percpu_area_sizes([2, 1], 65536) == Counter({131072: 1, 65536: 1})
    with pytest.raises(ValueError, match="groups"):
        vmalloc.percpu_area_sizes([0], 65536)


def test_pages_by_node() -> None:
    assert vmalloc.pages_on_nodes({0: 128, 1: 128}) == 256
    assert vmalloc.pages_on_nodes({}) == 0


def test_what_meminfo_counts() -> None:
    assert vmalloc.used_pages([4, 4, 256], V5_10) == 264
    assert vmalloc.used_pages([], V6_1) == 0
    assert vmalloc.used_pages([4, 4, 256], Release(4, 18)) == 0
    assert vmalloc.used_pages([4, 4, 256], Release(5, 3)) == 264
    with pytest.raises(ValueError, match="address space"):
        vmalloc.used_pages([4], Release(4, 3))
    assert vmalloc.chunk_kib(V7_2) == 0
    with pytest.raises(ValueError, match="computed"):
        vmalloc.chunk_kib(Release(3, 10))


def test_stacks() -> None:
    assert vmalloc.stack_pages(4096) == 4
    assert vmalloc.stack_pages(16384) == 1
    assert vmalloc.stack_pages(65536) == 1
    assert vmalloc.stack_drift_pages(1, 4096) == (2 + 2) * 4
    assert vmalloc.stack_drift_pages(4, 65536) == 10


def test_overlap_of_real_addresses() -> None:
    assert vmalloc.overlaps([(0, 8), (8, 16), (32, 48)]) == 0
    assert vmalloc.overlaps([(32, 48), (0, 8), (8, 16)]) == 0  # order is another rule's
    assert vmalloc.overlaps([(0, 9), (8, 16)]) == 1
    assert vmalloc.overlaps([(0, 100), (8, 16), (20, 30)]) == 2  # two inside the first
    assert vmalloc.overlaps([]) == 0


def test_overlap_of_hashes() -> None:
    assert vmalloc.shared_ends([(7, 3), (3, 9), (1, 2)]) == 0
    assert vmalloc.shared_ends([(7, 3), (7, 9)]) == 1
    assert vmalloc.shared_ends([(7, 3), (5, 3), (4, 3)]) == 2


def test_order_seen_through_hashes() -> None:
    assert vmalloc.out_of_order([(7, 3), (3, 9), (1, 2)]) == 0
    assert vmalloc.out_of_order([(7, 3), (1, 2), (3, 9)]) == 1  # 3 begins two lines later
    assert vmalloc.out_of_order([(3, 9), (7, 3)]) == 1


def test_eras() -> None:
    assert not vmalloc_era(Release(5, 2)).counts_pages
    assert not vmalloc_era(V6_12).may_shrink
    assert vmalloc_era(V7_2).may_shrink
    assert vmalloc_era(V6_1).one_list
    assert not vmalloc_era(V6_12).one_list
    assert vmalloc_era(V5_10).arm64_layouts == ("low-memmap",)
    assert len(vmalloc_era(Release(5, 15)).arm64_layouts) == 2
    assert vmalloc_era(V6_1).arm64_layouts == ("modules-128m",)
    assert vmalloc_era(Release(6, 6)).arm64_layouts == ()
    assert vmalloc_era(V7_2).arm64_layouts == vmalloc_era(V6_12).arm64_layouts == ("modules-2g",)


def test_space_of_x86_64() -> None:
    four = vmalloc_space.x86_64(levels=4)
    assert four.total_bytes >> 10 == 34359738367  # 32 TiB less a byte, in KiB
    assert four.lowest < 0xFFFFC90000000000 < four.highest
    assert vmalloc_space.x86_64(levels=5).total_bytes >> 10 == 13743895347199
    assert vmalloc_space.x86_64(levels=4, kmsan=True).total_bytes >> 10 == 8589934591
    with pytest.raises(ValueError, match="3 levels"):
        vmalloc_space.x86_64(levels=3)


def test_space_of_arm64() -> None:
    def kib(layout: str, va_bits: int, page_shift: int, levels: int, large: bool) -> int:
        space = vmalloc_space.arm64(
            layout=layout,
            va_bits=va_bits,
            page_shift=page_shift,
            table_levels=levels,
            large_addresses=large,
        )
        assert space.lowest < space.highest
        return space.total_bytes >> 10

    # 128 TiB - 128 MiB of modules - 4 TiB of memmap - 256 MiB
    assert kib("modules-128m", 48, 12, 4, False) == 133143592960
    # 128 TiB - 2 GiB - 2 TiB of memmap - 1 GiB - 8 MiB
    assert kib("modules-2g", 48, 12, 4, False) == 135288315904
    # a kernel for 52 bits on a processor with 48 has the same, on one with 52 a larger memmap
    assert kib("modules-2g", 52, 12, 5, False) == 135288315904
    assert (
        kib("modules-2g", 52, 12, 5, True)
        == 135288315904 - ((1 << 52) - (1 << 48)) // 4096 * 64 // 1024
    )
    # 16 KiB pages: the linear map of 47 bits
    assert kib("modules-2g", 52, 14, 4, False) == 68447887360
    # 5.10: 128 TiB - 2 * 128 MiB - 1 GiB - 2 TiB of memmap - 64 KiB
    assert (
        kib("low-memmap", 48, 12, 4, False)
        == (128 << 30) - (256 << 10) - (1 << 20) - (2 << 30) - 64
    )
    # a server with 5.15-rc1: 128 MiB less than 6.1, for the BPF programs
    assert kib("modules-128m-bpf", 48, 12, 4, False) == 133143592960 - (128 << 10)
    with pytest.raises(ValueError, match="'other'"):
        kib("other", 48, 12, 4, False)


def test_space_of_others() -> None:
    assert vmalloc_space.riscv64(table_levels=3, release=V6_1).total_bytes == 64 << 30
    assert vmalloc_space.riscv64(table_levels=4, release=V7_2).total_bytes == 32 << 40
    with pytest.raises(ValueError, match="2 levels"):
        vmalloc_space.riscv64(table_levels=2, release=V6_1)
    with pytest.raises(ValueError, match=r"5\.10"):
        vmalloc_space.riscv64(table_levels=3, release=V5_10)
    mib = vmalloc_space.MIB
    # i386: 128 MiB are kept free, 8 of them as a gap
    i386 = vmalloc_space.highmem(reserve_bytes=128 * mib, gap_bytes=8 * mib)
    assert i386.total_bytes >> 10 == 122880
    # arm: 240 MiB beside the gap
    assert vmalloc_space.highmem(reserve_bytes=240 * mib).total_bytes >> 10 == 245760
    with pytest.raises(ValueError, match="reserve"):
        vmalloc_space.highmem(reserve_bytes=mib, gap_bytes=mib)


def test_percpu_pages_are_dealt_out_to_units() -> None:
    # two units, 60 pages each in the first chunk, and 10 more in another
    assert vmalloc.percpu_remainder(140, first_chunk_pages=60, units=2) == 0
    assert vmalloc.percpu_remainder(141, first_chunk_pages=60, units=2) == 1
    assert vmalloc.percpu_remainder(118, first_chunk_pages=60, units=2) == -2
    with pytest.raises(ValueError, match="0 units"):
        vmalloc.percpu_remainder(1, first_chunk_pages=1, units=0)


def test_alignment_of_device_memory() -> None:
    assert vmalloc.ioremap_alignment_bytes(8192, 4096) == 4096  # one page and a guard
    assert vmalloc.ioremap_alignment_bytes(16384, 4096) == 16384  # three pages
    assert vmalloc.ioremap_alignment_bytes(4096 * 200, 4096) == 4096 * 128
    assert vmalloc.ioremap_alignment_bytes(32768, 16384) == 16384
    with pytest.raises(ValueError, match="4096 B"):
        vmalloc.ioremap_alignment_bytes(4096, 4096)
