"""The same load on any of the three allocators, and what the model says of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact, unknown
from analysis.compare.static.slab import inputs
from analysis.errors import MissingInputError
from analysis.model.slab.place import Place
from analysis.model.slab.shown import slabinfo_geometry
from analysis.model.slab.slub_layout import SlabFlags
from analysis.tour.evidence import BootEvidence
from analysis.tour.slab_caches import CacheModel, not_followed, slab_cache, slub_cache
from analysis.tour.slab_placement import (
    NO_SLAB_WHOLE,
    Placement,
    compare_in_slabs,
    compare_places,
)
from analysis.tour.slab_requests import (
    Request,
    follow,
    of_cache,
    parse_requests,
    steps,
)
from analysis.tour.slab_slob import slob_caches

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
    placement: Placement | None
    not_followed: str
    """Why the model does not say which slabs there will be; empty where it does."""
    not_placed: str
    """Why it does not say where in them objects lie."""
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
    why = not_followed(snapshot)
    for match in filter(None, map(_CREATED.fullmatch, commands)):
        name, size = match[1], int(match[2])
        filler = f"mm_fill_{size}"
        models = _models(snapshot, kind, size, of_cache(requests, filler))
        named = dict(zip((filler, name), models, strict=True))
        places = (
            {} if why else follow(taken, {cache: model.allocator for cache, model in named.items()})
        )
        mine = of_cache(requests, name)
        block_bytes = snapshot.page_size_bytes << models[1].order
        # SLOB puts both caches in the same pages
        together = [request for request in requests if request.name in named]
        placement, unplaced = (
            (None, why)
            if why
            else _placement(
                snapshot,
                kind,
                together if kind == "SLOB" else mine,
                places,
                models[1],
                # from what filled older pages it is learnt where the new ones begin
                learnt={request.number for request in together if request.name == filler},
            )
        )
        alive = [request for request in mine if request.live]
        yield SizeResult(
            name=name,
            size=size,
            model=models[1],
            live=len(alive),
            blocks_told=0 if why else len({places[request.number].block for request in alive}),
            blocks_seen=len({request.address // block_bytes for request in alive}),
            placement=placement,
            not_followed=why,
            not_placed=unplaced,
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


def _placement(
    snapshot: Snapshot,
    kind: str,
    requests: Sequence[Request],
    places: Mapping[int, Place],
    model: CacheModel,
    *,
    learnt: Collection[int],
) -> tuple[Placement | None, str]:
    """How the addresses compare, or why they do not."""
    block_bytes = snapshot.page_size_bytes << model.order
    shuffled = inputs.option(snapshot, "SLAB_FREELIST_RANDOM")
    if kind == "SLUB" and shuffled:
        found = compare_in_slabs(requests, places, model, slab_bytes=block_bytes, shuffled=True)
        return found, "" if found else NO_SLAB_WHOLE
    if kind == "SLAB" and shuffled:
        return None, "how SLAB shuffles the lists of new slabs was not compared"
    found = compare_places(
        requests, places, offset_of=model.offset_of, block_bytes=block_bytes, learnt=learnt
    )
    return found, ""


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
        live = f"{result.live} live objects when all was done"
        yield _counted(
            result, "slabs", len(getattr(model.allocator, "slabs", {})), slabs, "slabs", live
        )
    live = f"{result.live} live objects"
    yield _counted(
        result, "blocks", result.blocks_told, result.blocks_seen, "blocks of pages", live
    )
    placement = result.placement
    if placement is None:
        yield unknown("addresses", scope, why=result.not_placed)
        return
    if not placement.told:
        # objects with blocks of their own: which pages those are, the page allocator decides
        return
    yield exact(
        "addresses",
        scope,
        predicted=placement.told,
        observed=placement.right,
        unit="addresses",
        why=placement.wrong,
        working=(
            f"{len(result.requests)} requests, {placement.blocks} blocks of pages",
            placement.how,
        ),
    )


def _counted(result: SizeResult, claim: str, told: int, seen: int, unit: str, live: str) -> Claim:
    """A claim about a number that follows from where every object went."""
    scope = {"cache": result.name}
    if result.not_followed:
        return unknown(claim, scope, observed=seen, unit=unit, why=result.not_followed)
    working = (*result.model.working, live)
    return exact(claim, scope, predicted=told, observed=seen, unit=unit, working=working)
