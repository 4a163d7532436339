"""The whole allocator, compiled. Twin of ``analysis.model.allocator.allocator``."""

from __future__ import annotations

from typing import Any

from analysis.model.allocator.gfp import (
    WMARK_MASK,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Alloc,
    Gfp,
)
from analysis.model.allocator.pcp import PCP_TYPES
from analysis.model.compiled.fallback import FOUND_TYPE, can_give, rmqueue
from analysis.model.compiled.layout import (
    ACCOUNTS_EACH_BLOCK,
    AWAKE_AT,
    BELOW_HIGH,
    BELOW_HIGH_FLAG,
    BOOSTED,
    CHOSEN_ATTEMPT,
    CHOSEN_ZONE,
    CMA_BYPASSES_PCP,
    CPU,
    CPUS,
    DIFFERENCE,
    DRIFT_MARKED,
    HAS_CMA,
    HIGHATOMIC_FAST,
    HIGHATOMIC_IN_RMQUEUE,
    HIGHATOMIC_LIMIT_ALIGNED,
    MANAGED,
    MAX_ORDER,
    MODE,
    NODE,
    NODES,
    NODES_ONLINE,
    NR_FREE,
    NR_RESERVED_HIGHATOMIC,
    PAGEBLOCK_ORDER,
    PCP_LOCKED,
    PCP_WORDS,
    PCPS_AT,
    SKIPS_AWAKE_KSWAPD,
    SPLITS_LARGE_FREES,
    THRESHOLD,
    ZONE_ASKED,
    ZONE_TYPE,
    ZONE_WORDS,
    ZONELIST_WORDS,
    ZONELISTS_AT,
    ZONES,
    ZONES_AT,
    Number,
    compiled,
)
from analysis.model.compiled.lists import (
    block_order,
    head,
    pageblock_type,
    pcp_head,
    pcp_list,
    remove,
    set_pageblock_type,
    zone_of,
)
from analysis.model.compiled.pcp import pcp_allowed, pindex_of, put, take, take_one
from analysis.model.compiled.watermark import watermark_fast
from analysis.model.compiled.zone import (
    HIGHATOMIC,
    ISOLATE,
    MOVABLE,
    RECLAIMABLE,
    account,
    give_back,
    move_block,
    move_pageblock,
    set_movable,
    take_smallest,
    watermark,
)

WMARK_MIN, WMARK_LOW = int(Alloc.WMARK_MIN), int(Alloc.WMARK_LOW)
NO_WATERMARKS, OOM_OR_NON_BLOCK = int(Alloc.NO_WATERMARKS), int(Alloc.OOM | Alloc.NON_BLOCK)
NON_BLOCK, MIN_RESERVE = int(Alloc.NON_BLOCK), int(Alloc.MIN_RESERVE)
ALLOC_CMA, NOFRAGMENT = int(Alloc.CMA), int(Alloc.NOFRAGMENT)
ALLOC_HIGHATOMIC, KSWAPD = int(Alloc.HIGHATOMIC), int(Alloc.KSWAPD)
GFP_DMA, GFP_DMA32, GFP_MOVABLE = int(Gfp.DMA), int(Gfp.DMA32), int(Gfp.MOVABLE)
GFP_HIGHMEM, GFP_HIGH = int(Gfp.HIGHMEM), int(Gfp.HIGH)
GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM = int(Gfp.DIRECT_RECLAIM), int(Gfp.KSWAPD_RECLAIM)
GFP_NOMEMALLOC, GFP_THISNODE = int(Gfp.NOMEMALLOC), int(Gfp.THISNODE)


@compiled
def gfp_zone(gfp: int) -> Number:
    if gfp & GFP_DMA:
        return ZONE_DMA
    if gfp & GFP_DMA32:
        return ZONE_DMA32
    if gfp & GFP_MOVABLE and gfp & GFP_HIGHMEM:
        return ZONE_MOVABLE
    return ZONE_NORMAL


@compiled
def nonblocking_flags(gfp: int, order: int) -> Number:
    if gfp & GFP_DIRECT_RECLAIM or gfp & GFP_NOMEMALLOC:
        return 0
    if order > 0 and gfp & GFP_HIGH:
        return NON_BLOCK | ALLOC_HIGHATOMIC
    return NON_BLOCK


@compiled
def _flags(m: Any, attempt: int, gfp: int, order: int, cma: bool, nofragment: bool) -> Number:
    """Flags of the first attempt, of those after it, and of one that may use the reserves."""
    if attempt == 0:
        flags = WMARK_LOW
        if nofragment:
            flags |= NOFRAGMENT
        if m[HIGHATOMIC_FAST]:
            flags |= nonblocking_flags(gfp, order) & ALLOC_HIGHATOMIC
    elif attempt == 1:
        flags = WMARK_MIN | nonblocking_flags(gfp, order)
        if gfp & GFP_HIGH:
            flags |= MIN_RESERVE
    else:
        flags = NO_WATERMARKS
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= KSWAPD
    if cma:
        flags |= ALLOC_CMA
    return flags


@compiled
def _zonelist(m: Any, node: int, gfp: int) -> Number:
    """Where the words of a request's zonelist begin, or -1."""
    if node < 0 or node >= m[NODES]:
        return -1
    this_node = 1 if gfp & GFP_THISNODE else 0
    return m[ZONELISTS_AT] + (node * 2 + this_node) * ZONELIST_WORDS


@compiled
def _preferred(m: Any, zonelist: int, highest: int) -> Number:
    """The first zone that the request may use, or -1."""
    if zonelist < 0:
        return -1
    for at in range(zonelist + 1, zonelist + 1 + m[zonelist]):
        if m[ZONES_AT + m[at] * ZONE_WORDS + ZONE_TYPE] <= highest:
            return m[at]
    return -1


@compiled
def _nofragment(m: Any, preferred: int) -> bool:
    at = ZONES_AT + preferred * ZONE_WORDS
    if m[at + ZONE_TYPE] != ZONE_NORMAL:
        return False
    if m[NODES_ONLINE] == 1:
        return True
    for zone in range(m[ZONES]):
        other = ZONES_AT + zone * ZONE_WORDS
        if m[other + NODE] == m[at + NODE] and m[other + ZONE_TYPE] == ZONE_DMA32:
            return True
    return False


OTHER_ZONE = -2


@compiled
def allocate(
    m: Any, cpu: int, node: int, order: int, gfp: int, migratetype: int, alloc_flags: int
) -> Number:
    """The page the kernel would give, or -1; ``alloc_flags`` -1: found out by trying.

    Zone and attempt are left in ``CHOSEN_ZONE`` and ``CHOSEN_ATTEMPT``. ``OTHER_ZONE``: none was
    taken, see ``ZONE_ASKED``.
    """
    zonelist = _zonelist(m, node, gfp)
    preferred = _preferred(m, zonelist, gfp_zone(gfp))
    if preferred < 0:
        return -1
    first, last = 0, 3
    if alloc_flags >= 0:
        last = 1
    cma = bool(m[HAS_CMA] and migratetype == MOVABLE)
    nofragment = _nofragment(m, preferred)
    for attempt in range(first, last):
        flags = alloc_flags
        if alloc_flags < 0:
            flags = _flags(m, attempt, gfp, order, cma, nofragment)
        page = _attempt(m, zonelist, preferred, cpu, order, gfp, migratetype, flags)
        if page != -1:
            m[CHOSEN_ATTEMPT] = attempt
            return page
    return -1


@compiled
def allocate_from(
    m: Any, cpu: int, node: int, order: int, gfp: int, migratetype: int, alloc_flags: int
) -> Number:
    """The page the kernel would give from ``ZONE_ASKED``, or -1."""
    zone, highest = m[ZONE_ASKED], gfp_zone(gfp)
    preferred = _preferred(m, _zonelist(m, node, gfp), highest)
    m[ZONES_AT + zone * ZONE_WORDS + CPU] = cpu
    if preferred < 0:
        return -1
    cma = bool(m[HAS_CMA] and migratetype == MOVABLE)
    nofragment = _nofragment(m, preferred)
    chosen, attempt = alloc_flags, 0
    if alloc_flags < 0:
        chosen, attempt = _flags(m, 1, gfp, order, cma, nofragment), 1
        for number in range(3):
            flags = _flags(m, number, gfp, order, cma, nofragment)
            if _may_take(m, zone, order, gfp, highest, flags):
                chosen, attempt = flags, number
                break
    else:
        _may_take(m, zone, order, gfp, highest, alloc_flags)
    page = _rmqueue(m, zone, cpu, order, migratetype, chosen)
    if page < 0:
        page = _rmqueue(m, zone, cpu, order, migratetype, chosen & ~NOFRAGMENT)
    if page >= 0:
        m[CHOSEN_ZONE], m[CHOSEN_ATTEMPT] = zone, attempt
    return page


@compiled
def _attempt(
    m: Any,
    zonelist: int,
    preferred: int,
    cpu: int,
    order: int,
    gfp: int,
    migratetype: int,
    flags: int,
) -> Number:
    """One walk along the zonelist, repeated with weaker demands as the kernel does."""
    highest = gfp_zone(gfp)
    preferred_node = m[ZONES_AT + preferred * ZONE_WORDS + NODE]
    many = m[NODES_ONLINE] > 1
    skip_awake = bool(many and m[SKIPS_AWAKE_KSWAPD])
    while True:
        skipped = False
        restart = False
        no_fallback = bool(flags & NOFRAGMENT)
        for number in range(zonelist + 1, zonelist + 1 + m[zonelist]):
            zone = m[number]
            at = ZONES_AT + zone * ZONE_WORDS
            if m[at + ZONE_TYPE] > highest:
                continue
            if no_fallback and many and m[at + NODE] != preferred_node:
                flags &= ~NOFRAGMENT
                restart = True
                break
            if skip_awake and m[m[AWAKE_AT] + m[at + NODE]]:
                skipped = True
                continue
            m[at + CPU] = cpu
            if not _may_take(m, zone, order, gfp, highest, flags):
                continue
            asked = m[ZONE_ASKED]
            if asked >= 0 and asked != zone and _has_page(m, zone, cpu, order, migratetype, flags):
                m[CHOSEN_ZONE] = zone
                return OTHER_ZONE
            page = _rmqueue(m, zone, cpu, order, migratetype, flags)
            if page >= 0:
                m[CHOSEN_ZONE] = zone
                return page
        if restart:
            continue
        if skip_awake and skipped:
            skip_awake = False
        elif no_fallback:
            flags &= ~NOFRAGMENT
        else:
            return -1


@compiled
def _may_take(m: Any, zone: int, order: int, gfp: int, highest: int, flags: int) -> bool:
    at = ZONES_AT + zone * ZONE_WORDS
    if m[BELOW_HIGH_FLAG] and not m[at + BELOW_HIGH]:
        if watermark_fast(m, zone, order, watermark(m, zone, 2), highest, flags, gfp):
            return True
        m[at + BELOW_HIGH] = 1
    if flags & NO_WATERMARKS:
        return True
    mark = watermark(m, zone, flags & WMARK_MASK)
    return watermark_fast(m, zone, order, mark, highest, flags, gfp)


@compiled
def _has_page(m: Any, zone: int, cpu: int, order: int, migratetype: int, flags: int) -> bool:
    """Whether a zone that may be taken from has anything to take; changes nothing."""
    if pcp_allowed(m, order) and not m[PCP_LOCKED]:
        kind = migratetype if migratetype < PCP_TYPES else MOVABLE
        if pcp_head(m, pcp_list(m, zone, cpu, pindex_of(m, kind, order))) >= 0:
            return True
    return can_give(m, zone, order, migratetype, flags)


@compiled
def _rmqueue(m: Any, zone: int, cpu: int, order: int, migratetype: int, flags: int) -> Number:
    page = -1
    if (
        pcp_allowed(m, order)
        and not m[PCP_LOCKED]
        and not (
            m[CMA_BYPASSES_PCP] and m[HAS_CMA] and migratetype == MOVABLE and not flags & ALLOC_CMA
        )
    ):
        page = take(m, zone, cpu, order, migratetype, flags)
    if page < 0:
        page = _rmqueue_buddy(m, zone, order, migratetype, flags)
    at = ZONES_AT + zone * ZONE_WORDS
    if m[at + BOOSTED] and (flags & KSWAPD or not m[ACCOUNTS_EACH_BLOCK]):
        m[at + BOOSTED] = 0
    if page >= 0 and flags & ALLOC_HIGHATOMIC and not m[HIGHATOMIC_IN_RMQUEUE]:
        reserve_highatomic(m, zone, page, order)
    return page


@compiled
def _rmqueue_buddy(m: Any, zone: int, order: int, migratetype: int, flags: int) -> Number:
    page = -1
    source = HIGHATOMIC
    if flags & ALLOC_HIGHATOMIC:
        page = take_smallest(m, zone, order, HIGHATOMIC)
    if page < 0:
        m[MODE] = 0
        found = rmqueue(m, zone, order, migratetype, flags)
        if found >= 0:
            page, source = found >> FOUND_TYPE, found & ((1 << FOUND_TYPE) - 1)
        elif flags & OOM_OR_NON_BLOCK:
            page = take_smallest(m, zone, order, HIGHATOMIC)
    if page < 0:
        return -1
    if not m[ACCOUNTS_EACH_BLOCK]:
        account(m, zone, -(1 << order), source)
    if flags & ALLOC_HIGHATOMIC and m[HIGHATOMIC_IN_RMQUEUE]:
        at_min = flags & WMARK_MASK == WMARK_MIN
        if at_min or not m[HIGHATOMIC_FAST]:
            reserve_highatomic(m, zone, page, order)
    return page


@compiled
def allocate_bulk(m: Any, cpu: int, node: int, gfp: int, migratetype: int, wanted: int) -> Number:
    """Single pages for a caller that wants many at once; how many it gets."""
    highest = gfp_zone(gfp)
    zonelist = _zonelist(m, node, gfp)
    preferred = _preferred(m, zonelist, highest)
    if wanted > 1 and preferred >= 0:
        flags = WMARK_LOW
        if m[HAS_CMA] and migratetype == MOVABLE:
            flags |= ALLOC_CMA
        preferred_at = ZONES_AT + preferred * ZONE_WORDS
        most_type = m[preferred_at + ZONE_TYPE]
        for number in range(zonelist + 1, zonelist + 1 + m[zonelist]):
            zone = m[number]
            at = ZONES_AT + zone * ZONE_WORDS
            if m[at + ZONE_TYPE] > highest:
                continue
            if m[at + NODE] != m[preferred_at + NODE]:
                break
            mark = watermark(m, zone, flags & WMARK_MASK) + wanted
            m[at + CPU] = cpu
            if watermark_fast(m, zone, 0, mark, most_type, flags, gfp):
                pages = 0
                while pages < wanted and take_one(m, zone, cpu, 0, migratetype, flags) >= 0:
                    pages += 1
                if pages:
                    return pages
                break
    return 1 if allocate(m, cpu, node, 0, gfp, migratetype, -1) >= 0 else 0


@compiled
def set_threshold(m: Any, zone: int, threshold: int) -> None:
    """Sets how far the counters of all processors may lag behind, where they may at all."""
    if m[ZONES_AT + zone * ZONE_WORDS + DRIFT_MARKED]:
        for cpu in range(m[CPUS]):
            pcp = m[PCPS_AT] + (zone * m[CPUS] + cpu) * PCP_WORDS + THRESHOLD
            m[pcp] = m[pcp + 1] = threshold


@compiled
def free(m: Any, cpu: int, page: int, order: int) -> Number:
    """A block is freed on a processor; 0 if it cannot be."""
    zone = zone_of(m, page)
    if zone < 0:
        return 0
    if not pcp_allowed(m, order) or pageblock_type(m, page) == ISOLATE:
        return free_direct(m, cpu, page, order, -1)
    m[ZONES_AT + zone * ZONE_WORDS + CPU] = cpu
    set_movable(m, page, order, 0)
    put(m, zone, cpu, page, order)
    return 1


@compiled
def free_direct(m: Any, cpu: int, page: int, order: int, captured: int) -> Number:
    """A block goes straight to the zone's lists; 0 if it cannot."""
    zone = zone_of(m, page)
    if zone < 0:
        return 0
    m[ZONES_AT + zone * ZONE_WORDS + CPU] = cpu
    set_movable(m, page, order, 0)
    part = order
    if m[SPLITS_LARGE_FREES]:
        part = min(order, m[PAGEBLOCK_ORDER])
    for start in range(page, page + (1 << order), 1 << part):
        if not give_back(m, zone, start, part, -1, -1, captured):
            return 0
    return 1


@compiled
def isolate_free(m: Any, cpu: int, page: int, order: int) -> Number:
    """Compaction, or whoever isolates ranges, takes a free block off its list; 0 if it is none."""
    zone = zone_of(m, page)
    if zone < 0:
        return 0
    m[ZONES_AT + zone * ZONE_WORDS + CPU] = cpu
    if block_order(m, zone, page) != order:
        return 0
    remove(m, page)
    account(m, zone, -(1 << order), pageblock_type(m, page))
    pageblock_order = m[PAGEBLOCK_ORDER]
    if order >= pageblock_order - 1:
        for start in range(page, page + (1 << order) - 1, 1 << pageblock_order):
            if pageblock_type(m, start) <= RECLAIMABLE:
                if m[ACCOUNTS_EACH_BLOCK]:
                    move_pageblock(m, zone, start, MOVABLE)
                else:
                    set_pageblock_type(m, start, 0, MOVABLE)
    return 1


@compiled
def put_back(m: Any, cpu: int, page: int, order: int, migratetype: int) -> Number:
    """An isolated free block returns to the tail of a list; 0 if it cannot."""
    zone = zone_of(m, page)
    if zone < 0:
        return 0
    m[ZONES_AT + zone * ZONE_WORDS + CPU] = cpu
    return give_back(m, zone, page, order, migratetype, 1, -1)


@compiled
def fold(m: Any, cpu: int) -> None:
    """A processor hands over its counter differences."""
    for zone in range(m[ZONES]):
        pcp = m[PCPS_AT] + (zone * m[CPUS] + cpu) * PCP_WORDS + DIFFERENCE
        for item in range(2):
            m[ZONES_AT + zone * ZONE_WORDS + NR_FREE + item] += m[pcp + item]
            m[pcp + item] = 0


@compiled
def reserve_highatomic(m: Any, zone: int, page: int, order: int) -> None:
    at = ZONES_AT + zone * ZONE_WORDS
    pageblock_order = m[PAGEBLOCK_ORDER]
    pageblock_pages = 1 << pageblock_order
    share = m[at + MANAGED] // 100
    if m[HIGHATOMIC_LIMIT_ALIGNED]:
        if share < pageblock_pages:
            return
        limit = -(-share // pageblock_pages) * pageblock_pages
    else:
        limit = share + pageblock_pages
    if m[at + NR_RESERVED_HIGHATOMIC] >= limit:
        return
    if pageblock_type(m, page) > RECLAIMABLE:
        return
    accounts = m[ACCOUNTS_EACH_BLOCK]
    if accounts and order >= pageblock_order:
        set_pageblock_type(m, page, order, HIGHATOMIC)
        m[at + NR_RESERVED_HIGHATOMIC] += 1 << order
        return
    if not accounts:
        set_pageblock_type(m, page, 0, HIGHATOMIC)
    if move_pageblock(m, zone, page, HIGHATOMIC) == -1:
        return
    m[at + NR_RESERVED_HIGHATOMIC] += pageblock_pages


@compiled
def unreserve_highatomic(m: Any, zone: int, migratetype: int, force: int) -> Number:
    """Gives one reserved pageblock with free pages back to a type; 1 if any was."""
    at = ZONES_AT + zone * ZONE_WORDS
    pageblock_order = m[PAGEBLOCK_ORDER]
    pageblock_pages = 1 << pageblock_order
    accounts = m[ACCOUNTS_EACH_BLOCK]
    if not force and m[at + NR_RESERVED_HIGHATOMIC] <= pageblock_pages:
        return 0
    for order in range(m[MAX_ORDER] + 1):
        page = head(m, zone, order, HIGHATOMIC)
        if page < 0:
            continue
        if pageblock_type(m, page) == HIGHATOMIC:
            size = max(pageblock_pages, 1 << order) if accounts else pageblock_pages
            m[at + NR_RESERVED_HIGHATOMIC] -= min(size, m[at + NR_RESERVED_HIGHATOMIC])
        if accounts and order >= pageblock_order:
            move_block(m, zone, page, migratetype)
            set_pageblock_type(m, page, order, migratetype)
            return 1
        if not accounts:
            set_pageblock_type(m, page, 0, migratetype)
        if move_pageblock(m, zone, page, migratetype) > 0:
            return 1
    return 0
