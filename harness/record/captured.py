"""Which files of a machine are kept, by a capture and by a run.

A capture is laid out as the files are in the running system (``proc/zoneinfo``), beside ``dmesg``,
``config`` (the kernel's), ``uname``, ``slab_sysfs`` (/sys/kernel/slab, a line per attribute) and
``capture.json``, which says how it was made.
"""

from __future__ import annotations

NODE = "/sys/devices/system/node"

MOVING = (
    "/proc/buddyinfo",
    "/sys/kernel/debug/extfrag/unusable_index",
    "/sys/kernel/debug/extfrag/extfrag_index",
    "/proc/zoneinfo",
    "/proc/vmstat",
    "/proc/meminfo",
    "/proc/pagetypeinfo",
    f"{NODE}/node*/meminfo",
    f"{NODE}/node*/vmstat",
    f"{NODE}/node*/numastat",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
)
"""Files whose numbers move while the system lives. They are read twice, one reading right after
the other; the second is kept with ``AGAIN`` at the end of its name. A number that is the same in
both held still meanwhile, or moved and came back."""

AGAIN = ".after"

STILL = (
    "/proc/cmdline",
    "/proc/version",
    "/proc/cpuinfo",
    "/proc/iomem",
    "/proc/modules",
    "/proc/mtrr",
    "/proc/swaps",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/numa_balancing",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
    "/sys/devices/system/cpu/cpu*/cache/index*/level",
    "/sys/devices/system/cpu/cpu*/cache/index*/type",
    "/sys/devices/system/cpu/cpu*/cache/index*/size",
    "/sys/devices/system/cpu/cpu*/cache/index*/coherency_line_size",
    "/sys/devices/system/cpu/cpu*/cache/index*/shared_cpu_list",
    "/sys/devices/system/memory/block_size_bytes",
    "/sys/devices/system/memory/memory*/state",
    "/sys/devices/system/memory/memory*/valid_zones",
    f"{NODE}/online",
    f"{NODE}/possible",
    f"{NODE}/has_*",
    f"{NODE}/node*/cpulist",
    f"{NODE}/node*/distance",
    "/sys/firmware/memmap/*/start",
    "/sys/firmware/memmap/*/end",
    "/sys/firmware/memmap/*/type",
    "/sys/kernel/debug/memblock/*",
    "/sys/kernel/mm/hugepages/*/nr_hugepages",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
    "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
)
"""Files that stay as they are while nobody changes the machine."""

SYSCTLS = "/proc/sys/vm/*"
FOLDING = "/proc/sys/vm/stat_refresh"
"""Reading it adds the per-cpu differences to the counters: it is not read on a machine that a
capture must leave as it is."""

SLAB = "/sys/kernel/slab"
SLAB_ATTRIBUTES = (
    "align",
    "aliases",
    "cache_dma",
    "cpu_partial",
    "ctor",
    "destroy_by_rcu",
    "hwcache_align",
    "min_partial",
    "object_size",
    "objects",
    "objs_per_slab",
    "order",
    "partial",
    "poison",
    "reclaim_account",
    "red_zone",
    "sanity_checks",
    "sheaf_capacity",
    "slab_size",
    "slabs",
    "store_user",
    "total_objects",
    "trace",
    "usersize",
)
"""Those that a cache's layout decides, and its sums by node. What lists every caller of an object
is left out: it is long."""

_AT_REST = ("/proc/buddyinfo", "/proc/pagetypeinfo", "/proc/meminfo")
"""Event counters of zoneinfo and vmstat move with the reading itself."""


def kept_as(path: str) -> str:
    """The name in the capture of a file of the machine.

    Raises:
        ValueError: the path leads out of the capture.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r}: expected an absolute path without '..'")
    return path.lstrip("/")


def held_still(first: dict[str, bytes], second: dict[str, bytes]) -> bool:
    """Whether free blocks and the amounts of memory in use are the same in both readings."""
    return all(first.get(path) == second.get(path) for path in _AT_REST)


def slab_listing(attributes: dict[str, bytes], links: dict[str, str]) -> bytes:
    """The one text of /sys/kernel/slab: ``path:value`` a line, and ``path -> target`` a link.

    ``attributes`` is keyed by the attribute's path; those reached through a link are left out.
    """
    lines = [f"{SLAB}/{name} -> {target}" for name, target in sorted(links.items())]
    for path, content in sorted(attributes.items()):
        if path.split("/")[4] not in links:
            value = content.decode("utf-8", "surrogateescape").rstrip("\n")
            lines += [f"{path}:{row}" for row in value.split("\n")]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
