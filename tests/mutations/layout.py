"""One change for each rule of the memory layout that must make it fail."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.mutations.mutation import Mutation, plus


def plus_hex(amount: int) -> Callable[[str], str]:
    """The change that adds to a hexadecimal number and keeps its width."""
    return lambda old: f"{int(old, 16) + amount:0{len(old)}x}"


def _without_last_column(text: str) -> str:
    return re.sub(r" +\d+ *$", "", text, flags=re.MULTILINE)


def _larger_pageblocks(text: str) -> str:
    order = re.search(r"^Page block order: (\d+)$", text, re.MULTILINE)
    pages = re.search(r"^Pages per block: +(\d+)$", text, re.MULTILINE)
    assert order
    assert pages
    text = text.replace(order[0], f"Page block order: {int(order[1]) + 1}")
    return text.replace(pages[0], f"Pages per block:  {int(pages[1]) * 2}")


_WHOLE = r"\A([\s\S]+)\Z"

MUTATIONS: dict[str, Mutation] = {
    "memory_map": Mutation(
        file="proc/iomem",
        pattern=r"^00100000-([0-9a-f]+) : System RAM$",
        change=plus_hex(-0x1000),
    ),
    "node_range": Mutation(
        file="dmesg", pattern=r"  node +0: \[mem 0x[0-9a-f]+-0x([0-9a-f]+)\]", change=plus_hex(4096)
    ),
    "initmem_range": Mutation(
        file="dmesg",
        pattern=r"Initmem setup node 0 \[mem 0x[0-9a-f]+-0x([0-9a-f]+)\]",
        change=plus_hex(4096),
    ),
    "fake_node": Mutation(
        file="dmesg", pattern=r"Faking node 1 at \[mem 0x([0-9a-f]+)-", change=plus_hex(4096)
    ),
    "zone_range": Mutation(
        file="dmesg", pattern=r"  DMA +\[mem 0x[0-9a-f]+-0x([0-9a-f]+)\]", change=plus_hex(4096)
    ),
    "movable_start": Mutation(
        file="dmesg", pattern=r"  Node \d+: 0x([0-9a-f]+)$", change=plus_hex(4096)
    ),
    "node_zones": Mutation(
        file="proc/zoneinfo",
        pattern=r"^Node +\d+, zone +(Device)$",
        change=lambda old: old.lower(),
    ),
    "zone_start_pfn": Mutation(
        file="proc/zoneinfo", pattern=r"^  start_pfn: +(\d+)$", change=plus(1)
    ),
    "zone_spanned": Mutation(file="proc/zoneinfo", pattern=r"^ +spanned +(\d+)$", change=plus(1)),
    "zone_present": Mutation(file="proc/zoneinfo", pattern=r"^ +present +(\d+)$", change=plus(1)),
    "buddy_orders": Mutation(file="proc/buddyinfo", pattern=_WHOLE, change=_without_last_column),
    "pageblock_order": Mutation(
        file="proc/pagetypeinfo", pattern=_WHOLE, change=_larger_pageblocks
    ),
    "pageblocks": Mutation(
        file="proc/pagetypeinfo",
        pattern=r"^Node \d+, zone +\w+ +\d+ +(\d+) ",
        change=plus(1),
    ),
    "memory_block_size": Mutation(
        file="sys/devices/system/memory/block_size_bytes",
        pattern=r"^([0-9a-f]+)$",
        change=plus_hex(0x8000000),
    ),
    "memory_blocks": Mutation(
        file="sys/devices/system/memory/block_size_bytes",
        pattern=r"^([0-9a-f]+)$",
        change=plus_hex(0x8000000),
    ),
    "memory_model": Mutation(
        file="config",
        pattern=r"^CONFIG_SPARSEMEM_(VMEMMAP)=y$",
        change=lambda old: f"{old}_ENABLE_X",
    ),
    "memmap_pages": Mutation(
        file="proc/vmstat", pattern=r"^nr_memmap_boot_pages (\d+)$", change=plus(1)
    ),
    "unavailable_pages": Mutation(
        file="dmesg",
        pattern=r"On node \d+, zone \S+: (\d+) pages in unavailable ranges$",
        change=plus(1),
    ),
    "huge_page_memmap": Mutation(
        file="dmesg", pattern=r"HugeTLB: (\d+) KiB vmemmap can be freed", change=plus(1)
    ),
}
