"""What the kernel says of memory at boot, of several releases."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs.boot_messages import CmaArea, Ramdisk, parse

KERNEL = "(12296K kernel code, 2545K rwdata, 7660K rodata, 2692K init, 17664K bss"


def test_the_memory_line() -> None:
    line = parse(
        f"Memory: 343280K/1048032K available {KERNEL}, 97456K reserved, 0K cma-reserved)\n"
    ).memory
    assert line is not None
    assert (line.available_kib, line.total_kib, line.reserved_kib, line.cma_kib) == (
        343280,
        1048032,
        97456,
        0,
    )
    assert line.highmem_kib is None


def test_the_memory_line_of_32_bits() -> None:
    line = parse(
        f"Memory: 2046636K/2096608K available {KERNEL}, 49972K reserved, 0K cma-reserved, "
        "1195888K highmem)\n"
    ).memory
    assert line is not None
    assert line.highmem_kib == 1195888


def test_the_memory_line_cut_short() -> None:
    with pytest.raises(ParseError):
        parse("Memory: 343280K/1048032K available (12296K kern\n")


def test_node_ranges_end_with_another_line() -> None:
    said = parse(
        "Early memory node ranges\n"
        "  node   0: [mem 0x0000000000001000-0x000000000009efff]\n"
        "  node   1: [mem 0x0000000020000000-0x000000003ffd9fff]\n"
        "Initmem setup node 0 [mem 0x0000000000001000-0x000000001fffffff]\n"
        "  node   2: [mem 0x0000000040000000-0x000000004fffffff]\n"
    )
    assert [(r.node, r.base, r.end) for r in said.node_ranges] == [
        (0, 0x1000, 0x9F000),
        (1, 0x20000000, 0x3FFDA000),
    ]


def test_zones_holes_and_totals() -> None:
    said = parse(
        "  DMA zone: 64 pages used for memmap\n"
        "  DMA zone: 21 pages reserved\n"
        "  DMA zone: 3998 pages, LIFO batch:0\n"
        "On node 0, zone DMA: 97 pages in unavailable ranges\n"
        "Built 2 zonelists, mobility grouping on.  Total pages: 257891\n"
    )
    assert [(z.zone, z.pages, z.kind, z.batch) for z in said.zone_lines] == [
        ("DMA", 64, "memmap", None),
        ("DMA", 21, "reserved", None),
        ("DMA", 3998, "present", 0),
    ]
    assert [(u.node, u.zone, u.pages) for u in said.unavailable] == [(0, "DMA", 97)]
    assert said.total_pages is not None
    assert said.total_pages.pages == 257891


def test_what_is_freed_and_what_is_kept_for_later() -> None:
    said = parse(
        "cma: Reserved 64 MiB at 0x00000000aac00000 on node -1\n"
        "cma: Reserved 32 MiB in 2 ranges\n"
        "Freeing SMP alternatives memory: 36K\n"
        "Freeing unused kernel image (text/rodata gap) memory: 2040K\n"
        "efi: EFI v2.70 by EDK II\n"
    )
    assert said.cma == (CmaArea(base=0xAAC00000, mib=64), CmaArea(base=None, mib=32))
    assert [(free.name, free.kib) for free in said.freeing] == [
        ("SMP alternatives", 36),
        ("unused kernel image (text/rodata gap)", 2040),
    ]
    assert said.efi


def test_a_ramdisk_that_moves() -> None:
    said = parse(
        "RAMDISK: [mem 0x7f3d3000-0x7ffd7fff]\n"
        "Allocated new RAMDISK: [mem 0x363f9000-0x36ffd94f]\n"
        "Move RAMDISK from [mem 0x7f3d3000-0x7ffd794f] to [mem 0x363f9000-0x36ffd94f]\n"
    )
    assert said.ramdisk == Ramdisk(base=0x363F9000, end=0x36FFD950)


def test_nothing_said() -> None:
    said = parse("Linux version 6.1\n")
    assert said.memory is None
    assert said.total_pages is None
    assert said.node_ranges == ()
    assert said.ramdisk is None
    assert said.log.whole
