"""Laws of zones: how their sizes nest, and what sums of their counters are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LOWER_MEMORY_PAGES = 256
"""Pages of 4 KiB below 1 MiB, which x86 maps whether there is memory or not."""
LRU = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")


def nests(*, managed_pages: int, present_pages: int, spanned_pages: int) -> bool:
    """Whether a zone's sizes can be: the allocator has part of what is there, which is part of
    the range from the first page to the last.

    Kernel: include/linux/mmzone.h, ``struct zone``; mm/mm_init.c (mm/page_alloc.c to 6.1),
        ``calculate_node_totalpages`` and ``free_area_init_core``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: ZONE_DEVICE, which has a span and nothing in it, so that the law holds there too.
    """
    return 0 <= managed_pages <= present_pages <= spanned_pages


def total_pages(managed_pages: Iterable[int]) -> int:
    """MemTotal in pages (a node's, or the machine's): the managed pages of its zones.

    Kernel: mm/page_alloc.c, ``adjust_managed_page_count``, which changes both at once;
        ``si_meminfo_node``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: a balloon or memory hotplug that moves pages while the files are read.
    """
    return sum(managed_pages)


def used_kib(total_kib: int, free_kib: int) -> int:
    """A node's MemUsed in KiB: all that is not free, whatever it is used for.

    Kernel: drivers/base/node.c, ``node_read_meminfo``, from the same numbers that it prints as
        MemTotal and MemFree; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return total_kib - free_kib


def counter_sum(counters: Iterable[Mapping[str, int]], name: str) -> int:
    """The machine's counter, from those of its zones or nodes.

    A CPU hands its private difference to the zone (or node) and to the machine in one go, so the
    sum is exact at any moment and needs no room for what CPUs still keep.

    Raises:
        KeyError: some, but not all, have the counter.

    Kernel: include/linux/vmstat.h, ``zone_page_state_add`` and ``node_page_state_add``; 5.10, 6.1,
        6.12, 7.2 and 7.3.
    Ignores: a zone whose count is below zero for a moment, which prints as 0.
    """
    return sum(one[name] for one in counters)


def lru_pages(zones: Iterable[Mapping[str, int]], lru: str) -> int:
    """A node's pages on an LRU list, from the counters ``nr_zone_*`` of its zones.

    The lists are the node's; their length by zone is kept beside for reclaim that only some
    zones can use. Both are changed together, but by different private differences.

    Kernel: include/linux/mm_inline.h, ``__update_lru_size``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return sum(zone.get(f"nr_zone_{lru}", 0) for zone in zones)


def cma_pages(zone_cma_pages: Iterable[int]) -> int:
    """CmaTotal in pages, from the CMA pages that zones have.

    Kernel: mm/page_alloc.c, ``init_cma_reserved_pageblock``; mm/cma.c, ``totalcma_pages``;
        6.1, 6.12, 7.2 and 7.3; CONFIG_CMA.
    Ignores: an area that was declared and could not be activated; 5.10 does not print it by zone.
    """
    return sum(zone_cma_pages)


def direct_map_pages(*, present_pages: int, first_pfn: int, lower_hole_pages: int) -> int:
    """The DirectMap lines of x86 together, in pages of 4 KiB, where it has no pages of 1 GiB.

    The linear map has all memory that zones have (without highmem), and the first 1 MiB whole:
    page 0 and the hole for the display and the BIOS too. In which sizes of pages does not matter
    for the sum; splitting a large one keeps it.

    ``first_pfn`` is where the first zone starts, ``lower_hole_pages`` what is missing in it.

    Raises:
        ValueError: more is missing than lies below 1 MiB.

    Kernel: arch/x86/mm/init.c, ``init_mem_mapping`` and ``init_range_memory_mapping``;
        arch/x86/mm/init_64.c and init_32.c, ``update_page_count``; 5.10, and held against 6.1,
        6.12, 7.2 and 7.3.
    Ignores: memory plugged in later or given to devices; holes between 1 and 16 MiB.
    """
    missing = first_pfn + lower_hole_pages
    if missing > LOWER_MEMORY_PAGES:
        raise ValueError(f"{missing} pages are missing in the first zone: some above 1 MiB")
    return present_pages + missing


def counted_once(kib: int, large_page_kib: int) -> int:
    """What is certain of a sum of DirectMap lines where some large pages count twice: the rest
    beyond whole ones.

    Memory is mapped in steps. A step that begins or ends inside a large page that is all memory
    maps the page whole; the next step finds it and counts it once more. From the top down, as
    usual, the steps are multiples of 2 MiB, so it happens to pages of 1 GiB only (DirectMap1G).
    From the bottom up, with ``movable_node``, the kernel's end divides a step: it happens to one
    page of 2 MiB too.

    Raises:
        ValueError: no size of a page.

    Kernel: arch/x86/mm/init.c, ``adjust_range_page_size_mask``, ``memory_map_top_down`` and
        ``init_mem_mapping``; arch/x86/mm/init_64.c, ``phys_pud_init`` and ``phys_pmd_init``; 5.10,
        and held against 5.8, 6.12 and 6.18.
    Ignores: how often a page is counted, which the steps decide.
    """
    if large_page_kib <= 0:
        raise ValueError(f"a page of {large_page_kib} KiB")
    return kib % large_page_kib
