"""What a known series of block requests does to the free counts of one zone.

A packet ring takes N unmovable blocks of one order and gives them back when it is released. The
zone is known by its counts alone (/proc/pagetypeinfo), so it is rebuilt with every free block far
from every other: what the requests split, they alone can coalesce again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.model.buddy import Ambiguous, free_one, rmqueue
from analysis.model.eras import Era
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import Release

COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Takes ``blocks`` unmovable GFP_KERNEL blocks of ``order`` and calls them ring ``ring``."""

    ring: int
    blocks: int
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Gives back the blocks of ring ``ring``, in the order in which they were taken."""

    ring: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What a GFP_KERNEL request must leave in the zone, in pages."""

    watermark_low_pages: int
    """The low watermark with its boost."""
    lowmem_reserve_pages: int
    """Kept for requests that could have gone to a higher zone: ``lowmem_reserve[ZONE_NORMAL]``."""
    unusable_pages: int
    """Free pages that do not count: the high-atomic reserve and free CMA pages."""
    drift_pages: int
    """How far the zone's free-page counter may be from the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The zone after a request: free blocks of each order, or why nobody can say."""

    free_blocks: tuple[int, ...] | None
    why: str = ""


def percpu_orders(release: Release, *, pageblock_order: int, thp: bool | None) -> frozenset[int]:
    """Orders that are served from per-cpu lists, so that the zone's lists do not show them.

    ``thp`` None means that nobody knows: it counts as yes.

    Kernel: mm/page_alloc.c, ``pcp_allowed_order``: 6.1, 6.12 and 7.2 up to the costly order 3 and
        one huge page (CONFIG_TRANSPARENT_HUGEPAGE); 5.10 (``rmqueue``) order 0 alone. What lies
        between 5.10 and 6.1 counts as the newer.
    Ignores: huge pages of another order than the pageblock (6.12 asks for the huge page's).
    """
    if release <= Release(5, 10):
        return frozenset({0})
    huge = set() if thp is False else {pageblock_order}
    return frozenset(range(COSTLY_ORDER + 1)) | huge


def first_zone(managed_pages: Mapping[str, int]) -> str | None:
    """Where a node looks first for a GFP_KERNEL request: zone name → managed pages of the node.

    None when all of the node's memory is HighMem, Movable or Device: the request goes elsewhere.

    Kernel: mm/page_alloc.c, ``build_zonerefs_node`` and ``gfp_zone``; 5.10 to 7.2, zonelists in
        node order.
    Ignores: memory policies and cpusets of the asking task.
    """
    for zone in ("Normal", "DMA32", "DMA"):
        if managed_pages.get(zone, 0) > 0:
            return zone
    return None


def watermark_ok(zone: ZoneFreeLists, order: int, reserve: Reserve) -> bool:
    """Whether a request surely passes the zone's low watermark, however the counter drifts.

    Kernel: mm/page_alloc.c, ``__zone_watermark_ok`` with ALLOC_WMARK_LOW and no right to
        reserves; 5.10 to 7.2.
    Ignores: what a request with a right to reserves may take beyond this.
    """
    usable = zone.free_pages - reserve.drift_pages - reserve.unusable_pages - ((1 << order) - 1)
    if usable <= reserve.watermark_low_pages + reserve.lowmem_reserve_pages:
        return False
    return any(
        zone.head(larger, migratetype) is not None
        for larger in range(order, zone.max_order + 1)
        for migratetype in (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)
    )


def predict(
    free_blocks: Mapping[Migratetype, Sequence[int]],
    requests: Sequence[Take | Drop],
    *,
    reserve: Reserve,
    pageblock_order: int,
    percpu: frozenset[int],
    era: Era,
) -> tuple[Prediction, ...]:
    """The zone after each request in turn, from its free blocks by type before the first.

    Once a request cannot be told, neither can those after it. Which end of a list a released
    block goes to may depend on neighbours that counts do not show: the series is run with both
    answers, and where they lead to different counts that is what the prediction says.

    Raises:
        ValueError: the counts do not all have the same orders, or a ring is dropped that was
            never taken.

    Kernel: the rules of ``analysis.model.buddy`` for unmovable GFP_KERNEL requests
        (net/packet/af_packet.c, ``alloc_one_pg_vec_page`` and ``free_pg_vec``); 5.10 to 7.2.
    Ignores: everybody else who allocates meanwhile, and free neighbours that a released block
        coalesces with although it was not split from them.
    """
    variants = [
        _run(free_blocks, requests, reserve, pageblock_order, percpu, era, strangers_to_tail=tail)
        for tail in (False, True)
    ]
    return tuple(
        one
        if one.free_blocks == other.free_blocks
        else Prediction(
            free_blocks=None,
            why="the counts depend on list positions that the neighbours of released blocks decide",
        )
        for one, other in zip(*variants, strict=True)
    )


def _run(
    free_blocks: Mapping[Migratetype, Sequence[int]],
    requests: Sequence[Take | Drop],
    reserve: Reserve,
    pageblock_order: int,
    percpu: frozenset[int],
    era: Era,
    *,
    strangers_to_tail: bool,
) -> list[Prediction]:
    zone, extents = _scattered_zone(free_blocks, pageblock_order)
    rings: dict[int, tuple[int, list[int]]] = {}
    predictions: list[Prediction] = []
    why = ""
    for request in requests:
        if not why:
            if isinstance(request, Take):
                taken = _take(zone, request, reserve, percpu)
                if isinstance(taken, Ambiguous):
                    why = f"ring {request.ring}: {taken.reason}"
                else:
                    rings[request.ring] = (request.order, taken)
            elif request.ring not in rings:
                raise ValueError(f"ring {request.ring} is dropped, but was never taken")
            else:
                order, pfns = rings.pop(request.ring)
                for pfn in pfns:
                    _release(zone, pfn, order, era, extents, strangers_to_tail)
        predictions.append(
            Prediction(free_blocks=None, why=why)
            if why
            else Prediction(free_blocks=zone.free_blocks())
        )
    return predictions


def _scattered_zone(
    free_blocks: Mapping[Migratetype, Sequence[int]], pageblock_order: int
) -> tuple[ZoneFreeLists, dict[int, int]]:
    """A zone with each block at the start of a stretch of the largest size, and nothing else.

    Also gives, for each stretch, the order of the block that was put there.
    """
    sizes = {len(counts) for counts in free_blocks.values()}
    if len(sizes) != 1:
        raise ValueError(f"free counts have {sorted(sizes)} orders: expected one common number")
    max_order = sizes.pop() - 1
    seeds = [
        (order, migratetype)
        for migratetype, counts in sorted(free_blocks.items())
        for order, count in enumerate(counts)
        for _ in range(count)
    ]
    zone = ZoneFreeLists(
        start_pfn=0,
        spanned_pages=max(1, len(seeds)) << max_order,
        max_order=max_order,
        pageblock_order=pageblock_order,
    )
    extents: dict[int, int] = {}
    for stretch, (order, migratetype) in enumerate(seeds):
        pfn = stretch << max_order
        extents[stretch] = order
        zone.set_pageblock_migratetype(pfn, max_order, migratetype)
        zone.add(FreeBlock(pfn=pfn, order=order, migratetype=migratetype), to_tail=True)
    return zone, extents


def _take(
    zone: ZoneFreeLists, request: Take, reserve: Reserve, percpu: frozenset[int]
) -> list[int] | Ambiguous:
    if request.order in percpu:
        return Ambiguous(
            reason=f"order {request.order} is served from the per-cpu lists, which /proc does not "
            f"show page by page"
        )
    if not 0 <= request.order <= zone.max_order:
        return Ambiguous(reason=f"order {request.order} is above the largest, {zone.max_order}")
    pfns: list[int] = []
    for number in range(1, request.blocks + 1):
        if not watermark_ok(zone, request.order, reserve):
            return Ambiguous(
                reason=f"request {number} of {request.blocks} may not fit above the low watermark "
                f"of {reserve.watermark_low_pages} pages, so that another zone may serve it "
                f"({zone.free_pages} pages free, {reserve.lowmem_reserve_pages} held for higher "
                f"zones, {reserve.unusable_pages} unusable, counter exact to "
                f"{reserve.drift_pages})"
            )
        pfn = rmqueue(zone, request.order, Migratetype.UNMOVABLE)
        if isinstance(pfn, Ambiguous):
            return Ambiguous(reason=f"request {number} of {request.blocks}: {pfn.reason}")
        assert pfn is not None, "the watermark check saw a sufficient block"
        pfns.append(pfn)
    return pfns


def _release(
    zone: ZoneFreeLists,
    pfn: int,
    order: int,
    era: Era,
    extents: Mapping[int, int],
    strangers_to_tail: bool,
) -> None:
    """Frees a block; beyond the block that it was split from, its neighbours are unknown."""
    stretch_order = extents[pfn >> zone.max_order]
    block = free_one(zone, pfn, order, era=era)
    pair_is_ours = block.order + 1 < stretch_order
    if not pair_is_ours and block.order < zone.max_order - 1:
        zone.remove(block)
        zone.add(block, to_tail=strangers_to_tail)
