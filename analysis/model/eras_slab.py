"""What changed in the slab allocators between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabEra:
    """The rules of a release.

    Kernel: mm/slub.c, mm/slab_common.c, mm/slab.h and include/linux/slab.h of Debian's
        linux-source 5.10.262, 6.1.192, 6.12.117, 7.2.13 and 7.3~rc7, compared line by line;
        mm/slab.c of the first two. The releases in brackets are those that merged the change.
    Ignores: at which stable update a change came to an older series.
    """

    counts_present_cpus: bool
    """The number of objects wanted in a slab grows with the present CPUs (5.11), not with the
    possible ones."""
    gives_up_objects: bool
    """The order is sought again with one object less until one fits the waste (to 6.6); later the
    wanted number sets the least order and only the accepted waste grows."""
    limits_follow_each_other: bool
    """A least order above the largest raises that one, and the reverse (6.7)."""
    cpu_partial_counts_slabs: bool
    """Objects on a CPU's partial slabs are limited by a number of slabs, with a higher number of
    objects to compute it from (5.16)."""
    keeps_cpu_partial: bool
    """CPUs keep partial slabs at all (to 6.19)."""
    keeps_sheaves: bool
    """Every cache has arrays of free objects per CPU, its sheaves (7.0)."""
    sheaves_on_request: bool
    """Caches that ask for sheaves have them (6.18)."""
    tracks_in_depot: bool
    """A tracking record has a handle of the stack depot instead of 16 addresses (5.19)."""
    keeps_requested_size: bool
    """kmalloc caches with tracking keep what was asked for behind it (6.1)."""
    requested_size_moves_free_pointer: bool
    """Where such caches have red zones the free pointer lies behind the object (6.2)."""
    aligns_kmalloc_to_divisor: bool
    """A kmalloc cache is aligned to the largest power of two that divides its size (6.11), before
    to the size where that is a power of two."""
    rounds_kmalloc_to_dma: bool
    """The smallest kmalloc size follows the machine's DMA alignment at boot (6.5)."""
    kmalloc_reclaim: bool
    """kmalloc caches of reclaimable objects, and short names: 1k instead of 1024 (4.20)."""
    kmalloc_cgroup: bool
    """kmalloc caches of accounted objects (5.14); the normal ones are then never merged."""
    memcg_option: str
    """The option that accounts kernel memory: ``MEMCG_KMEM``, ``MEMCG`` from 6.11."""
    kmalloc_buckets: bool
    """Users may have kmalloc caches of their own where CONFIG_SLAB_BUCKETS is set (6.11)."""
    kmalloc_without_extensions: bool
    """kmalloc caches for what describes other objects (7.2, and 6.12 stable)."""
    merge_parameter: bool
    """``slab_merge`` turns merging on (5.14)."""
    slab_parameters: bool
    """Parameters begin with ``slab_``, those with ``slub_`` still work (6.9)."""
    slab_kmalloc_two_pages: bool
    """SLAB's largest kmalloc cache is two pages, as SLUB's always was (6.1)."""


def slab_era_of(release: Release) -> SlabEra:
    """The rules of a release; between those compared, the release that brought a change decides.

    Kernel: see ``SlabEra``.
    Ignores: at which stable update a change came to an older series.
    """
    return SlabEra(
        counts_present_cpus=release >= Release(5, 11),
        gives_up_objects=release < Release(6, 7),
        limits_follow_each_other=release >= Release(6, 7),
        cpu_partial_counts_slabs=release >= Release(5, 16),
        keeps_cpu_partial=release < Release(7, 0),
        keeps_sheaves=release >= Release(7, 0),
        sheaves_on_request=release >= Release(6, 18),
        tracks_in_depot=release >= Release(5, 19),
        keeps_requested_size=release >= Release(6, 1),
        requested_size_moves_free_pointer=release >= Release(6, 2),
        aligns_kmalloc_to_divisor=release >= Release(6, 11),
        rounds_kmalloc_to_dma=release >= Release(6, 5),
        kmalloc_reclaim=release >= Release(4, 20),
        kmalloc_cgroup=release >= Release(5, 14),
        memcg_option="MEMCG" if release >= Release(6, 11) else "MEMCG_KMEM",
        kmalloc_buckets=release >= Release(6, 11),
        kmalloc_without_extensions=release >= Release(6, 12),
        merge_parameter=release >= Release(5, 14),
        slab_parameters=release >= Release(6, 9),
        slab_kmalloc_two_pages=release >= Release(6, 1),
    )
