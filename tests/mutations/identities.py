"""A change for every law between numbers of /proc and sysfs."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus

_MEMINFO = "proc/meminfo"
_ZONEINFO = "proc/zoneinfo"
_VMSTAT = "proc/vmstat"
_NODE = "sys/devices/system/node/node0"
_FAR = 50_000_000
"""Pages: more than can have moved while the files were read."""

MUTATIONS = {
    "meminfo_sums": Mutation(file=_MEMINFO, pattern=r"^Active: +(\d+) kB$", change=plus(4)),
    "commit_limit": Mutation(file=_MEMINFO, pattern=r"^CommitLimit: +(\d+) kB$", change=plus(4)),
    "hugetlb_total": Mutation(file=_MEMINFO, pattern=r"^HugePages_Total: +(\d+)$", change=plus(1)),
    "hugepage_size": Mutation(file=_MEMINFO, pattern=r"^Hugepagesize: +(\d+) kB$", change=plus(4)),
    "hugepages_nest": Mutation(file=_MEMINFO, pattern=r"^HugePages_Free: +(\d+)$", change=plus(1)),
    "swap_total": Mutation(file=_MEMINFO, pattern=r"^SwapTotal: +(\d+) kB$", change=plus(4)),
    "meminfo_counters": Mutation(
        file=_MEMINFO, pattern=r"^Mlocked: +(\d+) kB$", change=plus(4 * _FAR)
    ),
    "file_pages": Mutation(file=_MEMINFO, pattern=r"^Cached: +(\d+) kB$", change=plus(64 * _FAR)),
    "kernel_reclaimable": Mutation(
        file=_MEMINFO, pattern=r"^KReclaimable: +(\d+) kB$", change=plus(64 * _FAR)
    ),
    "zone_pages_nest": Mutation(
        file=_ZONEINFO, pattern=r"^        managed +(\d+)$", change=plus(1 << 40)
    ),
    "zone_free_counter": Mutation(
        file=_ZONEINFO, pattern=r"^      nr_free_pages (\d+)$", change=plus(_FAR)
    ),
    "managed_total": Mutation(file=_MEMINFO, pattern=r"^MemTotal: +(\d+) kB$", change=plus(4)),
    "zone_lru": Mutation(
        file=_ZONEINFO, pattern=r"^      nr_inactive_anon (\d+)$", change=plus(_FAR)
    ),
    "zone_counter_sum": Mutation(file=_VMSTAT, pattern=r"^nr_mlock (\d+)$", change=plus(_FAR)),
    "node_counter_sum": Mutation(
        file=_VMSTAT, pattern=r"^nr_isolated_anon (\d+)$", change=plus(_FAR)
    ),
    "cma_total": Mutation(file=_MEMINFO, pattern=r"^CmaTotal: +(\d+) kB$", change=plus(4)),
    "direct_map": Mutation(file=_MEMINFO, pattern=r"^DirectMap4k: +(\d+) kB$", change=plus(4)),
    "node_mem_total": Mutation(
        file=f"{_NODE}/meminfo", pattern=r"MemTotal: +(\d+) kB$", change=plus(4)
    ),
    "node_mem_used": Mutation(
        file=f"{_NODE}/meminfo", pattern=r"MemUsed: +(\d+) kB$", change=plus(4)
    ),
    "node_slab": Mutation(file=f"{_NODE}/meminfo", pattern=r"Slab: +(\d+) kB$", change=plus(4)),
    "node_hugepages": Mutation(
        file=f"{_NODE}/meminfo", pattern=r"HugePages_Total: +(\d+)$", change=plus(1)
    ),
    "node_meminfo_counters": Mutation(
        file=f"{_NODE}/meminfo", pattern=r"Unevictable: +(\d+) kB$", change=plus(64 * _FAR)
    ),
    "node_vmstat_counters": Mutation(
        file=f"{_NODE}/vmstat", pattern=r"^nr_unevictable (\d+)$", change=plus(_FAR)
    ),
    "numa_events": Mutation(file=_VMSTAT, pattern=r"^numa_local (\d+)$", change=plus(1 << 40)),
    "buddy_free_pages": Mutation(
        file=_ZONEINFO, pattern=r"^  pages free +(\d+)$", change=plus(_FAR)
    ),
    "pagetype_free_pages": Mutation(
        file="proc/pagetypeinfo", pattern=r"type +Movable +(\d+) ", change=plus(_FAR)
    ),
    "slab_pages": Mutation(
        file="proc/slabinfo", pattern=r" : slabdata +\d+ +(\d+) +\d+ *$", change=plus(_FAR)
    ),
    "slab_reclaimable_pages": Mutation(
        file="proc/slabinfo",
        pattern=r"^dentry .* : slabdata +\d+ +(\d+) +\d+ *$",
        change=plus(_FAR),
    ),
    "vmstat_names": Mutation(
        file=_VMSTAT, pattern=r"^(pgmajfault) \d+$", change=lambda old: f"{old}s"
    ),
    "vmstat_events_rise": Mutation(file=_VMSTAT, pattern=r"^pgfault (\d+)$", change=plus(1 << 40)),
}
