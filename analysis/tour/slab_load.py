"""The same load on any of the three allocators, and what the model says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.compare.static.slab import inputs
from analysis.errors import MissingInputError
from analysis.model.slab.shown import slabinfo_geometry
from analysis.model.slab.slub_layout import SlabFlags
from analysis.tour.evidence import BootEvidence
from analysis.tour.slab_caches import CacheModel, slab_cache, slob_caches, slub_cache
from analysis.tour.slab_placement import Placement, compare_places
from analysis.tour.slab_requests import (
    Request,
    follow,
    of_cache,
    parse_requests,
    steps,
)

_CREATED = re.compile(r"create (mm_(\d+)) \2 0 -")
_ROW = re.compile(
    r"^(mm_\d+) +\d+ +\d+ +(\d+) +(\d+) +(\d+) : tunables .* : slabdata +\d+ +(\d+) ", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """What became of the load in one size."""

    name: str
    size: int
    model: CacheModel
    live: int
    """Objects that are not freed."""
    blocks_told: int
    """Pages or slabs that they need, as the model says."""
    blocks_seen: int
    """Pages or slabs that they lie in."""
    placement: Placement
    requests: tuple[Request, ...]
    page_size_bytes: int

    @property
    def block_bytes(self) -> int:
        """Bytes of one page or slab."""
        return self.page_size_bytes << self.model.order

    @property
    def page_bytes(self) -> int:
        """Bytes of the pages taken."""
        return self.blocks_seen * self.block_bytes

    @property
    def waste(self) -> float:
        """The part of the pages that holds no byte of a live object."""
        return 1 - self.live * self.size / self.page_bytes


def load_results(boot: BootEvidence) -> Iterator[SizeResult]:
    """Every size of the load, followed through the model.

    Raises:
        MissingInputError, ParseError: the evidence lacks something.
    """
    snapshot = boot.snapshot()
    kind = inputs.allocator(snapshot)
    commands: Sequence[str] = boot.json("commands")
    requests = parse_requests(boot.text("objects"))
    taken = list(steps(commands))
    if len({step.number for step in taken}) != len(requests):
        raise MissingInputError(f"{len(requests)} requests where the commands made others")
    for match in filter(None, map(_CREATED.fullmatch, commands)):
        name, size = match[1], int(match[2])
        filler = f"mm_fill_{size}"
        models = _models(snapshot, kind, size, of_cache(requests, filler))
        named = dict(zip((filler, name), models, strict=True))
        places = follow(taken, {cache: model.allocator for cache, model in named.items()})
        mine = of_cache(requests, name)
        block_bytes = snapshot.page_size_bytes << models[1].order
        # SLOB puts both caches in the same pages
        together = [request for request in requests if request.name in named]
        placement = compare_places(
            together if kind == "SLOB" else mine,
            places,
            offset_of=models[1].offset_of,
            block_bytes=block_bytes,
            # from what filled older pages it is learnt where the new ones begin
            learnt={request.number for request in together if request.name == filler},
        )
        alive = [request for request in mine if request.live]
        yield SizeResult(
            name=name,
            size=size,
            model=models[1],
            live=len(alive),
            blocks_told=len({places[request.number].block for request in alive}),
            blocks_seen=len({request.address // block_bytes for request in alive}),
            placement=placement,
            requests=mine,
            page_size_bytes=snapshot.page_size_bytes,
        )


def _models(
    snapshot: Snapshot, kind: str, size: int, filler: Sequence[Request]
) -> tuple[CacheModel, CacheModel]:
    if kind == "SLUB":
        return slub_cache(snapshot, size, SlabFlags()), slub_cache(snapshot, size, SlabFlags())
    if kind == "SLAB":
        return slab_cache(snapshot, size), slab_cache(snapshot, size)
    fills, looked_at, _ = slob_caches(snapshot, size, filler)
    return fills, looked_at


def slabinfo_rows(text: str) -> Mapping[str, tuple[int, int, int, int]]:
    """Our caches by name: object size, objects and pages in a slab, slabs."""
    return {
        match[1]: (int(match[2]), int(match[3]), int(match[4]), int(match[5]))
        for match in _ROW.finditer(text)
    }


def size_claims(result: SizeResult, row: tuple[int, int, int, int] | None) -> Iterator[Claim]:
    """The claims about one size; ``row``: what slabinfo shows, which SLOB does not have."""
    scope = {"cache": result.name}
    model = result.model
    if row is not None:
        size, objects, pages, slabs = row
        yield exact(
            "geometry",
            scope,
            predicted=slabinfo_geometry(model.size, model.objects, model.order),
            observed=f"{size} bytes, {objects} in {pages}",
            unit="objects in pages",
            working=model.working,
        )
        nr_slabs = getattr(model.allocator, "slabs", {})
        yield exact(
            "slabs",
            scope,
            predicted=len(nr_slabs),
            observed=slabs,
            unit="slabs",
            working=(*model.working, f"{result.live} live objects when all was done"),
        )
    yield exact(
        "blocks",
        scope,
        predicted=result.blocks_told,
        observed=result.blocks_seen,
        unit="blocks of pages",
        working=(*model.working, f"{result.live} live objects"),
    )
    if not result.placement.told:
        # objects with blocks of their own: which pages those are, the page allocator decides
        return
    yield exact(
        "addresses",
        scope,
        predicted=result.placement.told,
        observed=result.placement.right,
        unit="addresses",
        why=result.placement.wrong,
        working=(
            f"{len(result.requests)} requests, {result.placement.blocks} blocks of pages",
            "the first address in a block tells where it is, all others follow",
        ),
    )
