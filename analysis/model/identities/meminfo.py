"""Laws of /proc/meminfo: sums of its lines, limits from sysctls, and the counter behind a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def together(*parts: int) -> int:
    """A line that sums two others, all from the same reading of the counters.

    ``Active`` and ``Inactive`` add anon and file, ``Slab`` adds reclaimable and unreclaimable.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``, which reads each counter once and prints it
        and the sum from the same variable; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return sum(parts)


def lowmem(total: int, highmem: int) -> int:
    """LowTotal or LowFree, in the unit of both: what is not highmem.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``; drivers/base/node.c, ``node_read_meminfo``;
        CONFIG_HIGHMEM; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return total - highmem


def commit_limit_pages(
    *,
    total_pages: int,
    hugetlb_pages: int,
    swap_pages: int,
    overcommit_ratio: int,
    overcommit_kbytes: int,
    page_size_bytes: int,
) -> int:
    """How much may be committed where vm.overcommit_memory is 2, in pages; printed always.

    A share of the memory that is not set aside for huge pages, in per cent, or a fixed amount
    where ``overcommit_kbytes`` is not 0, and all of swap.

    Raises:
        ValueError: more huge pages than memory.

    Kernel: mm/util.c, ``vm_commit_limit``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: a swap area that is being switched off, which SwapTotal still counts.
    """
    if hugetlb_pages > total_pages:
        raise ValueError(f"{hugetlb_pages} pages of hugetlb among {total_pages}")
    if overcommit_kbytes:
        allowed = overcommit_kbytes // (page_size_bytes // 1024)
    else:
        allowed = (total_pages - hugetlb_pages) * overcommit_ratio // 100
    return allowed + swap_pages


def hugetlb_kib(pools: Mapping[int, int]) -> int:
    """Hugetlb in KiB, from the number of huge pages of each size in KiB.

    Kernel: mm/hugetlb.c (mm/hugetlb_sysfs.c later), ``hugetlb_report_meminfo``; 5.10, 6.1, 6.12,
        7.2 and 7.3; CONFIG_HUGETLB_PAGE.
    Ignores: nothing known.
    """
    return sum(size_kib * pages for size_kib, pages in pools.items())


def default_hugepage_kib(arch: str, page_size_bytes: int, *, pae: bool = True) -> int:
    """Hugepagesize in KiB without ``default_hugepagesz=``: what one entry of the second table from
    the bottom maps.

    Raises:
        ValueError: an architecture that is not described.

    Kernel: HPAGE_SHIFT in arch/x86/include/asm/page_types.h, arch/arm64/include/asm/page-def.h (as
        PMD_SHIFT), arch/riscv/include/asm/page.h and arch/arm/include/asm/pgtable-3level.h;
        5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_HUGETLB_PAGE.
    Ignores: nothing known.
    """
    if arch == "i386" and not pae:
        return 4096
    if arch not in ("x86_64", "i386", "arm64", "riscv64", "arm"):
        raise ValueError(f"the huge page of {arch} is not described")
    entries = page_size_bytes // 8
    return entries * page_size_bytes // 1024


def file_pages(*, cached: int, buffers: int, swap_cached: int) -> int:
    """nr_file_pages, from the three lines into which meminfo divides it; any one unit.

    ``Cached`` is what the page cache holds without the block devices' own pages (Buffers) and
    without the swap cache. Shared memory is in it, huge pages of hugetlb are not.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: a difference below zero, which is printed as 0.
    """
    return cached + buffers + swap_cached


def reclaimable(*, slab: int, other: int) -> int:
    """KReclaimable: slab memory that can be given back, and what drivers say of theirs.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``, NR_KERNEL_MISC_RECLAIMABLE; 5.10, 6.1, 6.12,
        7.2 and 7.3.
    Ignores: nothing known.
    """
    return slab + other


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The counter of /proc/vmstat that a line of meminfo prints."""

    counter: str
    unit: str = "pages"
    """``pages``, ``KiB``, or ``huge`` for one that vmstat counts in transparent huge pages."""


LINES: Mapping[str, Line] = {
    "MemFree": Line(counter="nr_free_pages"),
    "SwapCached": Line(counter="nr_swapcached"),
    "Active(anon)": Line(counter="nr_active_anon"),
    "Inactive(anon)": Line(counter="nr_inactive_anon"),
    "Active(file)": Line(counter="nr_active_file"),
    "Inactive(file)": Line(counter="nr_inactive_file"),
    "Unevictable": Line(counter="nr_unevictable"),
    "Mlocked": Line(counter="nr_mlock"),
    "Dirty": Line(counter="nr_dirty"),
    "Writeback": Line(counter="nr_writeback"),
    "AnonPages": Line(counter="nr_anon_pages"),
    "Mapped": Line(counter="nr_mapped"),
    "Shmem": Line(counter="nr_shmem"),
    "SReclaimable": Line(counter="nr_slab_reclaimable"),
    "SUnreclaim": Line(counter="nr_slab_unreclaimable"),
    "KernelStack": Line(counter="nr_kernel_stack", unit="KiB"),
    "ShadowCallStack": Line(counter="nr_shadow_call_stack", unit="KiB"),
    "PageTables": Line(counter="nr_page_table_pages"),
    "SecPageTables": Line(counter="nr_sec_page_table_pages"),
    "Bounce": Line(counter="nr_bounce"),
    "WritebackTmp": Line(counter="nr_writeback_temp"),
    "AnonHugePages": Line(counter="nr_anon_transparent_hugepages", unit="huge"),
    "ShmemHugePages": Line(counter="nr_shmem_hugepages", unit="huge"),
    "ShmemPmdMapped": Line(counter="nr_shmem_pmdmapped", unit="huge"),
    "FileHugePages": Line(counter="nr_file_hugepages", unit="huge"),
    "FilePmdMapped": Line(counter="nr_file_pmdmapped", unit="huge"),
    "VmallocUsed": Line(counter="nr_vmalloc"),
    "CmaFree": Line(counter="nr_free_cma"),
    "Unaccepted": Line(counter="nr_unaccepted"),
    "Balloon": Line(counter="nr_balloon_pages"),
    "GPUActive": Line(counter="nr_gpu_active"),
    "GPUReclaim": Line(counter="nr_gpu_reclaim"),
}
"""Lines that show nothing but a counter. A release that lacks one of the two has no such law."""


def in_unit_of_counter(line: Line, shown_kib: int, page_size_bytes: int, huge_kib: int) -> int:
    """What vmstat should show where meminfo shows so many KiB.

    Both print the machine-wide sum of the same counter, without what CPUs keep to themselves, so
    they are equal at one moment. Huge pages are counted in small ones since 5.11 and rounded down
    where they are printed as huge ones.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``; mm/vmstat.c, ``vmstat_start``; 5.10, 6.1,
        6.12, 7.2 and 7.3.
    Ignores: what happens between the two readings.
    """
    if line.unit == "KiB":
        return shown_kib
    if line.unit == "huge":
        return shown_kib // huge_kib
    return shown_kib // (page_size_bytes // 1024)


def hugepages_nest(*, total: int, free: int, reserved: int, surplus: int) -> bool:
    """Whether the four counts of huge pages can be: free and surplus pages are part of the pool,
    and what is reserved is backed by free ones.

    Kernel: mm/hugetlb.c, ``hugetlb_acct_memory`` and ``gather_surplus_pages``; 5.10, 6.1, 6.12, 7.2
        and 7.3; CONFIG_HUGETLB_PAGE.
    Ignores: a change of the pool between the four numbers, which are printed without its lock.
    """
    return 0 <= reserved <= free <= total and 0 <= surplus <= total
