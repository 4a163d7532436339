"""What the kernel says of its memory at boot, from real messages."""

from __future__ import annotations

from analysis.procfs.boot_layout import MapChange, NumaBlock, read
from analysis.procfs.dmesg import parse

X86 = """\
[    0.000000] Linux version 5.10.0-1-amd64
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000003ffd9fff] usable
[    0.000000] BIOS-e820: [gap 0x000000003ffda000-0x000000003fffffff]
[    0.000000] BIOS-e820: [mem 0x0000000040000000-0x000000004000ffff]  persistent RAM (type 12)
[    0.000000] e820: remove [mem 0x2bc00000-0xfffffffffffffffe] usable
[    0.000000] NX (Execute Disable) protection: active
[    0.000000] user-defined physical RAM map:
[    0.000000] user: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved
[    0.000000] last_pfn = 0x2bc00 max_arch_pfn = 0x400000000
[    0.000000] e820: update [mem 0x2bbff000-0x2bbfffff] System RAM ==> device reserved
[    0.000000] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x0009ffff]
[    0.000000] ACPI: SRAT: Node 1 PXM 4 [mem 0x20000000-0x3fffffff] hotplug
[    0.000000] Faking node 1 at [mem 0x0000000010000000-0x000000001fffffff] (256MB)
[    0.000000]   low ram: 0 - 2a3fe000
[    0.000000] memblock_alloc_exact_nid_raw: 4096 bytes align=0x8 nid=1 sparse_init_nid+0x1/0x2
[    0.000000] memblock_alloc_exact_nid_raw: 8192 bytes align=0x8 nid=1 memmap_alloc+0x1/0x2
[    0.000000] Zone ranges:
[    0.000000]   DMA      [mem 0x0000000000001000-0x0000000000ffffff]
[    0.000000]   Normal   empty
[    0.000000] Movable zone start for each node
[    0.000000]   Node 1: 0x0000000018400000
[    0.000000] Early memory node ranges
[    0.000000]   node   0: [mem 0x0000000000001000-0x000000000009efff]
[    0.000000]   node   1: [mem 0x0000000020000000-0x000000003ffd9fff]
[    0.000000] Initmem setup node 0 [mem 0x0000000000001000-0x000000001fffffff]
[    0.000000]   DMA zone: 64 pages used for memmap
[    0.000000] Initmem setup node 1 [mem 0x0000000020000000-0x000000003ffd9fff]
[    0.000000]   DMA32 zone: 2048 pages used for memmap
[    0.000000] On node 0, zone DMA: 1 pages in unavailable ranges
[    0.000000] On node 0, zone DMA: 97 pages in unavailable ranges
[    0.1] HugeTLB: 28 KiB vmemmap can be freed for a 2.00 MiB page
[    0.1] HugeTLB: 16380 KiB vmemmap can be freed for a 1.00 GiB page
"""


def test_maps_and_their_changes() -> None:
    found = read(parse(X86))
    assert [row.type for row in found.maps["BIOS-provided"]] == [
        "usable",
        "usable",
        "persistent RAM (type 12)",
    ]
    assert found.maps["user-defined"][0].end == 0x9FC00
    assert found.changes == (
        MapChange(start=0x2BC00000, end=(1 << 64) - 1, old="usable", new=None, final=False),
        MapChange(start=0, end=0x1000, old="usable", new="reserved", final=False),
        MapChange(
            start=0x2BBFF000, end=0x2BC00000, old="System RAM", new="device reserved", final=True
        ),
    )


def test_nodes() -> None:
    found = read(parse(X86))
    assert found.srat[1] == NumaBlock(node=1, start=0x20000000, end=0x40000000, flags="hotplug")
    assert found.fake_nodes == (NumaBlock(node=1, start=0x10000000, end=0x20000000),)
    assert [block.node for block in found.node_ranges] == [0, 1]
    assert found.node_setups == {0: (0x1000, 0x20000000), 1: (0x20000000, 0x3FFDA000)}
    assert not found.single_node
    assert read(parse("[    0.0] NUMA: Faking a node at [mem 0x0-0x1]\n")).single_node


def test_zones_and_the_memmap() -> None:
    found = read(parse(X86))
    assert found.zone_ranges == {"DMA": (0x1000, 0x1000000), "Normal": None}
    assert found.movable_said
    assert found.movable_starts == {1: 0x18400000}
    assert found.zone_memmaps == ((0, "DMA", 64), (1, "DMA32", 2048))
    assert found.unavailable == {(0, "DMA"): 98}
    assert not found.zeroed_holes
    old = "[    2.0] Zeroed struct page in unavailable ranges: 12446 pages\n"
    assert read(parse(old)).zeroed_holes
    assert found.early_memmaps == {1: 12288}
    assert found.low_ram_end == 0x2A3FE000
    assert found.huge_memmap_kib == {2 << 20: 28, 1 << 30: 16380}


def test_lost_messages_leave_everything_empty() -> None:
    found = read(parse("[   12.3] eth0: link up\n"))
    assert not found.maps
    assert not found.changes
    assert not found.zone_ranges
    assert not found.movable_said
    assert found.low_ram_end is None


def test_dates_instead_of_seconds() -> None:
    text = "[Tue Nov 24 10:00:00 2026] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]\n"
    assert read(parse(text)).srat == (NumaBlock(node=0, start=0, end=0x80000000),)


def test_older_kernels_say_who_speaks() -> None:
    text = (
        "[    0.0] e820: BIOS-provided physical RAM map:\n"
        "[    0.0] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n"
        "[    0.0] e820: last_pfn = 0x9f max_arch_pfn = 0x400000000\n"
        "[    0.0] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n"
    )
    found = read(parse(text))
    assert [row.end for row in found.maps["BIOS-provided"]] == [0x9FC00]
    assert found.changes[0].final
