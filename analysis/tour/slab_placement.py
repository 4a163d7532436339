"""Addresses held against the places that a model tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.model.slab.place import Place
from analysis.tour.slab_caches import CacheModel
from analysis.tour.slab_requests import Request

NO_SLAB_WHOLE = "the lists of new slabs are shuffled, and no slab was handed out whole"
"""Why no address is told."""
_SHOWN = 32
"""Objects of a circle that are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How the addresses of a cache's objects compare."""

    told: int
    """Addresses that follow from the model and the addresses of earlier requests."""
    right: int
    blocks: int
    """Pages or slabs that the requests lay in, as far as their places are told."""
    wrong: str = ""
    """The first address that is not as told."""
    how: str = "the first address in a block tells where it is, all others follow"


def compare_places(
    requests: Iterable[Request],
    places: Mapping[int, Place],
    *,
    offset_of: Callable[[Place], int],
    block_bytes: int,
    learnt: Collection[int] = (),
) -> Placement:
    """Hold the requests' addresses against their places.

    Which page a new block is, the page allocator decides: the first request in a block tells it.
    Then everything else in it is told. A block must begin at a multiple of its size. The requests
    ``learnt`` are what the offsets were learnt from, and not told.
    """
    bases: dict[int, int] = {}
    told = right = 0
    wrong = ""
    for request in requests:
        place = places.get(request.number)
        if place is None:
            continue
        if place.block not in bases:
            base = request.address - offset_of(place)
            bases[place.block] = base
            if base % block_bytes == 0:
                continue
            expected = base // block_bytes * block_bytes + offset_of(place)
        else:
            expected = bases[place.block] + offset_of(place)
        if request.number in learnt:
            continue
        told += 1
        right += request.address == expected
        if request.address != expected and not wrong:
            wrong = f"request {request.number}: {expected:x} told, {request.address:x} given"
    return Placement(told=told, right=right, blocks=len(bases), wrong=wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """What the first slab that was handed out whole tells of a cache's shuffled lists."""

    offsets: Mapping[Place, int]
    circle: tuple[int, ...]
    """Numbers of the objects in the order of the list."""
    learnt: frozenset[int]
    """The requests that told it."""


def learn_shuffle(
    requests: Sequence[Request],
    places: Mapping[int, Place],
    *,
    size: int,
    objects: int,
    slab_bytes: int,
) -> Shuffle | None:
    """The order of slabs whose first lists are shuffled; None where no slab was handed out whole.

    A cache shuffles once, when it is made: every slab's first list runs through the same circle of
    objects, from a random one on. So one slab shows the circle, and a slab's first object where in
    the circle it begins.

    Kernel: mm/slub.c, ``shuffle_freelist`` and ``next_freelist_entry``; mm/slab_common.c,
        ``cache_random_seq_create``; 5.10 to 7.3, CONFIG_SLAB_FREELIST_RANDOM.
    Ignores: slabs of a smaller order than the cache's, of which the circle leaves out some.
    """
    first: dict[Place, Request] = {}
    for request in requests:
        place = places.get(request.number)
        if place is not None:
            first.setdefault(place, request)
    blocks = sorted({place.block for place in first})
    everyone = range(objects)
    whole = [
        [first[Place(block, within)] for within in everyone]
        for block in blocks
        if all(Place(block, within) in first for within in everyone)
    ]
    if not whole:
        return None
    told = next((slab for slab in whole if _is_whole(slab, size, objects, slab_bytes)), None)
    # objects that the model puts into one slab, and the kernel did not: let them be found wrong
    circle = [request.address % slab_bytes // size for request in told] if told else list(everyone)
    offsets = {}
    for block in blocks:
        place, request = next((p, r) for p, r in first.items() if p.block == block)
        number = request.address % slab_bytes // size
        begin = (circle.index(number) if number in circle else 0) - place.within
        for within in everyone:
            offsets[Place(block, within)] = circle[(begin + within) % objects] * size
    return Shuffle(
        offsets=offsets,
        circle=tuple(circle),
        learnt=frozenset(request.number for request in told or ()),
    )


def _is_whole(slab: Sequence[Request], size: int, objects: int, slab_bytes: int) -> bool:
    """Whether these are all objects of one slab."""
    numbers = sorted(request.address % slab_bytes // size for request in slab)
    together = len({request.address // slab_bytes for request in slab}) == 1
    return together and numbers == list(range(objects))


def compare_in_slabs(
    requests: Sequence[Request],
    places: Mapping[int, Place],
    model: CacheModel,
    *,
    slab_bytes: int,
    shuffled: bool,
) -> Placement | None:
    """Hold the requests of a cache of SLUB against their places; ``shuffled``: the lists of new
    slabs are (CONFIG_SLAB_FREELIST_RANDOM). None where they are and no slab shows their order."""
    if not shuffled:
        placement = compare_places(
            requests, places, offset_of=model.offset_of, block_bytes=slab_bytes
        )
        return replace(placement, how="objects of a new slab in the order of their addresses")
    shuffle = learn_shuffle(
        requests, places, size=model.size, objects=model.objects, slab_bytes=slab_bytes
    )
    if shuffle is None:
        return None
    placement = compare_places(
        requests,
        places,
        offset_of=shuffle.offsets.__getitem__,
        block_bytes=slab_bytes,
        learnt=shuffle.learnt,
    )
    circle = " ".join(map(str, shuffle.circle[:_SHOWN]))
    more = " …" if len(shuffle.circle) > _SHOWN else ""
    return replace(placement, how=f"shuffled; the first slab shows the circle {circle}{more}")
