"""min_free_kbytes: the automatic value, and the one that khugepaged asks for."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from analysis.model.watermark import ZoneKey

AUTOMATIC_KBYTES_MIN = 128
AUTOMATIC_KBYTES_MAX = 262144
MIGRATE_PCPTYPES = 3
"""Unmovable, movable and reclaimable: the types that fragment each other."""

_ABOVE_USER = ("HighMem", "Movable", "Device")


def holds_buffers(zone: str) -> bool:
    """Whether kernel memory and buffers may come from a zone: one up to ZONE_NORMAL.

    Kernel: include/linux/gfp.h, ``gfp_zone(GFP_USER)``, 4.19 to 7.3: ZONE_NORMAL.
    Ignores: nothing known; zones by their printed names.
    """
    return zone not in _ABOVE_USER


def nr_free_buffer_pages(
    managed_pages: Mapping[ZoneKey, int], high_pages: Mapping[ZoneKey, int]
) -> int:
    """Pages beyond the high watermark in all zones up to ZONE_NORMAL; a zone below it counts 0.

    ``high_pages`` are those in force when it is asked; a zone that is absent has none yet.

    Kernel: mm/page_alloc.c, ``nr_free_zone_pages``, the same from 4.19 to 7.3. It walks the
        zonelist of the node that it runs on, which holds the zones of all nodes.
    Ignores: a watermark boost, which at boot is zero.
    """
    return sum(
        max(0, managed - high_pages.get(key, 0))
        for key, managed in managed_pages.items()
        if holds_buffers(key[1])
    )


def automatic_min_free_kbytes(
    buffer_pages: int, *, page_size_bytes: int, kbytes_max: int = AUTOMATIC_KBYTES_MAX
) -> int:
    """min_free_kbytes in KiB: the root of 16 times the lowmem in KiB, rounded down, within bounds.

    Kernel: mm/page_alloc.c, ``init_per_zone_wmark_min`` (4.19, 5.10), ``calculate_min_free_kbytes``
        (6.1 to 7.3): between 128 and 262144 KiB; 4.19 ends at 65536 (``kbytes_max``).
    Ignores: a value that was written by hand, which a smaller automatic one does not replace.
    """
    lowmem_kbytes = buffer_pages * (page_size_bytes // 1024)
    return min(max(isqrt(lowmem_kbytes * 16), AUTOMATIC_KBYTES_MIN), kbytes_max)


def recommended_min_free_kbytes(
    buffer_pages: int, *, populated_zones: int, pageblock_pages: int, page_size_bytes: int
) -> int:
    """What khugepaged raises min_free_kbytes to, in KiB, where that is more.

    Two pageblocks for each populated zone up to ZONE_NORMAL and nine more, one for every pair of
    the migrate types that fragment each other, but at most a twentieth of ``buffer_pages``.

    Kernel: mm/khugepaged.c, ``set_recommended_min_free_kbytes``, the same arithmetic from 4.19 to
        7.3; CONFIG_TRANSPARENT_HUGEPAGE.
    Ignores: nothing known.
    """
    blocks = populated_zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    pages = min(pageblock_pages * blocks, buffer_pages // 20)
    return pages * (page_size_bytes // 1024)
