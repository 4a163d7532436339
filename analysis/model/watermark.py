"""Watermarks of every zone, from managed pages and two sysctls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.model.release import Release

SWAP_CLUSTER_MAX = 32
CAPPED_MIN_PAGES_MAX = 128

ZoneKey = tuple[int, str]
"""Node and zone name, as /proc/zoneinfo prints them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """One zone's watermarks in pages, without boost."""

    min_pages: int
    low_pages: int
    high_pages: int
    promo_pages: int
    """The mark above high. The kernel keeps it from 6.1 on and prints it in 6.12."""


def movable_counts_as_lowmem(release: Release) -> frozenset[bool]:
    """Whether ZONE_MOVABLE shares in min_free_kbytes like a lowmem zone.

    Both answers come back for a release whose source was not compared; a caller may still be
    exact where they lead to the same watermark.

    Kernel: mm/page_alloc.c, ``__setup_per_zone_wmarks``. 4.19, 5.10 and 6.1 exclude only highmem;
        6.12, 7.2 and 7.3 exclude ZONE_MOVABLE too ("mm/page_alloc: fix min_free_kbytes calculation
        regarding ZONE_MOVABLE", posted June 2023).
    Ignores: stable releases that took the change back to an older line.
    """
    if release <= Release(6, 1):
        return frozenset({True})
    if release >= Release(6, 12):
        return frozenset({False})
    return frozenset({True, False})


def capped_zones(
    managed_pages: Mapping[ZoneKey, int], *, movable_is_lowmem: bool, highmem_by_name: bool
) -> frozenset[str]:
    """The zones that take no share of min_free_kbytes and whose min is capped.

    HighMem is one, and Movable where it is cut from high memory: where HighMem holds memory, or
    (``highmem_by_name``) wherever the kernel has such a zone at all.

    Kernel: mm/page_alloc.c, ``__setup_per_zone_wmarks``; include/linux/mmzone.h,
        ``is_highmem_idx``: without NUMA, 5.10 asks whether the zone below ZONE_MOVABLE is called
        ZONE_HIGHMEM, 6.1 whether that zone has a range; CONFIG_HIGHMEM.
    Ignores: a HighMem zone that gave all its pages to Movable; 32-bit kernels with NUMA, which
        ask for the range in 5.10 too.
    """
    highmem = any(
        zone == "HighMem" and (pages or highmem_by_name)
        for (_, zone), pages in managed_pages.items()
    )
    return frozenset({"HighMem", "Movable"} if highmem or not movable_is_lowmem else {"HighMem"})


def watermarks(
    managed_pages: Mapping[ZoneKey, int],
    *,
    min_free_kbytes: int,
    watermark_scale_factor: int,
    page_size_bytes: int,
    movable_is_lowmem: bool,
    highmem_by_name: bool = False,
) -> dict[ZoneKey, Watermarks]:
    """The watermarks of all zones of a machine, empty ones included.

    ``managed_pages`` are those at the moment at which the kernel computes: after boot it does so
    again only when a sysctl is written or memory is plugged.

    Raises:
        ValueError: no lowmem zone has a page, or the page size is below 1 KiB.

    Kernel: mm/page_alloc.c, ``__setup_per_zone_wmarks``; integer arithmetic of 4.19, 5.10, 6.1,
        6.12, 7.2 and 7.3, ``movable_is_lowmem`` as ``movable_counts_as_lowmem`` says. Zone kinds by
        name: HighMem is highmem, and so is Movable where HighMem holds memory
        (include/linux/mmzone.h, ``is_highmem_idx``; CONFIG_HIGHMEM).
    Ignores: watermark_boost, which the kernel sets to zero here and adds later; a HighMem zone
        that gave all its pages to Movable; the 32-bit divisor that releases up to 6.1 use (it
        matters from 16 TiB of 4 KiB pages on).
    """
    if page_size_bytes < 1024:
        raise ValueError(f"page size {page_size_bytes} B: expected at least 1024")
    capped = capped_zones(
        managed_pages, movable_is_lowmem=movable_is_lowmem, highmem_by_name=highmem_by_name
    )
    lowmem_pages = sum(pages for (_, zone), pages in managed_pages.items() if zone not in capped)
    if lowmem_pages <= 0:
        raise ValueError("no zone has lowmem pages: the zones of the whole machine are needed")
    pages_min = min_free_kbytes // (page_size_bytes // 1024)

    marks: dict[ZoneKey, Watermarks] = {}
    for (node, zone), managed in managed_pages.items():
        share = pages_min * managed // lowmem_pages
        min_pages = share
        if zone in capped:
            min_pages = min(max(managed // 1024, SWAP_CLUSTER_MAX), CAPPED_MIN_PAGES_MAX)
        gap = max(share >> 2, managed * watermark_scale_factor // 10000)
        marks[node, zone] = Watermarks(
            min_pages=min_pages,
            low_pages=min_pages + gap,
            high_pages=min_pages + 2 * gap,
            promo_pages=min_pages + 3 * gap,
        )
    return marks
