"""GFP and ALLOC flags, as far as they decide which page is chosen."""

from __future__ import annotations

from enum import IntFlag

from analysis.model.eras import Era
from analysis.model.freelist import Migratetype


class Gfp(IntFlag):
    """Bits of gfp_t; the same in 6.1, 6.12, 7.2 and 7.3.

    Kernel: include/linux/gfp_types.h.
    """

    DMA = 0x01
    HIGHMEM = 0x02
    DMA32 = 0x04
    MOVABLE = 0x08
    RECLAIMABLE = 0x10
    HIGH = 0x20
    ATOMIC = 0x200  # gone since 6.4
    DIRECT_RECLAIM = 0x400
    KSWAPD_RECLAIM = 0x800
    WRITE = 0x1000
    MEMALLOC = 0x20000
    NOMEMALLOC = 0x80000
    THISNODE = 0x200000


class Alloc(IntFlag):
    """Internal allocation flags; the same in 6.1, 6.12, 7.2 and 7.3.

    Kernel: mm/internal.h (mm/page_alloc.h in 7.3). The two lowest bits number a watermark.
    """

    WMARK_MIN = 0x0
    WMARK_LOW = 0x1
    WMARK_HIGH = 0x2
    NO_WATERMARKS = 0x4
    OOM = 0x8
    NON_BLOCK = 0x10
    MIN_RESERVE = 0x20
    CPUSET = 0x40
    CMA = 0x80
    NOFRAGMENT = 0x100
    HIGHATOMIC = 0x200
    NOLOCK = 0x400
    KSWAPD = 0x800


WMARK_MASK = 0x3
RESERVES = int(Alloc.NON_BLOCK | Alloc.MIN_RESERVE | Alloc.HIGHATOMIC | Alloc.OOM)

ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE = range(4)
"""Zone types of x86_64 and arm64 as Debian builds them (both DMA zones, no HighMem)."""


def gfp_zone(gfp: int) -> int:
    """The highest zone type that a request may use.

    Kernel: include/linux/gfp.h, ``gfp_zone`` and GFP_ZONE_TABLE; 6.1 to 7.3.
    Ignores: kernels with HighMem, or without one of the DMA zones.
    """
    if gfp & Gfp.DMA:
        return ZONE_DMA
    if gfp & Gfp.DMA32:
        return ZONE_DMA32
    if gfp & Gfp.MOVABLE and gfp & Gfp.HIGHMEM:
        return ZONE_MOVABLE
    return ZONE_NORMAL


def gfp_migratetype(gfp: int) -> Migratetype:
    """The type that a request is for.

    Kernel: include/linux/gfp.h, ``gfp_migratetype``; 6.1 to 7.3.
    Ignores: page_group_by_mobility_disabled, with which every request is for unmovable pages.
    """
    if gfp & Gfp.MOVABLE:
        return Migratetype.MOVABLE
    if gfp & Gfp.RECLAIMABLE:
        return Migratetype.RECLAIMABLE
    return Migratetype.UNMOVABLE


def nonblocking_flags(gfp: int, order: int) -> int:
    """What a request that cannot wait may take of the reserves.

    Kernel: mm/page_alloc.c, ``gfp_to_alloc_flags`` (``alloc_flags_nonblocking`` in 7.3).
    Ignores: cpusets (ALLOC_CPUSET), which no run of ours sets up.
    """
    if gfp & Gfp.DIRECT_RECLAIM or gfp & Gfp.NOMEMALLOC:
        return 0
    if order > 0 and gfp & Gfp.HIGH:
        return int(Alloc.NON_BLOCK | Alloc.HIGHATOMIC)
    return int(Alloc.NON_BLOCK)


def fast_flags(gfp: int, order: int, era: Era, *, cma: bool, nofragment: bool) -> int:
    """Flags of a request's first attempt; ``cma``: movable and the kernel has CMA.

    Kernel: mm/page_alloc.c, ``__alloc_pages`` (``__alloc_frozen_pages_noprof``) and
        ``alloc_flags_nofragment``; 6.1 to 7.3.
    Ignores: cpusets, and NUMA policies that narrow the nodes.
    """
    flags = int(Alloc.WMARK_LOW)
    if gfp & Gfp.KSWAPD_RECLAIM:
        flags |= Alloc.KSWAPD
    if cma:
        flags |= Alloc.CMA
    if nofragment:
        flags |= Alloc.NOFRAGMENT
    if era.highatomic_fast:
        flags |= nonblocking_flags(gfp, order) & Alloc.HIGHATOMIC
    return flags


def slow_flags(gfp: int, order: int, *, cma: bool) -> int:
    """Flags of the attempts after the first.

    Kernel: mm/page_alloc.c, ``gfp_to_alloc_flags`` (``alloc_flags_slowpath`` in 7.3); 6.1 to 7.3.
    Ignores: the right of real-time tasks to the min reserve.
    """
    flags = int(Alloc.WMARK_MIN) | nonblocking_flags(gfp, order)
    if gfp & Gfp.HIGH:
        flags |= Alloc.MIN_RESERVE
    if gfp & Gfp.KSWAPD_RECLAIM:
        flags |= Alloc.KSWAPD
    if cma:
        flags |= Alloc.CMA
    return flags


def reserve_flags(gfp: int, *, cma: bool) -> int:
    """Flags of an attempt that may ignore the watermarks.

    Kernel: mm/page_alloc.c, ``__gfp_pfmemalloc_flags`` and its use; 6.1 to 7.3.
    Ignores: cpusets.
    """
    flags = int(Alloc.NO_WATERMARKS)
    if gfp & Gfp.KSWAPD_RECLAIM:
        flags |= Alloc.KSWAPD
    if cma:
        flags |= Alloc.CMA
    return flags
