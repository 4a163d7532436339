"""Laws of NUMA events: every page allocated is counted twice, by wish and by place."""

from __future__ import annotations


def placed(*, local: int, other: int) -> int:
    """Allocations that a zone served, by where the asking CPU was: on its node or not.

    The same allocations are counted as ``numa_hit`` where the zone is on the node that was wished
    for, and as ``numa_miss`` where it is not, so hit and miss add up to this.

    Kernel: mm/page_alloc.c, ``zone_statistics``; 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_NUMA.
    Ignores: an allocation between its two counts, and what happens while the counters are read
        one after the other; ``vm.numa_stat`` switched off while pages are allocated.
    """
    return local + other


def foreign(missed: int) -> int:
    """Allocations that went elsewhere: what one zone counts as a miss another counts as foreign.

    Kernel: as ``placed``: both are counted by one call, so their sums over the machine are equal.
    Ignores: as ``placed``.
    """
    return missed
