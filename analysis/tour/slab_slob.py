"""Caches of our own on SLOB, which share pages with everybody's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.errors import MissingInputError
from analysis.model.slab.place import Place
from analysis.model.slab.slob import block_bytes, unit_bytes
from analysis.model.slab.slob_pages import SlobPages
from analysis.tour.slab_caches import SLAB_MINALIGN, CacheModel
from analysis.tour.slab_requests import Request


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
