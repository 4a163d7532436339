"""totalreserve_pages: what the kernel does not count as memory for page cache and users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneReserve:
    """One zone, in pages."""

    lowmem_reserve: tuple[int, ...]
    high_pages: int
    """High watermark; with the boost of the moment at which the reserve was computed."""
    managed_pages: int

    @property
    def pages(self) -> int:
        """Its part of totalreserve_pages."""
        return min(max(self.lowmem_reserve, default=0) + self.high_pages, self.managed_pages)


def totalreserve_pages(zones: Iterable[ZoneReserve]) -> int:
    """Sum over all zones of largest lowmem_reserve plus high watermark, at most all it manages.

    Kernel: mm/page_alloc.c, ``calculate_totalreserve_pages``. 4.19 to 6.12 look for the largest
        element, 7.2 and 7.3 take the last that is not zero; the same, as the array never falls.
    Ignores: nothing known.
    """
    return sum(zone.pages for zone in zones)


def mem_available_pages(
    *,
    free_pages: int,
    file_pages: int,
    reclaimable_pages: int,
    totalreserve: int,
    low_pages: int,
    indirectly_reclaimable_pages: int = 0,
) -> int:
    """MemAvailable, in pages.

    ``file_pages`` are those on both file LRU lists, ``reclaimable_pages`` reclaimable slab and
    other reclaimable kernel memory, ``low_pages`` the low watermarks of all zones, boost included.
    Of page cache and of reclaimable memory the low watermarks have to stay, at most half of each.
    ``indirectly_reclaimable_pages`` count in full where a release has them apart (4.18 to 4.20).

    Kernel: ``si_mem_available``, mm/page_alloc.c (4.19, 5.10, 6.1), mm/show_mem.c (6.12, 7.2, 7.3).
    Ignores: nothing known.
    """
    available = free_pages - totalreserve
    available += file_pages - min(file_pages // 2, low_pages)
    available += reclaimable_pages - min(reclaimable_pages // 2, low_pages)
    available += indirectly_reclaimable_pages
    return max(0, available)
