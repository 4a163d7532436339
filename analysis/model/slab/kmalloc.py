"""The caches of kmalloc: their sizes, kinds, names and alignment."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.eras_slab import SlabEra
from analysis.model.slab.slub_layout import align_up

RANDOM_COPIES = 15
"""RANDOM_KMALLOC_CACHES_NR, later KMALLOC_PARTITION_CACHES_NR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KmallocAlignment:
    """What an architecture wants of kmalloc."""

    kmalloc_minalign: int
    """ARCH_KMALLOC_MINALIGN: the smallest size is at least that."""
    dma_minalign: int
    """To what sizes are rounded up at boot, from 6.5: the machine's cache line where DMA is not
    coherent, 1 elsewhere."""


def short_name(size: int, era: SlabEra) -> str:
    """A size as it stands in a kmalloc cache's name: ``96``, ``1k``, ``2M``; ``1024`` to 4.19.

    Kernel: mm/slab_common.c, ``kmalloc_info``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    if era.kmalloc_reclaim:
        if size >= 1 << 20:
            return f"{size >> 20}M"
        if size >= 1 << 10:
            return f"{size >> 10}k"
    return str(size)


def kmalloc_alignment(
    arch: str,
    era: SlabEra,
    *,
    l1_cache_shift: int | None,
    noncoherent: bool,
    cache_line: int | None,
) -> KmallocAlignment | None:
    """The architecture's wishes; None where they are not known.

    ``l1_cache_shift``: CONFIG_ARM_L1_CACHE_SHIFT; ``noncoherent``: DMA of unaligned kmalloc memory
    is not bounced and caches are not coherent for it, so that objects must not share a cache line
    (CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC off, or its bounce buffer turned off); ``cache_line``: the
    machine's, for arm64.

    Kernel: arch/*/include/asm/cache.h, ARCH_DMA_MINALIGN and ARCH_KMALLOC_MINALIGN, and
        mm/slab_common.c, ``__kmalloc_minalign``; x86 and arm64 of 5.10, 6.1, 6.12, 7.2, 7.3, arm
        and m68k of 5.10.
    Ignores: KASAN's tags. riscv64 with CONFIG_RISCV_DMA_NONCOHERENT is not known for 6.0 to 6.5.
    """
    if arch == "arm64":
        if not era.rounds_kmalloc_to_dma:
            return KmallocAlignment(kmalloc_minalign=128, dma_minalign=1)
        if not noncoherent:
            return KmallocAlignment(kmalloc_minalign=8, dma_minalign=1)
        if cache_line is None:
            return None
        return KmallocAlignment(kmalloc_minalign=8, dma_minalign=cache_line)
    if arch == "arm":
        if l1_cache_shift is None:
            return None
        return KmallocAlignment(kmalloc_minalign=1 << l1_cache_shift, dma_minalign=1)
    if arch == "m68k":
        return KmallocAlignment(kmalloc_minalign=16, dma_minalign=1)
    if arch == "riscv64" and noncoherent:
        return None
    return KmallocAlignment(kmalloc_minalign=8, dma_minalign=1)


def kmalloc_sizes(
    alignment: KmallocAlignment, *, page_size: int, largest: int | None = None, smallest: int = 8
) -> tuple[int, ...]:
    """Object sizes in bytes: powers of two from the smallest to two pages, 96 where the smallest
    is at most 32 and 192 where it is at most 64; all rounded up to what DMA needs.

    Kernel: mm/slab_common.c, ``create_kmalloc_caches`` and ``new_kmalloc_cache``; 5.10 to 7.3.
        ``largest`` differs for SLAB (``slab.kmalloc_largest``), ``smallest`` is 32 there.
    Ignores: nothing known.
    """
    low = max(smallest, alignment.kmalloc_minalign)
    high = largest or 2 * page_size
    sizes = {1 << bit for bit in range(low.bit_length() - 1, high.bit_length())}
    sizes |= {size for size, least in ((96, 32), (192, 64)) if low <= least}
    if alignment.dma_minalign > alignment.kmalloc_minalign:
        sizes = {align_up(size, alignment.dma_minalign) for size in sizes}
    return tuple(sorted(sizes))


def kmalloc_kinds(
    era: SlabEra,
    *,
    zone_dma: bool,
    accounting: bool,
    kmem_off: bool,
    tiny: bool,
    random: bool,
    partitions: bool,
    buckets: bool,
) -> tuple[str, ...]:
    """What the names of kmalloc caches begin with, the size follows: ``kmalloc-``,
    ``kmalloc-rcl-`` (reclaimable), ``kmalloc-cg-`` (accounted to cgroups), ``dma-kmalloc-``, the
    copies of CONFIG_RANDOM_KMALLOC_CACHES (``rnd``) or CONFIG_KMALLOC_PARTITION_CACHES (``part``),
    and with CONFIG_SLAB_BUCKETS the caches of two users.

    ``accounting``: the option ``era.memcg_option``; ``kmem_off``: ``cgroup.memory=nokmem``.

    Kernel: mm/slab_common.c, ``kmalloc_info`` and ``new_kmalloc_cache``; 5.10, 6.1, 6.12, 7.2,
        7.3. ipc/msgutil.c and mm/util.c for the buckets.
    Ignores: kmalloc-no-objext caches, which only CONFIG_MEM_ALLOC_PROFILING or accounting with
        CONFIG_SLUB_TINY brings.
    """
    kinds = ["kmalloc-"]
    if era.kmalloc_reclaim and not tiny:
        kinds.append("kmalloc-rcl-")
    if era.kmalloc_cgroup and accounting and not kmem_off:
        kinds.append("kmalloc-cg-")
    if zone_dma:
        kinds.append("dma-kmalloc-")
    for on, name in ((random, "rnd"), (partitions, "part")):
        kinds += [f"kmalloc-{name}-{copy:02}-" for copy in range(1, RANDOM_COPIES + 1) if on]
    if era.kmalloc_buckets and buckets:
        kinds += ["memdup_user-", "msg_msg-"]
    return tuple(kinds)


def boot_align(
    size: int,
    *,
    era: SlabEra,
    alignment: KmallocAlignment,
    kmalloc: bool,
    cache_line: int | None,
    slab_minalign: int,
    word_bytes: int,
) -> int:
    """Alignment in bytes of a cache that the kernel makes at boot by itself: kmalloc's, and the two
    that hold caches (``cache_line`` given: they ask for that).

    Kernel: mm/slab_common.c, ``create_boot_cache``; to 6.1 every power of two is aligned to itself,
        from 6.12 kmalloc's sizes are to the largest power of two that divides them.
    Ignores: KASAN's tags.
    """
    align = alignment.kmalloc_minalign
    if era.aligns_kmalloc_to_divisor:
        if kmalloc:
            align = max(align, size & -size)
    elif size & (size - 1) == 0:
        align = max(align, size)
    return cache_align(
        size,
        align,
        cache_line=cache_line,
        slab_minalign=slab_minalign,
        word_bytes=word_bytes,
    )


def cache_align(
    size: int, asked: int, *, cache_line: int | None, slab_minalign: int, word_bytes: int
) -> int:
    """Alignment in bytes of a cache that asks for ``asked`` and, where ``cache_line`` is given, for
    cache lines (SLAB_HWCACHE_ALIGN): the line, halved as long as an object fits the half.

    Kernel: mm/slab_common.c, ``calculate_alignment``; 5.10 to 7.3.
    Ignores: KASAN's tags.
    """
    align = asked
    if cache_line is not None:
        line = cache_line
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return align_up(max(align, slab_minalign), word_bytes)


def kmalloc_kind(
    era: SlabEra,
    *,
    dma: bool,
    account: bool,
    reclaim: bool,
    zone_dma: bool,
    accounting: bool,
) -> str:
    """What the name of the cache begins with that serves a request with these flags: __GFP_DMA,
    __GFP_ACCOUNT, __GFP_RECLAIMABLE.

    The DMA zone goes before accounting, and that before reclaim. A kind that the configuration
    leaves out falls back to the next.

    Kernel: include/linux/slab.h, ``kmalloc_type``; 5.10, 6.1, 6.12, 7.2, 7.3.
    Ignores: the copies of CONFIG_RANDOM_KMALLOC_CACHES and CONFIG_KMALLOC_PARTITION_CACHES.
    """
    if dma and zone_dma:
        return "dma-kmalloc-"
    if account and era.kmalloc_cgroup and accounting:
        return "kmalloc-cg-"
    if reclaim and era.kmalloc_reclaim:
        return "kmalloc-rcl-"
    return "kmalloc-"


def serving_size(size: int, sizes: tuple[int, ...]) -> int | None:
    """Bytes of the objects that serve a request of ``size``: the smallest that hold it; None where
    it goes to the page allocator.

    Kernel: mm/slab_common.c, ``kmalloc_slab`` and ``kmalloc_large``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return min((served for served in sizes if served >= size), default=None)
