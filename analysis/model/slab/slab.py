"""SLAB (to 6.7): order, objects in a slab, where its index of free objects lies, per-cpu arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.model.eras_slab import SlabEra
from analysis.model.slab.slub_layout import align_up

SMALL_MACHINE_BYTES = 32 << 20
"""Machines up to that size get slabs of one page only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabMachine:
    page_size: int
    max_order: int
    """slab_max_order: 1, on machines of at most 32 MiB 0, or the parameter."""
    index_bytes: int
    """Bytes of one entry in the index of free objects."""
    kmalloc_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabGeometry:
    order: int
    objects: int
    index: str
    """Where the index of free objects lies: ``object`` (in a free object), ``off`` (in another
    kmalloc object), ``on`` (at the end of the slab)."""
    left_bytes: int
    """What is left over, for colouring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabTunables:
    limit: int
    """Objects that a CPU's array may hold."""
    batchcount: int
    """Objects moved at a time."""
    shared: int
    """Batches that the array of a node may hold."""


def kmalloc_largest(era: SlabEra, *, page_size: int, page_order_max: int) -> int:
    """The largest kmalloc cache of SLAB, in bytes.

    Kernel: include/linux/slab.h, KMALLOC_SHIFT_HIGH: 5.10 32 MiB or the page allocator's largest
        block, 6.1 two pages.
    Ignores: nothing known.
    """
    if era.slab_kmalloc_two_pages:
        return 2 * page_size
    return min(1 << 25, page_size << page_order_max)


def index_bytes(*, page_size: int, smallest_object: int) -> int:
    """Bytes of an entry in the index of free objects: one where a page holds at most 256 objects.

    Kernel: mm/slab.c, FREELIST_BYTE_INDEX; 5.10, 6.1. ``smallest_object`` is SLAB_OBJ_MIN_SIZE,
        kmalloc's smallest size but at most 16.
    Ignores: nothing known.
    """
    return 1 if page_size >> 8 <= min(smallest_object, 16) else 2


def slab_size(
    object_size: int, align: int, *, word_bytes: int, index_entry_bytes: int, smallest_object: int
) -> int:
    """Bytes from one object to the next: whole words, rounded up to the alignment; where the index
    has entries of one byte, at least the smallest object (16 at most).

    kmalloc's caches ask for cache lines (ARCH_KMALLOC_FLAGS), so 96 bytes take 128.

    Kernel: mm/slab.c, ``__kmem_cache_create``; 5.10, 6.1.
    Ignores: CONFIG_DEBUG_SLAB, KASAN.
    """
    align = max(align, word_bytes)
    size = align_up(align_up(object_size, word_bytes), align)
    least = min(smallest_object, 16)
    if index_entry_bytes == 1 and size < least:
        size = align_up(least, align)
    return size


def slab_geometry(
    size: int,
    object_size: int,
    machine: SlabMachine,
    *,
    reclaim_account: bool,
    index_in_object: bool,
    index_off_slab: bool = True,
) -> SlabGeometry | None:
    """Geometry of a cache whose objects lie ``size`` bytes apart; None where none is possible.

    Three places for the index are tried in turn: in a free object (if an object holds it, and
    unless ``index_in_object`` is false: constructor, RCU, zeroing on free), outside the slab (if
    that costs at most half an object and what is left over does not hold it), at the slab's end.
    For each the order grows from 0 until at most an eighth is left over or max_order is reached;
    reclaimable caches take the first order that holds an object.

    Kernel: mm/slab.c, ``__kmem_cache_create``, ``calculate_slab_order``, ``cache_estimate``; 5.10,
        6.1 (the same for indexes that kmalloc caches hold).
    Ignores: CONFIG_DEBUG_SLAB, KASAN; ``index_off_slab`` is false for SLAB_NOLEAKTRACE.
    """
    found = None
    if index_in_object:
        found = _first_geometry(size, object_size, machine, "object", reclaim_account)
        if found is not None and found.objects * machine.index_bytes > object_size:
            found = None
    if found is None and index_off_slab:
        found = _first_geometry(size, object_size, machine, "off", reclaim_account)
        if found is not None and found.left_bytes >= found.objects * machine.index_bytes:
            found = None
    return found or _first_geometry(size, object_size, machine, "on", reclaim_account)


def _first_geometry(
    size: int, object_size: int, machine: SlabMachine, index: str, reclaim_account: bool
) -> SlabGeometry | None:
    apart = size + (machine.index_bytes if index == "on" else 0)
    objects_max = (1 << 8 * machine.index_bytes) - 1
    found = None
    for order in range(11):
        slab_bytes = machine.page_size << order
        objects, left = divmod(slab_bytes, apart)
        if not objects:
            continue
        if objects > objects_max:
            break
        if index == "off":
            home = _home(objects * machine.index_bytes, machine.kmalloc_sizes)
            if home is None or home > object_size // 2:
                continue
        found = SlabGeometry(order=order, objects=objects, index=index, left_bytes=left)
        if reclaim_account or order >= machine.max_order or left * 8 <= slab_bytes:
            break
    return found


def _home(index: int, sizes: Iterable[int]) -> int | None:
    return next((size for size in sizes if size >= index), None)


def slab_tunables(size: int, *, page_size: int, possible_cpus: int, debug: bool) -> SlabTunables:
    """Sizes of a cache's arrays of free objects, from the bytes its objects lie apart.

    Kernel: mm/slab.c, ``enable_cpucache``; 5.10, 6.1. With CONFIG_DEBUG_SLAB at most 32 objects.
    Ignores: values written to /proc/slabinfo.
    """
    if size > 131072:
        limit = 1
    elif size > page_size:
        limit = 8
    elif size > 1024:
        limit = 24
    else:
        limit = 54 if size > 256 else 120
    limit = min(limit, 32) if debug else limit
    shared = 8 if size <= page_size and possible_cpus > 1 else 0
    return SlabTunables(limit=limit, batchcount=(limit + 1) // 2, shared=shared)
