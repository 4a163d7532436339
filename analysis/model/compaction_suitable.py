"""Whether a zone has what compaction needs, and compaction what it would gain there.

The kernel shows the answer as the tracepoint mm_compaction_suitable, and in no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.model.eras_compaction import CompactionEra
from analysis.model.fragmentation import extfrag_index_milli
from analysis.model.reclaim import SWAP_CLUSTER_MAX

PAGE_ALLOC_COSTLY_ORDER = 3
EXTFRAG_THRESHOLD_DEFAULT = 500
"""vm.extfrag_threshold, in thousandths."""


class Suitable(Enum):
    """What the tracepoint says; names are the kernel's without COMPACT_."""

    CONTINUE = "continue"
    """Compact."""
    SKIPPED = "skipped"
    """Too little free memory to move pages to."""
    NOT_SUITABLE_ZONE = "not_suitable_zone"
    """A failure would be for lack of memory, not for fragmentation."""
    SUCCESS = "success"
    """The request would succeed as it is; releases up to 6.1 ask that first."""


def compact_gap(order: int, era: CompactionEra) -> int:
    """Pages that must be free beyond a watermark to compact for ``order``.

    Kernel: mm/internal.h or include/linux/compaction.h, ``compact_gap``; 5.10, 6.1 and 6.12 twice
        the block, 7.2 and 7.3 no more than COMPACT_CLUSTER_MAX: ``CompactionEra.gap_capped``.
    Ignores: nothing known.
    """
    gap = 2 << order
    return min(gap, SWAP_CLUSTER_MAX) if era.gap_capped else gap


def wanted_free_pages(
    order: int, *, min_pages: int, low_pages: int, watermark_pages: int, era: CompactionEra
) -> int:
    """Free pages above which a zone can be compacted, without the reserve for lower requests.

    ``watermark_pages``: the one the request has to keep (``alloc_flags & ALLOC_WMARK_MASK``); only
    newer releases look at it. Costly orders ask for as much more as lies between min and low.

    Kernel: mm/compaction.c, ``__compaction_suitable``; 5.10, 6.1 and 6.12 from min or low, 7.2 and
        7.3 from the request's watermark: ``CompactionEra.watermark_from_caller``.
    Ignores: nothing known.
    """
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    if era.watermark_from_caller:
        return watermark_pages + compact_gap(order, era) + (low_pages - min_pages if costly else 0)
    return (low_pages if costly else min_pages) + compact_gap(order, era)


def request_met(
    free_blocks: Sequence[int],
    order: int,
    *,
    usable_free_pages: int,
    watermark_pages: int,
    lowmem_reserve_pages: int,
) -> bool:
    """Whether a request of ``order`` that has to keep that watermark would succeed as it is.

    ``usable_free_pages``: NR_FREE_PAGES without the high-atomic reserve and CMA pages.

    Kernel: mm/page_alloc.c, ``__zone_watermark_ok``, for requests without a right to reserves.
    Ignores: pageblock types: a free block of CMA, high-atomic or isolated memory counts here, and
        not there.
    """
    left = usable_free_pages - ((1 << order) - 1)
    if left <= watermark_pages + lowmem_reserve_pages:
        return False
    return any(free_blocks[order:])


def compaction_suitable(
    free_blocks: Sequence[int],
    order: int,
    *,
    usable_free_pages: int,
    wanted_pages: int,
    lowmem_reserve_pages: int,
    extfrag_threshold_milli: int = EXTFRAG_THRESHOLD_DEFAULT,
) -> Suitable:
    """What compaction of a zone for a request of ``order`` is worth.

    ``usable_free_pages``: NR_FREE_PAGES without the high-atomic reserve, CMA pages included.
    ``wanted_pages``: ``wanted_free_pages``. ``lowmem_reserve_pages``: what the zone keeps from
    requests of the kind (its ``protection`` by the request's highest zone). For costly orders a
    fragmentation index from 0 to the threshold means that memory is short, not scattered.

    Raises:
        IndexError: ``order`` is not one of the zone's orders.

    Kernel: mm/compaction.c, ``compaction_suitable``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: in 5.10 and 6.1 the same function first says COMPACT_SUCCESS where the request's own
        watermark is met; later its callers ask that.
    """
    if usable_free_pages <= wanted_pages + lowmem_reserve_pages:
        return Suitable.SKIPPED
    if order > PAGE_ALLOC_COSTLY_ORDER:
        index = extfrag_index_milli(free_blocks, order)
        if 0 <= index <= extfrag_threshold_milli:
            return Suitable.NOT_SUITABLE_ZONE
    return Suitable.CONTINUE


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneState:
    """A zone as reclaim for a request of a costly order finds it; marks with boost, in pages."""

    free_blocks: Sequence[int]
    free_pages: int
    """NR_FREE_PAGES without the high-atomic reserve, CMA pages included."""
    cma_pages: int
    min_pages: int
    low_pages: int
    high_pages: int
    lowmem_reserve_pages: int


def compaction_ready(
    zone: ZoneState,
    order: int,
    *,
    era: CompactionEra,
    extfrag_threshold_milli: int = EXTFRAG_THRESHOLD_DEFAULT,
) -> bool:
    """Whether reclaim for a costly order leaves the rest to compaction: it then returns with
    whatever it has got.

    Either the request would succeed as it is, or compaction is worth it with free pages in reserve:
    above the high mark and the gap. Before the watermark came from the caller that was a check of
    its own behind the one from low; since then the one question is asked from the high mark, to
    which as much is added as lies between min and low.

    Kernel: mm/vmscan.c, ``compaction_ready``, asked by ``shrink_zones`` for orders above
        PAGE_ALLOC_COSTLY_ORDER; 6.1, 6.12 and 7.2.
    Ignores: pageblock types (see ``request_met``); requests that may not compact (without
        __GFP_IO).
    """
    without_cma = zone.free_pages - zone.cma_pages
    if request_met(
        zone.free_blocks, order, usable_free_pages=without_cma, watermark_pages=zone.min_pages,
        lowmem_reserve_pages=zone.lowmem_reserve_pages,
    ):  # fmt: skip
        return True
    wanted = wanted_free_pages(
        order, min_pages=zone.min_pages, low_pages=zone.low_pages, watermark_pages=zone.high_pages,
        era=era,
    )  # fmt: skip
    verdict = compaction_suitable(
        zone.free_blocks, order, usable_free_pages=zone.free_pages, wanted_pages=wanted,
        lowmem_reserve_pages=zone.lowmem_reserve_pages,
        extfrag_threshold_milli=extfrag_threshold_milli,
    )  # fmt: skip
    if verdict is not Suitable.CONTINUE or era.watermark_from_caller:
        return verdict is Suitable.CONTINUE
    return without_cma > zone.high_pages + compact_gap(order, era) + zone.lowmem_reserve_pages
