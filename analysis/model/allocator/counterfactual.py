"""An allocator put under another policy: what the policy would have changed by now."""

from __future__ import annotations

from random import Random

from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.pcp import LOW_ORDER_LISTS, PCP_TYPES, PerCpuPages
from analysis.model.allocator.policy import KERNEL, Policy
from analysis.model.allocator.zone import Zone
from analysis.model.freelist import FreeBlock, Migratetype

_GROUPED = (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)
_SHUFFLE_TRIES = 10


def impose(allocator: Allocator, policy: Policy) -> None:
    """Lets the policy rule from now on; pages that are allocated stay where they are.

    Without grouping by mobility the lists of the three types are joined, unmovable before movable
    before reclaimable. With shuffling the lists of the largest order are shuffled now. Without
    per-cpu lists their pages go back to the zones. Nothing changes under ``KERNEL``.
    """
    if policy == KERNEL:
        return
    for zone in allocator.zones:
        zone.policy = policy
        if not policy.boost:
            zone.boost_factor = 0
            zone.watermark_boost = 0
    for pcp in allocator.pcps.values():
        _resize(pcp, policy)
    if not policy.mobility:
        for zone in allocator.zones:
            _join_types(zone)
        for pcp in allocator.pcps.values():
            _join_lists(pcp)
    if policy.shuffle_seed is not None:
        random = Random(policy.shuffle_seed)  # noqa: S311 - to be repeated, not kept secret
        for zone in allocator.zones:
            zone.coin = Random(random.getrandbits(64))  # noqa: S311
            _shuffle(zone, zone.coin)


def _resize(pcp: PerCpuPages, policy: Policy) -> None:
    """Kernel: mm/page_alloc.c, ``pageset_update`` and ``zone_pcp_disable``; 6.1 to 7.3."""
    if not policy.pcp:
        pcp.zone.cpu = pcp.cpu
        pcp.drain_all()
        pcp.zone.moves.clear()
        pcp.high = pcp.high_min = pcp.high_max = 0
        pcp.batch = 1
        return
    if policy.pcp_batch is not None:
        pcp.batch = policy.pcp_batch
    if policy.pcp_high is not None:
        pcp.high = pcp.high_min = pcp.high_max = policy.pcp_high


def _join_types(zone: Zone) -> None:
    lists = zone.free
    for order in range(lists.max_order + 1):
        for migratetype in _GROUPED[1:]:
            for pfn in lists.pfns(order, migratetype):
                block = lists.block_at(pfn)
                assert block is not None
                lists.remove(block)
                joined = FreeBlock(pfn=pfn, order=order, migratetype=_GROUPED[0])
                lists.add(joined, to_tail=True)
    step = 1 << lists.pageblock_order
    for pfn in range(lists.start_pfn, lists.end_pfn + step - 1, step):
        at = min(pfn, lists.end_pfn - 1)
        if lists.pageblock_migratetype(at).mergeable:
            lists.set_pageblock_migratetype(at, 0, _GROUPED[0])
    zone.isolated_from = {
        pfn: zone.policy.grouped(kind) for pfn, kind in zone.isolated_from.items()
    }


def _join_lists(pcp: PerCpuPages) -> None:
    """Per-cpu lists of the same order become one; those of huge pages too, where there are two."""
    pcp.lists = [
        type(pages)((pfn, pcp.zone.policy.grouped(kind)) for pfn, kind in pages.items())
        for pages in pcp.lists
    ]
    joined = [range(at, at + PCP_TYPES) for at in range(0, LOW_ORDER_LISTS, PCP_TYPES)]
    joined.append(range(LOW_ORDER_LISTS, len(pcp.lists)))
    for pindexes in joined:
        for pindex in pindexes[1:]:
            pcp.lists[pindexes[0]].update(pcp.lists[pindex])
            pcp.lists[pindex].clear()


def _shuffle(zone: Zone, random: Random) -> None:
    """Swaps every free block of the largest order with another of its list.

    Kernel: mm/shuffle.c, ``__shuffle_zone``; 6.1 to 7.2.
    """
    lists, order = zone.free, zone.free.max_order
    pages = 1 << order
    places: dict[Migratetype, list[int]] = {
        kind: list(lists.pfns(order, kind)) for kind in Migratetype
    }
    index = {pfn: at for pfns in places.values() for at, pfn in enumerate(pfns)}
    first = -(-lists.start_pfn // pages) * pages
    spanned = lists.end_pfn - lists.start_pfn
    for pfn in range(first, lists.end_pfn, pages):
        block = lists.block_at(pfn)
        if block is None or block.order != order:
            continue
        for _ in range(_SHUFFLE_TRIES):
            other = lists.start_pfn + random.randrange(spanned) // pages * pages
            partner = lists.block_at(other)
            if other != pfn and partner is not None and partner.order == order:
                break
        else:
            continue
        if partner.migratetype is not block.migratetype:
            continue
        pfns = places[block.migratetype]
        pfns[index[pfn]], pfns[index[other]] = other, pfn
        index[pfn], index[other] = index[other], index[pfn]
    for kind, pfns in places.items():
        for pfn in pfns:
            block = FreeBlock(pfn=pfn, order=order, migratetype=kind)
            lists.remove(block)
            lists.add(block, to_tail=True)
