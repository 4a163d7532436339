"""The formulas of the memory models, on numbers worked out by hand from the kernel's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.layout.struct_page_place import (
    arm64_high_vmemmap,
    arm64_vmemmap,
    array_pfn,
    coded_map,
    section_of,
    x86_64_vmemmap,
)


@given(st.integers(0, 1 << 24), st.integers(0, 1 << 20), st.sampled_from([32, 36, 40, 64]))
def test_an_array_is_indexed_both_ways(index: int, first: int, size: int) -> None:
    base = 0xC1000000
    assert array_pfn(base + index * size, base, first, size) == first + index
    assert array_pfn(base + index * size + 4, base, first, size) is None


def test_a_section_is_named_in_the_topmost_bits() -> None:
    # 46 physical bits in sections of 2**27 bytes: 19 bits
    flags = (5 << 45) | 0x1234
    assert section_of(flags, section_bits=27, physical_bits=46) == 5


def test_flags_are_taken_off_a_section() -> None:
    assert coded_map(0xFFFF_EA00_0000_000F) == x86_64_vmemmap()


def test_the_memmap_of_arm64_counts_from_the_start_of_memory() -> None:
    # 48 bits, 4 KiB pages, 64 bytes each: 1/64 of the linear map at the very top
    start = arm64_vmemmap(va_bits=48, page_shift=12, struct_shift=6, memory_start=0)
    assert start == 0xFFFF_FC00_0000_0000
    moved = arm64_vmemmap(va_bits=48, page_shift=12, struct_shift=6, memory_start=0x4000_0000)
    assert moved == start - (0x4000_0000 >> 12 << 6)
    inside = arm64_vmemmap(va_bits=48, page_shift=12, struct_shift=6, memory_start=0x5000_0000)
    assert inside == moved


def test_later_the_memmap_of_arm64_ends_below_the_last_gib() -> None:
    def start(cpu_bits: int, memory: int) -> int:
        return arm64_high_vmemmap(
            va_bits=52, cpu_va_bits=cpu_bits, page_shift=12, struct_bytes=64, memory_start=memory
        )

    # a struct page for each page of 2**52 - 2**47 bytes, the last before the last GiB
    assert start(52, 0) == (1 << 64) - (1 << 30) - ((1 << 46) - (1 << 41))
    # a CPU with 48 bits maps its memory 2**52 - 2**48 bytes higher up in the linear map
    assert start(48, 0) == start(52, 0) + ((1 << 46) - (1 << 42))
    # as 6.12 showed on such a CPU, with memory from 1 GiB on
    assert start(48, 1 << 30) == 0xFFFF_FDFF_BF00_0000
