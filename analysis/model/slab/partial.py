"""How many partly used slabs a cache keeps: on its nodes' lists, and on each CPU's."""

from __future__ import annotations

from analysis.model.eras_slab import SlabEra

LEAST, MOST = 5, 10
"""MIN_PARTIAL and MAX_PARTIAL."""
OBJECTS = (2, 6, 13, 30)
"""To 5.15, for sizes from a page, from 1024, from 256 bytes, and below."""
OBJECTS_FOR_SLABS = (6, 24, 52, 120)
"""From 5.16."""
SHEAF_OBJECTS = (4, 12, 26, 60)
"""From 7.0: half of that, since each CPU has two sheaves."""


def min_partial(size: int, *, tiny: bool) -> int:
    """Empty slabs that a node keeps before it gives one back: half of log2 of the size in bytes,
    within 5 and 10.

    Kernel: mm/slub.c, kmem_cache_open(), from 6.12 do_kmem_cache_create(); 5.10 to 7.3. With
        CONFIG_SLUB_TINY none.
    Ignores: a value written to /sys/kernel/slab/CACHE/min_partial.
    """
    return 0 if tiny else min(MOST, max(LEAST, (size.bit_length() - 1) // 2))


def by_size(size: int, steps: tuple[int, int, int, int], page_size: int) -> int:
    """The step for a size: from a page, from 1024, from 256 bytes, or below.

    Kernel: mm/slub.c, ``set_cpu_partial`` and ``calculate_sheaf_capacity``.
    Ignores: nothing known.
    """
    if size >= page_size:
        return steps[0]
    if size >= 1024:
        return steps[1]
    return steps[2] if size >= 256 else steps[3]


def cpu_partial(
    size: int, *, era: SlabEra, page_size: int, configured: bool, debugging: bool
) -> int:
    """Objects that a CPU's partial slabs may hold, as /sys/kernel/slab/CACHE/cpu_partial shows.

    Kernel: mm/slub.c, ``set_cpu_partial``; 5.10, 6.1, 6.12. 0 without CONFIG_SLUB_CPU_PARTIAL, for
        caches with any debugging flag, and from 7.0, where sheaves take their place and the file
        is kept for who reads it.
    Ignores: a value written to the file.
    """
    if not configured or not era.keeps_cpu_partial or debugging:
        return 0
    steps = OBJECTS_FOR_SLABS if era.cpu_partial_counts_slabs else OBJECTS
    return by_size(size, steps, page_size)


def cpu_partial_slabs(objects: int, objects_per_slab: int) -> int:
    """The number of slabs that the limit comes to: half of each slab is taken to be in use.

    Kernel: mm/slub.c, ``slub_set_cpu_partial``; 5.16 (6.1 and 6.12 compared).
    Ignores: nothing known.
    """
    return -(-objects * 2 // objects_per_slab)
