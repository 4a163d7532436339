"""Caches of our own as the model sees them: geometry, and an allocator to follow requests with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.slab import inputs
from analysis.compare.static.slab.old import slab_machine
from analysis.compare.static.slab.orders import limits, order_cpus
from analysis.errors import MissingInputError
from analysis.model.eras_slab import SlabEra
from analysis.model.release import Release
from analysis.model.slab.kmalloc import cache_align, kmalloc_sizes
from analysis.model.slab.partial import cpu_partial, cpu_partial_slabs, min_partial
from analysis.model.slab.place import Place
from analysis.model.slab.sheaves import sheaf_capacity
from analysis.model.slab.slab import slab_geometry, slab_size, slab_tunables
from analysis.model.slab.slab_cpu import SlabOnCpu
from analysis.model.slab.slub_cpu import SlubOnCpu
from analysis.model.slab.slub_layout import SlabFlags, slub_layout
from analysis.model.slab.slub_order import slub_order
from analysis.model.slab.slub_sheaves import SlubWithSheaves
from analysis.tour.slab_requests import Allocator

FOLLOWED = (Release(5, 10), Release(6, 1), Release(6, 12), Release(7, 2), Release(7, 3))
"""The releases whose allocators the model follows object by object."""
SLAB_MINALIGN = 8
"""ARCH_SLAB_MINALIGN of x86_64 and arm64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheModel:
    """A cache as the model has it before a single object is asked for."""

    size: int
    """Bytes from one object to the next."""
    objects: int
    """Objects in a slab; in a page, for SLOB."""
    order: int
    allocator: Allocator
    offset_of: Callable[[Place], int]
    working: tuple[str, ...]


def era_of(snapshot: Snapshot) -> SlabEra:
    """The rules in force.

    Raises:
        MissingInputError: several may be.
    """
    found = list(inputs.eras(snapshot))
    if len(found) != 1:
        raise MissingInputError(f"one set of rules for {snapshot.kernel}, not {len(found)}")
    return found[0]


def not_followed(snapshot: Snapshot) -> str:
    """Why the model does not say how this kernel picks objects; empty where it does.

    Raises:
        MissingInputError: the capture has no configuration.
    """
    if snapshot.release not in FOLLOWED:
        # the newest kernel of a suite moves on: its layout is told, its lists were not compared
        return (
            f"how {inputs.allocator(snapshot)} of {snapshot.release} picks objects was not compared"
        )
    if inputs.allocator(snapshot) != "SLUB":
        return ""
    if inputs.option(snapshot, "SLUB_DEBUG_ON"):
        return "a kernel that checks every object takes them from slabs otherwise: not compared"
    if inputs.tiny(snapshot):
        return "CONFIG_SLUB_TINY leaves CPUs nothing of their own, which was not compared"
    if era_of(snapshot).keeps_cpu_partial and not inputs.option(snapshot, "SLUB_CPU_PARTIAL"):
        return "SLUB without CONFIG_SLUB_CPU_PARTIAL was not compared"
    return ""


def checked(snapshot: Snapshot, flags: SlabFlags) -> SlabFlags:
    """The flags of a cache, with those for debugging that the kernel gives to all caches.

    Kernel: mm/slub.c, ``DEBUG_DEFAULT_FLAGS`` and ``kmem_cache_flags``; 5.10 to 7.3.

    Raises:
        MissingInputError: a parameter decides which.
    """
    for name in ("slub_debug", "slab_debug"):
        if snapshot.cmdline.has(name):
            raise inputs.OutsideRuleError(f"{name} decides which caches are checked for what")
    if not inputs.option(snapshot, "SLUB_DEBUG_ON"):
        return flags
    return replace(flags, sanity_checks=True, red_zone=True, poison=True, store_user=True)


def slub_cache(snapshot: Snapshot, size: int, flags: SlabFlags, *, align: int = 0) -> CacheModel:
    """A cache of SLUB.

    Raises:
        MissingInputError: an input is missing, or KASAN adds bytes to objects.
    """
    inputs.plain_objects(snapshot)
    flags = checked(snapshot, flags)
    era = era_of(snapshot)
    line = inputs.cache_line(snapshot) if flags.hwcache_align else None
    aligned = cache_align(size, align, cache_line=line, slab_minalign=SLAB_MINALIGN, word_bytes=8)
    stack = inputs.option(snapshot, "STACKDEPOT" if era.tracks_in_depot else "STACKTRACE")
    layout = slub_layout(size, aligned, flags, era=era, word_bytes=8, stack=stack)
    page = snapshot.page_size_bytes
    cpus = order_cpus(snapshot, era)
    order = slub_order(
        layout.size_bytes, cpus=cpus[-1], limits=limits(snapshot, era), page_size=page, era=era
    )
    partial = cpu_partial(
        layout.size_bytes,
        era=era,
        page_size=page,
        configured=inputs.option(snapshot, "SLUB_CPU_PARTIAL"),
        debugging=flags.debugging,
    )
    slabs = cpu_partial_slabs(partial, order.objects)
    least = min_partial(layout.size_bytes, tiny=inputs.tiny(snapshot))
    taken = layout.size_bytes
    allocator: SlubOnCpu | SlubWithSheaves
    if era.keeps_sheaves:
        kmalloc = kmalloc_sizes(inputs.alignment(snapshot, era), page_size=page)
        capacity = sheaf_capacity(
            "",
            taken,
            era=era,
            page_size=page,
            word_bytes=8,
            kmalloc_sizes=kmalloc,
            debugging=flags.debugging,
            tiny=inputs.tiny(snapshot),
        )
        allocator = SlubWithSheaves(
            objects_per_slab=order.objects, min_partial=least, capacity=capacity
        )
        kept = f"sheaves of {capacity} objects"
    else:
        allocator = SlubOnCpu(
            objects_per_slab=order.objects,
            min_partial=least,
            cpu_partial_slabs=slabs,
            cpu_partial_objects=None if era.cpu_partial_counts_slabs else partial,
        )
        kept = f"cpu_partial {partial} objects"
        kept += f": {slabs} slabs" if era.cpu_partial_counts_slabs else ""
    return CacheModel(
        size=taken,
        objects=order.objects,
        order=order.order,
        allocator=allocator,
        offset_of=lambda place: place.within * taken,
        working=(
            f"{size} bytes aligned to {aligned} take {taken}",
            f"{cpus[-1]} CPUs: order {order.order}, {order.objects} objects in a slab",
            f"{kept}; min_partial {least}",
        ),
    )


def slab_cache(snapshot: Snapshot, size: int) -> CacheModel:
    """A cache of SLAB without flags.

    Raises:
        MissingInputError: no geometry is possible.
    """
    machine = slab_machine(snapshot, era_of(snapshot))
    smallest = machine.kmalloc_sizes[0]
    aligned = cache_align(size, 0, cache_line=None, slab_minalign=SLAB_MINALIGN, word_bytes=8)
    taken = slab_size(
        size,
        aligned,
        word_bytes=8,
        index_entry_bytes=machine.index_bytes,
        smallest_object=smallest,
    )
    geometry = slab_geometry(taken, size, machine, reclaim_account=False, index_in_object=True)
    if geometry is None:
        raise MissingInputError(f"a geometry for objects of {size} bytes")
    tunables = slab_tunables(
        taken, page_size=machine.page_size, possible_cpus=inputs.nr_cpu_ids(snapshot), debug=False
    )
    cpus = len(snapshot.cpus_online)
    # one colour is as many bytes as a cache line, or as the alignment where that is more
    colour_bytes = max(inputs.cache_line(snapshot), aligned)
    colours = geometry.left_bytes // colour_bytes
    model = SlabOnCpu(
        geometry=geometry,
        limit=tunables.limit,
        batchcount=tunables.batchcount,
        free_limit=(1 + cpus) * tunables.batchcount + geometry.objects,
    )
    return CacheModel(
        size=taken,
        objects=geometry.objects,
        order=geometry.order,
        allocator=model,
        offset_of=lambda place: model.offset_bytes(
            place, size=taken, colours=colours, colour_bytes=colour_bytes
        ),
        working=(
            f"{size} bytes aligned to {aligned} take {taken}",
            f"order {geometry.order}: {geometry.objects} objects, index {geometry.index}",
            f"{geometry.left_bytes} bytes left over, {colours} colours of {colour_bytes}",
            f"array of {tunables.limit}, batches of {tunables.batchcount}",
        ),
    )
