"""How SLUB lays out one object: what it takes beside the object's own bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from analysis.model.eras_slab import SlabEra
from analysis.model.release import Release

FREE_POINTER_INSIDE: Mapping[str, tuple[Release, Release]] = MappingProxyType(
    {
        "filp": (Release(6, 11), Release(6, 12)),
        "bfilp": (Release(6, 12), Release(7, 2)),
        "io_kiocb": (Release(6, 12), Release(7, 2)),
        "vm_area_struct": (Release(6, 14), Release(6, 15)),
        "ext4_inode_cache": (Release(6, 12), Release(7, 2)),
        "TCP": (Release(6, 12), Release(7, 2)),
        "TCPv6": (Release(6, 12), Release(7, 2)),
    }
)
"""Caches whose users name a place in the object for the free pointer although their objects may be
read after they were freed, or have a constructor: the last release compared without, and the first
with that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabFlags:
    """A cache's flags as far as its geometry depends on them."""

    hwcache_align: bool = False
    reclaim_account: bool = False
    cache_dma: bool = False
    destroy_by_rcu: bool = False
    """SLAB_TYPESAFE_BY_RCU."""
    constructor: bool = False
    sanity_checks: bool = False
    """SLAB_CONSISTENCY_CHECKS."""
    red_zone: bool = False
    poison: bool = False
    store_user: bool = False
    trace: bool = False
    kmalloc: bool = False
    """The cache serves kmalloc."""

    @property
    def debugging(self) -> bool:
        """Whether any of SLAB_DEBUG_FLAGS is set."""
        return self.sanity_checks or self.red_zone or self.poison or self.store_user or self.trace


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLayout:
    """Bytes of one object in a slab."""

    inuse_bytes: int
    """Up to the end of the object and the first word of its right red zone."""
    free_pointer_offset: int | None
    """From the object's begin; None where the cache's user chose the place."""
    tracking_bytes: int
    """Two records (allocated, freed) and the size asked for."""
    red_left_pad_bytes: int
    size_bytes: int
    """From one object to the next."""


def align_up(size: int, align: int) -> int:
    """The smallest multiple of ``align`` (any positive number) not below ``size``.

    Kernel: include/linux/align.h, ``ALIGN``, there for powers of two; every release.
    Ignores: nothing known.
    """
    return -(-size // align) * align


def track_bytes(era: SlabEra, *, word_bytes: int, stack: bool) -> int:
    """Bytes of one record of who allocated or freed an object.

    ``stack``: CONFIG_STACKDEPOT, or before 5.19 CONFIG_STACKTRACE.

    Kernel: mm/slub.c, ``struct track``; 5.10 with 16 return addresses, 6.1 to 7.3 with a handle of
        the stack depot.
    Ignores: nothing known.
    """
    if era.tracks_in_depot:
        numbers = 4 * (3 if stack else 2)
        return align_up(word_bytes + numbers, word_bytes) + word_bytes
    return word_bytes * (17 if stack else 1) + 8 + word_bytes


def slub_layout(
    object_size: int,
    align: int,
    flags: SlabFlags,
    *,
    era: SlabEra,
    word_bytes: int,
    stack: bool,
    free_pointer_inside: bool = False,
) -> ObjectLayout:
    """What an object of ``object_size`` bytes takes in a slab of a cache with ``align``.

    The free pointer overlays the object, near its middle, unless the object must stay as it is
    while it is free (RCU readers, a constructor, poison) or its right red zone must: then it comes
    behind. Tracking follows, then a word and a left red zone, and all is rounded up to ``align``.

    Kernel: mm/slub.c, ``calculate_sizes``; 5.10, 6.1, 6.12, 7.2, 7.3, with CONFIG_SLUB_DEBUG (the
        flags for debugging are never set without).
    Ignores: KASAN's metadata. CONFIG_SLAB_FREELIST_HARDENED and CONFIG_SLAB_FREELIST_RANDOM
        change the pointer's value and the objects' order, not the layout.
    """
    size = align_up(object_size, word_bytes)
    if flags.red_zone and size == object_size:
        size += word_bytes
    inuse = size
    requested = flags.kmalloc and flags.store_user and era.keeps_requested_size
    small = object_size < word_bytes
    behind = (
        flags.poison
        or (flags.red_zone and small)
        or (flags.red_zone and requested and era.requested_size_moves_free_pointer)
        or ((flags.destroy_by_rcu or flags.constructor) and not free_pointer_inside)
    )
    offset: int | None
    if behind:
        offset = size
        size += word_bytes
    elif flags.destroy_by_rcu or flags.constructor:
        offset = None
    else:
        offset = object_size // 2 // word_bytes * word_bytes
    tracking = 0
    if flags.store_user:
        tracking = 2 * track_bytes(era, word_bytes=word_bytes, stack=stack)
        tracking += word_bytes if requested else 0
    size += tracking
    left = align_up(word_bytes, align) if flags.red_zone else 0
    size += left + (word_bytes if flags.red_zone else 0)
    return ObjectLayout(
        inuse_bytes=inuse,
        free_pointer_offset=offset,
        tracking_bytes=tracking,
        red_left_pad_bytes=left,
        size_bytes=align_up(size, align),
    )


def free_pointer_inside(name: str, release: Release) -> tuple[bool, ...]:
    """Whether the user of a cache names a place for the free pointer: one answer, or both where the
    release lies between those that were compared.

    Kernel: users of ``use_freeptr_offset`` in 6.12, 7.2 and 7.3: fs/file_table.c,
        io_uring/io_uring.c, mm/vma_init.c, fs/ext4/super.c, net/ipv4/tcp_ipv4.c,
        net/ipv6/tcp_ipv6.c.
    Ignores: modules that are no part of the kernel.
    """
    if name not in FREE_POINTER_INSIDE:
        return (False,)
    last_without, first_with = FREE_POINTER_INSIDE[name]
    if release <= last_without:
        return (False,)
    return (True,) if release >= first_with else (False, True)
