"""vmalloc areas: how large one is, whom its pages belong to, and what meminfo counts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from analysis.model.eras_vmalloc import vmalloc_era
from analysis.model.release import Release

CACHED_STACKS_PER_CPU = 2
"""Kernel stacks that a CPU keeps for the next fork instead of freeing them."""
STACK_BYTES_MIN = 16384
"""THREAD_SIZE on the 64-bit architectures."""


def area_size_bytes(pages: int, page_size_bytes: int, *, guard: bool = True) -> int:
    """The size that vmallocinfo prints for an area of so many mapped pages.

    Behind every area lies an unmapped page, so that running over the end faults instead of
    hitting the next area; the size printed includes it. It does so whatever the size of the pages
    that map the area: a huge mapping is rounded up to whole huge pages first, and what is
    rounded up is allocated and counted too.

    Raises:
        ValueError: a negative number of pages.

    Kernel: mm/vmalloc.c, ``__get_vm_area_node`` (rounds up, adds the guard) and
        ``__vmalloc_area_node`` (pages from the size without it); 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: areas whose pages vrealloc() took away later (``VmallocEra.may_shrink``); VM_NO_GUARD,
        which KASAN's shadow of modules and of hot-plugged memory has (CONFIG_KASAN), and areas
        that never come here: those of early boot and the chunks of percpu memory.
    """
    if pages < 0:
        raise ValueError(f"{pages} pages: expected none or more")
    return (pages + guard) * page_size_bytes


def least_area_bytes(page_size_bytes: int) -> int:
    """The smallest area that has a guard: one page and the guard page.

    Kernel: as ``area_size_bytes``; a request for nothing gets no area.
    Ignores: as ``area_size_bytes``.
    """
    return area_size_bytes(1, page_size_bytes)


def pages_array_pages(pages: int, *, page_size_bytes: int, word_bytes: int = 8) -> int:
    """Pages of the area in which vmalloc() keeps an area's list of pages; 0 where kmalloc() does.

    The list has a pointer for each page. If it is larger than a page it comes from vmalloc()
    itself, once the area has its address and before it has pages, and the area's line says
    ``vpages``; it counts as used memory too.

    Kernel: mm/vmalloc.c, ``__vmalloc_area_node`` and ``show_numa_info``'s neighbour that prints
        the flags; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: lists so long that theirs is itself larger than a page (areas of 1 GiB and more).
    """
    list_bytes = pages * word_bytes
    return 0 if list_bytes <= page_size_bytes else -(-list_bytes // page_size_bytes)


def percpu_area_sizes(group_units: Sequence[int], unit_size_bytes: int) -> Counter[int]:
    """The areas of one chunk of percpu memory: for each size, how many.

    CPUs are put in groups by distance. A chunk has an area for each group, a unit for each of its
    CPUs in it, and no guard page, so that all chunks keep the offsets of the first one.

    Raises:
        ValueError: a group without units, or no unit size.

    Kernel: mm/percpu.c, ``pcpu_setup_first_chunk`` (the sizes of groups); mm/vmalloc.c,
        ``pcpu_get_vm_areas``; 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_SMP.
    Ignores: the first chunk, which lies in the linear map (or, with ``percpu_alloc=page``, in an
        early area).
    """
    if unit_size_bytes <= 0 or any(units <= 0 for units in group_units):
        raise ValueError(f"groups of {group_units} units of {unit_size_bytes} B")
    return Counter(units * unit_size_bytes for units in group_units)


def percpu_remainder(percpu_pages: int, *, first_chunk_pages: int, units: int) -> int:
    """What is left of meminfo's Percpu when it is dealt out to the units: nothing.

    A page of percpu memory is backed for all units at once, so their number divides the whole.
    The first chunk is backed from the start; less than that gives what is missing, below zero.

    Raises:
        ValueError: no units.

    Kernel: mm/percpu.c, ``pcpu_nr_pages`` and ``pcpu_setup_first_chunk``; 5.10, 6.1, 6.12, 7.2 and
        7.3.
    Ignores: which further pages are backed, which allocations decide.
    """
    if units <= 0:
        raise ValueError(f"{units} units of percpu memory")
    least = first_chunk_pages * units
    return percpu_pages - least if percpu_pages < least else percpu_pages % units


def pages_on_nodes(node_pages: Mapping[int, int]) -> int:
    """The pages of an area, from the numbers by node that follow ``N``.

    Kernel: mm/vmalloc.c, ``show_numa_info``: a page is counted on the node it lies on, so the sum
        is the number of pages; 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_NUMA.
    Ignores: pages on a node without memory that the kernel can use directly (nodes that are all
        ZONE_MOVABLE), which are not printed.
    """
    return sum(node_pages.values())


def used_pages(owned_pages: Iterable[int], release: Release) -> int:
    """VmallocUsed in pages, from the pages of the areas that vmalloc() allocated.

    Mappings of pages that belong to others (vmap, ioremap), guard pages and percpu chunks do not
    count, nor does an area that vmap() was given together with its pages.

    Raises:
        ValueError: a release before 4.4, which counted address space.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``; mm/vmalloc.c, ``nr_vmalloc_pages``, from 5.3
        on; 5.10, 6.1 and 6.12. In 7.2 and 7.3 it is the node counter NR_VMALLOC, of which each CPU
        keeps a share to itself. From 4.4 to 5.2 the line is 0.
    Ignores: areas that come or go between the two files.
    """
    if release < Release(4, 4):
        raise ValueError(f"{release}: VmallocUsed is address space before 4.4")
    return sum(owned_pages) if vmalloc_era(release).counts_pages else 0


def stack_pages(page_size_bytes: int) -> int:
    """Pages of one task's kernel stack, the area that comes and goes with every process.

    Kernel: THREAD_SIZE in arch/x86/include/asm/page_64_types.h, arch/arm64/include/asm/memory.h
        and arch/riscv/include/asm/thread_info.h: 16 KiB, or a page if that is larger; 5.10 to 7.3,
        CONFIG_VMAP_STACK.
    Ignores: CONFIG_KASAN, which doubles it.
    """
    return max(STACK_BYTES_MIN, page_size_bytes) // page_size_bytes


def stack_drift_pages(cpus: int, page_size_bytes: int) -> int:
    """By how much the pages in use may differ between two files that a quiet machine reads.

    Each of the two readers is a process with a stack, and a CPU frees the stacks of exited tasks
    late: it keeps two for the next fork, and those beyond wait for RCU.

    Kernel: kernel/fork.c, ``alloc_thread_stack_node`` and ``free_thread_stack``
        (NR_CACHED_STACKS); 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_VMAP_STACK.
    Ignores: everything else that allocates between the readers: module loading, BPF, new tasks
        of others.
    """
    return (2 + CACHED_STACKS_PER_CPU * cpus) * stack_pages(page_size_bytes)


def chunk_kib(release: Release) -> int:
    """VmallocChunk, once the largest free stretch of address space.

    Raises:
        ValueError: a release before 4.4, which computed it.

    Kernel: fs/proc/meminfo.c, ``meminfo_proc_show``: a constant since 4.4; 5.10 to 7.3.
    Ignores: nothing known.
    """
    if release < Release(4, 4):
        raise ValueError(f"{release}: VmallocChunk is computed before 4.4")
    return 0


def overlaps(spans: Sequence[tuple[int, int]]) -> int:
    """How many areas begin before one that begins no later has ended; real addresses.

    Kernel: mm/vmalloc.c, ``__insert_vmap_area``/``insert_vmap_area``, which find a place for an
        area between its neighbours; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: areas that wait to be unmapped, whose addresses are not given out either.
    """
    count = 0
    highest = 0
    for start, end in sorted(spans):
        count += start < highest
        highest = max(highest, end)
    return count


def ioremap_alignment_bytes(size_bytes: int, page_size_bytes: int) -> int:
    """The alignment of an area that maps device memory: its size rounded up to a power of two.

    So large pages can map it. At most 128 pages are asked for here; ``size_bytes`` includes the
    guard page, as vmallocinfo prints it.

    Raises:
        ValueError: no room for a page and a guard.

    Kernel: mm/vmalloc.c, ``__get_vm_area_node`` for VM_IOREMAP; include/linux/vmalloc.h,
        IOREMAP_MAX_ORDER; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: architectures with a larger limit (x86_64, arm64), whose areas are aligned to more.
    """
    if size_bytes < least_area_bytes(page_size_bytes):
        raise ValueError(f"{size_bytes} B hold no page and its guard")
    mapped = size_bytes - page_size_bytes
    return min(1 << (mapped - 1).bit_length(), page_size_bytes << 7)


def shared_ends(spans: Sequence[tuple[int, int]]) -> int:
    """How many areas begin or end where another one does: an overlap, seen through hashes.

    Hashed addresses keep nothing but equality. Two areas with the same first or the same last
    address overlap.

    Kernel: lib/vsprintf.c, ``ptr_to_hashval``: the lower 32 bits of a keyed hash, the same for
        the same address until the next boot; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: overlaps of areas that share neither end; the chance of about n²/2³³ that two of n
        addresses have the same hash.
    """
    starts = Counter(start for start, _ in spans)
    ends = Counter(end for _, end in spans)
    return sum(n - 1 for n in starts.values()) + sum(n - 1 for n in ends.values())


def out_of_order(spans: Sequence[tuple[int, int]]) -> int:
    """How many areas follow directly on another one, but are not printed right after it.

    In a list sorted by address the area that begins where one ends is the next line. This needs
    no order of addresses, so it can be seen through hashes too.

    Kernel: mm/vmalloc.c, ``vmap_area_list``; 5.10 and 6.1 (``VmallocEra.one_list``).
    Ignores: areas whose neighbours do not touch them.
    """
    line_of = {start: line for line, (start, _) in enumerate(spans)}
    return sum(end in line_of and line_of[end] != line + 1 for line, (_, end) in enumerate(spans))
