"""Changes that must make the rules about the boot hand-over fail."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus


def _page_less(old: str) -> str:
    return f"{int(old, 16) - 0x10000:0{len(old)}x}"


MUTATIONS = {
    "memblock_regions": Mutation(
        file="dmesg",
        pattern=r" memory\[0x0\]\s*\[0x[0-9a-f]+-0x([0-9a-f]+)\]",
        change=_page_less,
        occurrence=-1,
    ),
    "boot_managed": Mutation(
        file="proc/zoneinfo", pattern=r"^ +managed +([1-9]\d*)$", change=plus(1)
    ),
    "memory_line_total": Mutation(
        file="dmesg", pattern=r"Memory: \d+K/(\d+)K available", change=plus(4)
    ),
    "memory_line_reserved": Mutation(
        file="dmesg", pattern=r"Memory: .*, (\d+)K reserved", change=plus(4)
    ),
    "memory_line_available": Mutation(
        file="dmesg", pattern=r"Memory: (\d+)K/\d+K available", change=plus(4)
    ),
    "memory_line_cma": Mutation(
        file="dmesg", pattern=r"Memory: .*, (\d+)K cma-reserved", change=plus(4)
    ),
    "total_pages_line": Mutation(file="dmesg", pattern=r"Total pages: (\d+)", change=plus(1)),
    "boot_zone_lines": Mutation(
        file="dmesg", pattern=r" zone: (\d+) pages, LIFO batch", change=plus(1)
    ),
    "unavailable_ranges": Mutation(
        file="dmesg", pattern=r"zone \S+: (\d+) pages in unavailable ranges", change=plus(1)
    ),
}
