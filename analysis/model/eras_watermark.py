"""What changed in the watermarks' arithmetic and its moments between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from analysis.model.release import Release
from analysis.model.watermark import movable_counts_as_lowmem

OLDEST = Release(4, 18)
"""The oldest release that is described: nothing here changed between it and 4.19."""
COMPARED = Release(4, 19)
"""The oldest release whose source was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkEra:
    """How one release computes watermarks and reserves, and when.

    Kernel: mm/page_alloc.c, mm/khugepaged.c and mm/huge_memory.c of 4.19 and of Debian's
        linux-source 5.10.262, 6.1.192, 6.12.117, 7.2.13 and 7.3~rc7, compared line by line.
    Ignores: what a vendor or a stable update took back to an older release.
    """

    movable_is_lowmem: bool
    """ZONE_MOVABLE shares in min_free_kbytes; later its min is capped as that of highmem ("fix
    min_free_kbytes calculation regarding ZONE_MOVABLE", between 6.1 and 6.12)."""
    highmem_by_name: bool
    """Without NUMA, ZONE_MOVABLE is high memory wherever the kernel has ZONE_HIGHMEM, empty or not;
    later where that zone has a range (``is_highmem_idx``, between 5.10 and 6.1)."""
    recomputes_without_khugepaged: bool
    """Where khugepaged is not wanted, its setup computes the automatic min_free_kbytes again, and
    the watermarks with it ("recalculate min_free_kbytes after stopping khugepaged", between 5.10
    and 6.1)."""
    reserve_follows_managed: bool
    """Every change of a zone's managed pages computes lowmem_reserve anew
    (``adjust_managed_page_count``, between 6.12 and 7.2)."""
    automatic_kbytes_max: int
    """The most that min_free_kbytes becomes by itself: 65536, later 262144 ("increase default
    min_free_kbytes bound", between 4.19 and 5.10)."""
    empty_zones_keep: bool
    """A zone that manages nothing keeps a lowmem_reserve all the same ("clear out
    zone->lowmem_reserve[] if the zone is empty", between 4.19 and 5.10)."""
    boosts: bool
    """Fragmentation raises watermarks for a while ("reclaim small amounts of memory when an
    external fragmentation event occurs", 5.0)."""


def watermark_eras(release: Release) -> tuple[WatermarkEra, ...]:
    """Every way in which the release may compute: one, unless a change came between two releases
    that were compared and this one lies between them. Those newer than the newest are taken to be
    as that one.

    Raises:
        ValueError: the release is older than any that was compared.

    Kernel: as ``WatermarkEra`` says.
    Ignores: as ``WatermarkEra`` says.
    """
    if release < OLDEST:
        raise ValueError(
            f"release {release}: the oldest whose watermark arithmetic was compared is {OLDEST}"
        )
    return tuple(
        WatermarkEra(
            movable_is_lowmem=movable_is_lowmem,
            highmem_by_name=not by_range,
            recomputes_without_khugepaged=stopped,
            reserve_follows_managed=follows,
            automatic_kbytes_max=262144 if raised else 65536,
            empty_zones_keep=not emptied,
            boosts=release >= Release(5, 0),
        )
        for movable_is_lowmem, by_range, stopped, follows, raised, emptied in product(
            sorted(movable_counts_as_lowmem(release)),
            _between(release, Release(5, 10), Release(6, 1)),
            _between(release, Release(5, 10), Release(6, 1)),
            _between(release, Release(6, 12), Release(7, 2)),
            _between(release, COMPARED, Release(5, 10)),
            _between(release, COMPARED, Release(5, 10)),
        )
    )


def _between(release: Release, without: Release, with_it: Release) -> tuple[bool, ...]:
    """Whether a change is in a release: one lacked it, a later one has it."""
    if release <= without:
        return (False,)
    return (True,) if release >= with_it else (True, False)
