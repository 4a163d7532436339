"""Page frames, sizes of parameters, and the firmware's map: examples by hand."""

from __future__ import annotations

import pytest

from analysis.model.layout import memory_map
from analysis.model.layout.memory_map import (
    ACPI,
    PRAM,
    RAM,
    RESERVED,
    MapEntry,
    end_of_ram_pfn,
    memblock_memory,
    resolved,
    retyped,
    trimmed,
    with_parameters,
)
from analysis.model.layout.pfn import Span, address_of, clip, merged, pfn_of, whole_pages
from analysis.model.layout.sizes import core_pages, leading_size

MIB = 1 << 20

Q35 = (
    MapEntry(start=0, end=0x9FC00, type=RAM),
    MapEntry(start=0x9FC00, end=0x100000, type=RESERVED),
    MapEntry(start=0x100000, end=0x3FFDA000, type=RAM),
    MapEntry(start=0x3FFDA000, end=0x40000000, type=RESERVED),
)


def test_pfns_and_addresses() -> None:
    assert pfn_of(0x1FFF, 4096) == 1
    assert address_of(1, 16384) == 0x4000
    assert pfn_of(0x40000000, 65536) == 0x4000


def test_whole_pages_leave_out_what_is_shared() -> None:
    assert whole_pages(Span(1, 3 * 4096 - 1), 4096) == Span(1, 2)
    assert whole_pages(Span(1, 4096), 4096).size == 0
    assert whole_pages(Span(0x4000, 0xC000), 16384) == Span(1, 3)


def test_clip_outside_is_empty() -> None:
    assert clip(Span(10, 20), 15, 30) == Span(15, 20)
    assert clip(Span(10, 20), 30, 40).size == 0
    assert clip(Span(50, 60), 30, 40).size == 0


def test_merged_joins_what_touches() -> None:
    assert merged([Span(5, 7), Span(0, 2), Span(2, 4), Span(9, 9)]) == (Span(0, 4), Span(5, 7))


@pytest.mark.parametrize(
    ("text", "size", "rest"),
    [
        ("512M", 512 * MIB, ""),
        ("0x1000@16", 0x1000, "@16"),
        ("010k", 8 * 1024, ""),
        ("0", 0, ""),
        ("2g,rest", 2 << 30, ",rest"),
        ("7", 7, ""),
    ],
)
def test_sizes_as_parameters_write_them(text: str, size: int, rest: str) -> None:
    assert leading_size(text) == (size, rest)


def test_a_size_needs_a_number() -> None:
    with pytest.raises(ValueError, match="does not begin with a number"):
        leading_size("exact")


def test_core_pages_of_sizes_and_shares() -> None:
    assert core_pages("256M", 1 << 20, 4096) == 65536
    assert core_pages("256M", 1 << 20, 16384) == 16384
    # 262,008 pages: 30 % are 78,602.4, the kernel rounds down
    assert core_pages("30%", 262_008, 4096) == 78_602


def test_where_entries_overlap_the_higher_type_counts() -> None:
    entries = [
        MapEntry(start=0, end=100, type=RAM),
        MapEntry(start=40, end=60, type=RESERVED),
        MapEntry(start=50, end=120, type=RAM),
    ]
    assert resolved(entries) == (
        MapEntry(start=0, end=40, type=RAM),
        MapEntry(start=40, end=60, type=RESERVED),
        MapEntry(start=60, end=120, type=RAM),
    )


def test_an_empty_map_resolves_to_nothing() -> None:
    assert resolved([]) == ()
    assert resolved([MapEntry(start=5, end=5, type=RAM)]) == ()


def test_retyping_one_type_leaves_the_others() -> None:
    changed = retyped(Q35, Span(0x9F000, 0x200000), RAM, ACPI)
    assert [(e.start, e.end) for e in changed if e.type == ACPI] == [
        (0x9F000, 0x9FC00),
        (0x100000, 0x200000),
    ]
    assert MapEntry(start=0x9FC00, end=0x100000, type=RESERVED) in changed


def test_mem_cuts_ram_and_nothing_else() -> None:
    entries = with_parameters(Q35, [("mem", "700M")])
    assert [e.end for e in entries if e.type == RAM] == [0x9FC00, 0x2BC00000]
    assert entries[-1] == Q35[-1]


def test_mem_of_nothing_is_ignored() -> None:
    assert with_parameters(Q35, [("mem", "nopentium"), ("mem", "0"), ("mem", None)]) == Q35


def test_memmap_kinds() -> None:
    words = [("memmap", "64M$512M,1M!700M"), ("memmap", "4K#0x3fff0000")]
    entries = with_parameters(Q35, words)
    assert MapEntry(start=512 * MIB, end=576 * MIB, type=RESERVED) in entries
    assert MapEntry(start=700 * MIB, end=701 * MIB, type=PRAM) in entries
    # ACPI data (3) outranks reserved (2)
    assert MapEntry(start=0x3FFF0000, end=0x3FFF1000, type=ACPI) in entries


def test_memmap_alone_is_a_limit_and_exactmap_begins_anew() -> None:
    assert with_parameters(Q35, [("memmap", "512M")]) == with_parameters(Q35, [("mem", "512M")])
    words = [("memmap", "exactmap"), ("memmap", "640K@0"), ("memmap", "63M@1M")]
    assert with_parameters(Q35, words) == (
        MapEntry(start=0, end=640 * 1024, type=RAM),
        MapEntry(start=MIB, end=64 * MIB, type=RAM),
    )


def test_memmap_percent_retypes_adds_and_removes() -> None:
    retype = with_parameters(Q35, [("memmap", "16M%0x10000000-1+2")])
    assert MapEntry(start=0x10000000, end=0x11000000, type=RESERVED) in retype
    add = with_parameters(Q35, [("memmap", "16M%0x80000000+12")])
    assert add[-1] == MapEntry(start=0x80000000, end=0x81000000, type=12)
    remove = with_parameters(Q35, [("memmap", "1M%0x3ff00000-2")])
    assert sum(e.end - e.start for e in remove if e.type == RESERVED) == 0x100000 - 0x9FC00
    gone = with_parameters(Q35, [("memmap", "1M%0x3ff00000")])
    assert gone[-1].end == 0x3FF00000


def test_the_first_page_and_the_bios_area_go() -> None:
    whole = (MapEntry(start=0, end=0x200000, type=RAM),)
    ram = [(e.start, e.end) for e in trimmed(whole) if e.type == RAM]
    assert ram == [(0x1000, 0xA0000), (0x100000, 0x200000)]


def test_memory_has_whole_pages_only() -> None:
    assert memblock_memory(trimmed(Q35), 4096) == (
        Span(0x1000, 0x9F000),
        Span(0x100000, 0x3FFDA000),
    )


def test_joined_ram_is_trimmed_at_its_outer_ends_only() -> None:
    entries = (
        MapEntry(start=0x1000, end=0x1800, type=RAM),
        MapEntry(start=0x1800, end=0x3000, type=RAM),
    )
    assert memblock_memory(entries, 4096) == (Span(0x1000, 0x3000),)


def test_end_of_ram_may_reach_over_acpi_data() -> None:
    entries = (*Q35, MapEntry(start=0x40000000, end=0x40010000, type=ACPI))
    assert end_of_ram_pfn(entries, acpi_counts=False) == 0x3FFDA
    assert end_of_ram_pfn(entries, acpi_counts=True) == 0x40010
    assert end_of_ram_pfn((), acpi_counts=True) == 0


def test_the_trims_are_those_two() -> None:
    assert (Span(0, 4096), Span(0xA0000, 0x100000)) == memory_map.TRIMS
