"""Caches of our own as the model sees them: geometry, and an allocator to follow requests with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from analysis.model.slab.slob import block_bytes, unit_bytes
from analysis.model.slab.slob_pages import SlobPages
from analysis.model.slab.slub_cpu import SlubOnCpu
from analysis.model.slab.slub_layout import SlabFlags, slub_layout
from analysis.model.slab.slub_order import slub_order
from analysis.model.slab.slub_sheaves import SlubWithSheaves
from analysis.tour.slab_requests import Allocator, Request

FOLLOWED = (Release(5, 10), Release(6, 1), Release(7, 2))
"""The releases whose SLUB the model follows object by object."""
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


def slub_cache(snapshot: Snapshot, size: int, flags: SlabFlags, *, align: int = 0) -> CacheModel:
    """A cache of SLUB."""
    era = era_of(snapshot)
    line = inputs.cache_line(snapshot) if flags.hwcache_align else None
    aligned = cache_align(size, align, cache_line=line, slab_minalign=SLAB_MINALIGN, word_bytes=8)
    layout = slub_layout(size, aligned, flags, era=era, word_bytes=8, stack=False)
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


@dataclass(slots=True, kw_only=True)
class _SlobCache:
    """A cache's share in a list of pages, which it may have with others of its size."""

    pages: SlobPages
    bytes_: int
    skip: int = 0
    """So many requests went into room that others had left."""

    def alloc(self) -> Place | None:
        if self.skip:
            self.skip -= 1
            return None
        return self.pages.alloc(self.bytes_, SLAB_MINALIGN)

    def free(self, place: Place) -> None:
        self.pages.free(place, self.bytes_)


class _WholePages:
    """Objects that take pages of their own."""

    def __init__(self) -> None:
        self.made = 0

    def alloc(self) -> Place | None:
        self.made += 1
        return Place(self.made - 1, 0)

    def free(self, place: Place) -> None:
        """The pages are gone."""


def slob_caches(
    snapshot: Snapshot, size: int, filler: Sequence[Request]
) -> tuple[CacheModel, CacheModel, int]:
    """The cache that fills and the one to look at, and how many objects filled older pages.

    ``filler``: the requests of the first. Once they fill one page after another as a whole, no
    older page has room left.
    """
    page = snapshot.page_size_bytes
    taken = block_bytes(size, page_size=page, minalign=8, kmalloc=False)
    if taken >= page:
        order = (taken // page - 1).bit_length()
        whole = CacheModel(
            size=taken,
            objects=1,
            order=order,
            allocator=_WholePages(),
            offset_of=lambda _: 0,
            working=(f"{size} bytes take {taken // page} pages of their own",),
        )
        return whole, whole, 0
    # aligned to 8 bytes, so the next one begins at a multiple of 8 too
    stride = -(-taken // SLAB_MINALIGN) * SLAB_MINALIGN
    objects = (page - taken) // stride + 1
    older = first_whole_page(filler, stride=stride, objects=objects, page_size=page)
    pages = SlobPages(page_size=page, unit_bytes=unit_bytes(page))
    caches = (
        _SlobCache(pages=pages, bytes_=taken, skip=older),
        _SlobCache(pages=pages, bytes_=taken),
    )
    working = (
        f"{size} bytes take {taken}, aligned to {SLAB_MINALIGN}: {objects} in an empty page",
        f"{older} of {len(filler)} objects filled older pages",
    )
    one, two = (
        CacheModel(
            size=taken,
            objects=objects,
            order=0,
            allocator=cache,
            offset_of=lambda place: place.within,
            working=working,
        )
        for cache in caches
    )
    return one, two, older


def first_whole_page(
    requests: Sequence[Request], *, stride: int, objects: int, page_size: int
) -> int:
    """How many requests came before those, up to the last, that filled one page after another from
    its begin to its end: no older page had room for them.

    Raises:
        MissingInputError: the last ones do not.
    """
    addresses = [request.address for request in requests]
    first = len(addresses)
    # backwards over whole pages; the last one may be filled in part only
    for end in range(len(addresses), max(0, len(addresses) - objects), -1):
        at = end
        while at >= objects and _is_whole(addresses[at - objects : at], stride, page_size):
            at -= objects
        rest = addresses[end:]
        fits = not rest or (rest[0] % page_size == 0 and _runs(rest, stride))
        if fits and at < end:
            first = min(first, at)
    if first == len(addresses):
        raise MissingInputError(
            f"pages that objects of {stride} bytes filled from their begin: {len(addresses)} "
            f"objects did not fill the room left in older ones"
        )
    return first


def _is_whole(run: Sequence[int], stride: int, page_size: int) -> bool:
    return run[0] % page_size == 0 and _runs(run, stride)


def _runs(run: Sequence[int], stride: int) -> bool:
    return all(address == run[0] + stride * number for number, address in enumerate(run))
