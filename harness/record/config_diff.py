"""The symbols in which two kernels' configurations differ, memory management first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["memory", "other"]

_MEMORY = re.compile(
    r"(?:"
    # nodes, zones and the map of struct pages
    r"NUMA\w*|NODES_\w+|.*_NUMA|AMD_NUMA|ZONE_\w+|HIGHMEM\w*|NOHIGHMEM|X86_PAE|FLATMEM\w*|"
    r"SPARSEMEM\w*|DISCONTIGMEM\w*|.*(?:FLATMEM|SPARSEMEM|DISCONTIGMEM)\w*|NEED_MULTIPLE_NODES|"
    r"SELECT_MEMORY_MODEL|MAX_SKIP_PAGE_ORDER|DEFERRED_STRUCT_PAGE_INIT|HAVE_MEMBLOCK\w*|"
    r"ARCH_KEEP_MEMBLOCK|FIRMWARE_MEMMAP|NUMA_MEMBLKS|"
    # pages and orders
    r"(?:HAVE_)?PAGE_(?:SIZE|SHIFT|OWNER|EXTENSION|POISONING|TABLE_CHECK|REPORTING|IDLE_FLAG|"
    r"BLOCK_ORDER|COUNTER|POOL)\w*|ARM64_\d+K_PAGES|ARM64_(?:VA|PA)_BITS\w*|PGTABLE_LEVELS|"
    r"(?:ARCH_)?FORCE_MAX_(?:ZONE)?ORDER|PAGEBLOCK_\w+|SHUFFLE_PAGE_ALLOCATOR|"
    r"HUGETLB\w*|ARCH_WANT_HUGE\w*|(?:HAVE_ARCH_)?TRANSPARENT_HUGEPAGE\w*|THP_\w+|"
    r"READ_ONLY_THP_FOR_FS|ARCH_ENABLE_(?:THP|SPLIT)\w*|"
    # slab and kernel address space
    r"SLAB\w*|SLUB\w*|SLOB\w*|DEBUG_SLAB\w*|HAVE_HARDENED_USERCOPY\w*|KMEM\w*|VMAP_\w+|"
    r"HAVE_ARCH_(?:HUGE_)?VMAP\w*|DEBUG_KMEMLEAK\w*|KASAN\w*|KFENCE\w*|KMSAN\w*|RANDOM_KMALLOC\w*|"
    # reclaim, compaction, movement, swap
    r"COMPACT\w*|MIGRATION|ARCH_ENABLE_(?:HUGEPAGE_)?MIGRATION|CMA\w*|DMA_CMA|CONTIG_ALLOC|"
    r"MEMORY_\w+|ARCH_ENABLE_MEMORY\w*|BALLOON\w*|LRU_GEN\w*|SWAP|.*_SWAP\w*|ZSWAP\w*|ZRAM\w*|"
    r"ZSMALLOC\w*|ZBUD|Z3FOLD|ZPOOL|FRONTSWAP|KSM|MEMCG\w*|PSI\w*|DAMON\w*|USERFAULTFD|"
    r"PERCPU_STATS|NEED_PER_CPU\w*|VM_EVENT_COUNTERS|PROC_PAGE_MONITOR|PROC_KCORE|"
    r"DEVICE_(?:PRIVATE|MIGRATION)|HMM_MIRROR|DEV_PAGEMAP_OPS|MMU|MMU_NOTIFIER|GUP_\w+|"
    r"PER_VMA_LOCK|SPLIT_PT\w*|LOCK_MM\w*|DEFAULT_MMAP_MIN_ADDR|SPLIT_PTLOCK_CPUS|BOUNCE|"
    r"DEBUG_(?:PAGEALLOC|VM|MEMORY_INIT|PAGE_REF|VIRTUAL|PER_CPU_MAPS)\w*|INIT_ON_\w+"
    r")"
)
"""Names of symbols that decide how memory is laid out, allocated, reclaimed or checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One symbol that two kernels do not have alike."""

    symbol: str
    """With its CONFIG_."""
    group: Group
    values: tuple[str | None, str | None]
    """As ``parse_kconfig`` gives them; None where a kernel's configuration does not name it."""


def diff_configs(first: Mapping[str, str], second: Mapping[str, str]) -> list[Difference]:
    """What differs, memory management first, each group by name.

    A symbol that one kernel has off and the other does not know at all is no difference.
    """
    differences = [
        Difference(
            symbol=symbol,
            group="memory" if _MEMORY.fullmatch(symbol.removeprefix("CONFIG_")) else "other",
            values=(first.get(symbol), second.get(symbol)),
        )
        for symbol in sorted(first.keys() | second.keys())
        if first.get(symbol, "n") != second.get(symbol, "n")
    ]
    return sorted(differences, key=lambda difference: difference.group != "memory")
