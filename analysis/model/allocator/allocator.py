"""The whole allocator of a machine: which zone, which attempt, which page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.model.allocator.fallback import Memory, can_give, rmqueue
from analysis.model.allocator.gfp import (
    WMARK_MASK,
    ZONE_DMA32,
    ZONE_NORMAL,
    Alloc,
    Gfp,
    fast_flags,
    gfp_zone,
    reserve_flags,
    slow_flags,
)
from analysis.model.allocator.pcp import Excess, PerCpuPages, pcp_allowed
from analysis.model.allocator.watermark import watermark_fast
from analysis.model.allocator.zone import Zone
from analysis.model.eras import Era
from analysis.model.freelist import Migratetype


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request for ``2**order`` pages."""

    cpu: int
    node: int
    """Where the zonelist begins."""
    order: int
    gfp: int
    migratetype: Migratetype
    alloc_flags: int | None = None
    """Of the attempt that succeeded, where the trace tells; None: found out by trying."""
    pcp_locked: bool = False
    """Somebody else has the per-cpu lists locked, so that they are passed by."""
    zone: int | None = None
    """The only zone that pages may be taken from: where the model would take them from another,
    it says so and takes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The block that the model chose."""

    pfn: int
    """First page; -1: none was taken, since it would have come from another zone than it may."""
    zone: int
    """Its zone's number."""
    attempt: int
    """0: the first, with the low watermark; 1: with the min watermark; 2: ignoring them."""


@dataclass(slots=True, kw_only=True)
class Allocator:
    """Zones by number, per-cpu lists by (zone, cpu), zonelists by (node, this node only?)."""

    era: Era
    zones: Sequence[Zone]
    pcps: Mapping[tuple[int, int], PerCpuPages]
    zonelists: Mapping[tuple[int, bool], Sequence[int]]
    """Zone numbers in the order of the search; True: __GFP_THISNODE."""
    cpu_nodes: Mapping[int, int]
    huge_order: int | None
    has_cma: bool
    awake_kswapds: set[int] = field(default_factory=set)
    """Nodes whose kswapd does not sleep."""

    def allocate(self, request: Request) -> Choice | None:
        """The page the kernel would give, taken off the lists; None when it has none to give.

        Kernel: mm/page_alloc.c, ``__alloc_pages`` and ``__alloc_pages_slowpath``; 6.1 to 7.3.
        Ignores: nodemasks of memory policies and cpusets; the dirty limit of a node for page
            cache that will be written (spread_dirty_pages); node reclaim. Reclaim, compaction and
            the OOM killer between attempts are not foretold: their frees and isolations are part
            of the request stream, and an attempt is repeated with the next weaker flags where
            the kernel is known to have succeeded.
        """
        candidates = self.candidates(request)
        for number, flags in enumerate(self._attempts(request, candidates)):
            choice = self._attempt(request, candidates, flags, number)
            if choice is not None:
                return choice
        return None

    def allocate_from(self, request: Request, number: int) -> Choice | None:
        """The page the kernel would give from a zone of which it is known that it was served."""
        zone, attempts = self.zones[number], self._attempts(request, self.candidates(request))
        zone.cpu = request.cpu
        if not attempts:
            return None
        fits = (at for at, flags in enumerate(attempts) if self._may_take(zone, request, flags))
        attempt = next(fits, min(1, len(attempts) - 1))
        for flags in (attempts[attempt], attempts[attempt] & ~int(Alloc.NOFRAGMENT)):
            pfn = self._rmqueue(request, zone, flags)
            if pfn is not None:
                return Choice(pfn=pfn, zone=number, attempt=attempt)
        return None

    def _attempts(self, request: Request, candidates: Sequence[Zone]) -> Sequence[int]:
        """Flags of one attempt after the other."""
        if not candidates:
            return ()
        if request.alloc_flags is not None:
            return (request.alloc_flags,)
        cma = self._uses_cma(request.migratetype)
        nofragment = self._nofragment(candidates[0])
        return (
            fast_flags(request.gfp, request.order, self.era, cma=cma, nofragment=nofragment),
            slow_flags(request.gfp, request.order, cma=cma),
            reserve_flags(request.gfp, cma=cma),
        )

    def candidates(self, request: Request) -> list[Zone]:
        """Zones that the request may use, in the order of the search."""
        highest = gfp_zone(request.gfp)
        this_node = bool(request.gfp & Gfp.THISNODE)
        numbers = self.zonelists.get((request.node, this_node), ())
        zones = (self.zones[number] for number in numbers)
        return [zone for zone in zones if zone.zone_type <= highest]

    def allocate_bulk(self, request: Request, wanted: int) -> list[int]:
        """Single pages for a caller that wants many at once; those it gets, in order.

        Kernel: mm/page_alloc.c, ``__alloc_pages_bulk``; 6.1 to 7.3.
        Ignores: arrays that hold pages already, but for their number.
        """
        candidates = self.candidates(request)
        if wanted > 1 and candidates:
            flags = int(Alloc.WMARK_LOW)
            if self._uses_cma(request.migratetype):
                flags |= Alloc.CMA
            for zone in candidates:
                if zone.node != candidates[0].node:
                    break
                mark = zone.watermark(flags & WMARK_MASK) + wanted
                highest = candidates[0].zone_type
                zone.cpu = request.cpu
                if watermark_fast(zone, 0, mark, highest, flags, request.gfp):
                    pages = self._take_many(request, zone, flags, wanted)
                    if pages:
                        return pages
                    break
        choice = self.allocate(request)
        return [] if choice is None else [choice.pfn]

    def free(self, cpu: int, pfn: int, order: int, *, stop_after: int = 0) -> Excess | None:
        """A block is freed on a processor. ``stop_after``: see ``Excess``.

        Kernel: mm/page_alloc.c, ``free_unref_page`` (``__free_frozen_pages``); 6.1 to 7.3.

        Raises:
            ValueError: the pages are free, or in no zone.
        """
        zone = self.zone_of(pfn)
        zone.cpu = cpu
        if not pcp_allowed(order, self.huge_order) or (
            zone.free.pageblock_migratetype(pfn) is Migratetype.ISOLATE
        ):
            self.free_direct(cpu, pfn, order)
            return None
        self._forget_movable(zone, pfn, order)
        return self.pcps[zone.number, cpu].put(pfn, order, stop_after=stop_after)

    def free_direct(
        self, cpu: int, pfn: int, order: int, *, captured_order: int | None = None
    ) -> None:
        """A block goes straight to the zone's lists.

        Kernel: mm/page_alloc.c, ``free_one_page``, ``__free_pages_ok``, ``split_large_buddy``.

        Raises:
            ValueError: the pages are free, or in no zone.
        """
        zone = self.zone_of(pfn)
        zone.cpu = cpu
        self._forget_movable(zone, pfn, order)
        part = min(order, zone.free.pageblock_order) if self.era.splits_large_frees else order
        for start in range(pfn, pfn + (1 << order), 1 << part):
            zone.give_back(start, part, captured_order=captured_order)

    def isolate_free(self, cpu: int, pfn: int, order: int) -> bool:
        """Compaction, or whoever isolates ranges, takes a free block off its list.

        Kernel: mm/page_alloc.c, ``__isolate_free_page``; 6.1 to 7.3. Whether it obeyed the
            watermark is given: the trace shows those it took.
        """
        zone = self.zone_of(pfn)
        zone.cpu = cpu
        lists = zone.free
        block = lists.block_at(pfn)
        if block is None or block.order != order:
            return False
        lists.remove(block)
        zone.account(-(1 << order), lists.pageblock_migratetype(pfn))
        if order >= lists.pageblock_order - 1:
            for start in range(pfn, pfn + (1 << order) - 1, 1 << lists.pageblock_order):
                if lists.pageblock_migratetype(start).mergeable:
                    kind = zone.policy.grouped(Migratetype.MOVABLE)
                    if self.era.accounts_each_block:
                        zone.move_pageblock(start, kind)
                    else:
                        lists.set_pageblock_migratetype(start, 0, kind)
        return True

    def put_back(self, cpu: int, pfn: int, order: int, migratetype: Migratetype) -> None:
        """An isolated free block returns to the tail of a list.

        Kernel: mm/page_alloc.c, ``__putback_isolated_page``; 6.1 to 7.3.
        """
        zone = self.zone_of(pfn)
        zone.cpu = cpu
        zone.give_back(pfn, order, migratetype=migratetype, to_tail=True)

    def zone_of(self, pfn: int) -> Zone:
        """Raises ValueError when no zone spans the page."""
        for zone in self.zones:
            if zone.free.spans(pfn):
                return zone
        raise ValueError(f"page {pfn:#x} is in no zone")

    def fold(self, cpu: int) -> None:
        """A processor hands over its counter differences. Kernel: ``refresh_cpu_vm_stats``."""
        for zone in self.zones:
            zone.nr_free.fold(cpu)
            zone.nr_free_cma.fold(cpu)

    def _uses_cma(self, migratetype: Migratetype) -> bool:
        return self.has_cma and migratetype is Migratetype.MOVABLE

    def _nofragment(self, preferred: Zone) -> bool:
        """Kernel: mm/page_alloc.c, ``alloc_flags_nofragment``; 6.1 to 7.3, without defrag_mode."""
        if preferred.zone_type != ZONE_NORMAL or not preferred.policy.nofragment:
            return False
        if self._nodes_online() == 1:
            return True
        return any(
            zone.node == preferred.node and zone.zone_type == ZONE_DMA32 for zone in self.zones
        )

    def _nodes_online(self) -> int:
        return len({node for node, _ in self.zonelists})

    def _attempt(
        self, request: Request, candidates: Sequence[Zone], flags: int, number: int
    ) -> Choice | None:
        """One walk along the zonelist, repeated with weaker demands as the kernel does.

        Kernel: mm/page_alloc.c, ``get_page_from_freelist``; 6.1 to 7.3.
        """
        many = self._nodes_online() > 1
        skip_awake = many and self.era.skips_awake_kswapd
        while True:
            skipped = False
            restart = False
            no_fallback = bool(flags & Alloc.NOFRAGMENT)
            for zone in candidates:
                if no_fallback and many and zone.node != candidates[0].node:
                    flags &= ~int(Alloc.NOFRAGMENT)
                    restart = True
                    break
                if skip_awake and zone.node in self.awake_kswapds:
                    skipped = True
                    continue
                zone.cpu = request.cpu
                if not self._may_take(zone, request, flags):
                    continue
                if request.zone not in (None, zone.number) and self._has_page(zone, request, flags):
                    return Choice(pfn=-1, zone=zone.number, attempt=number)
                pfn = self._rmqueue(request, zone, flags)
                if pfn is not None:
                    return Choice(pfn=pfn, zone=zone.number, attempt=number)
            if restart:
                continue
            if skip_awake and skipped:
                skip_awake = False
            elif no_fallback:
                flags &= ~int(Alloc.NOFRAGMENT)
            else:
                return None

    def _may_take(self, zone: Zone, request: Request, flags: int) -> bool:
        highest = gfp_zone(request.gfp)
        order, gfp = request.order, request.gfp
        if self.era.below_high_flag and not zone.below_high:
            if watermark_fast(zone, order, zone.watermark(2), highest, flags, gfp):
                return True
            zone.below_high = True
        if flags & Alloc.NO_WATERMARKS:
            mark = zone.watermark(flags & WMARK_MASK)
            watermark_fast(zone, order, mark, highest, flags, gfp)
            return True
        mark = zone.watermark(flags & WMARK_MASK)
        return watermark_fast(zone, order, mark, highest, flags, gfp)

    def _has_page(self, zone: Zone, request: Request, flags: int) -> bool:
        """Whether a zone that may be taken from has anything to take; changes nothing."""
        pcp = self.pcps[zone.number, request.cpu]
        if pcp_allowed(request.order, self.huge_order) and not request.pcp_locked:
            kind = request.migratetype
            if pcp.lists[
                pcp.pindex(kind if kind.mergeable else Migratetype.MOVABLE, request.order)
            ]:
                return True
        return can_give(zone, request.order, request.migratetype, flags)

    def _rmqueue(self, request: Request, zone: Zone, flags: int) -> int | None:
        """Kernel: mm/page_alloc.c, ``rmqueue``; 6.1 to 7.3."""
        order, migratetype = request.order, request.migratetype
        pfn: int | None = None
        if (
            pcp_allowed(order, self.huge_order)
            and not request.pcp_locked
            and not (
                self.era.cma_bypasses_pcp
                and self.has_cma
                and migratetype is Migratetype.MOVABLE
                and not flags & Alloc.CMA
            )
        ):
            pfn = self.pcps[zone.number, request.cpu].take(order, migratetype, flags)
        if pfn is None:
            pfn = self._rmqueue_buddy(request, zone, flags)
        if zone.boosted and (flags & Alloc.KSWAPD or not self.era.accounts_each_block):
            zone.boosted = False
        if pfn is not None and flags & Alloc.HIGHATOMIC and not self.era.highatomic_in_rmqueue:
            self.reserve_highatomic(zone, pfn, order)
        return pfn

    def _rmqueue_buddy(self, request: Request, zone: Zone, flags: int) -> int | None:
        """Kernel: mm/page_alloc.c, ``rmqueue_buddy``; 6.1 to 7.3."""
        order = request.order
        pfn: int | None = None
        source = Migratetype.HIGHATOMIC
        if flags & Alloc.HIGHATOMIC:
            pfn = zone.take_smallest(order, Migratetype.HIGHATOMIC)
        if pfn is None:
            found = rmqueue(zone, order, request.migratetype, flags, Memory())
            if found is not None:
                pfn, source = found
            elif flags & (Alloc.OOM | Alloc.NON_BLOCK):
                pfn = zone.take_smallest(order, Migratetype.HIGHATOMIC)
        if pfn is None:
            return None
        if not self.era.accounts_each_block:
            zone.account(-(1 << order), source)
        if flags & Alloc.HIGHATOMIC and self.era.highatomic_in_rmqueue:
            at_min = flags & WMARK_MASK == Alloc.WMARK_MIN
            if at_min or not self.era.highatomic_fast:
                self.reserve_highatomic(zone, pfn, order)
        return pfn

    def reserve_highatomic(self, zone: Zone, pfn: int, order: int) -> None:
        """Sets the pageblock of a high-order atomic allocation aside for such.

        Kernel: mm/page_alloc.c, ``reserve_highatomic_pageblock``; 6.1 to 7.3.
        """
        pageblock_pages = 1 << zone.free.pageblock_order
        share = zone.managed_pages // 100
        if self.era.highatomic_limit_aligned:
            if share < pageblock_pages:
                return
            limit = -(-share // pageblock_pages) * pageblock_pages
        else:
            limit = share + pageblock_pages
        if zone.nr_reserved_highatomic >= limit:
            return
        if not zone.free.pageblock_migratetype(pfn).mergeable:
            return
        if self.era.accounts_each_block and order >= zone.free.pageblock_order:
            zone.free.set_pageblock_migratetype(pfn, order, Migratetype.HIGHATOMIC)
            zone.nr_reserved_highatomic += 1 << order
            return
        if not self.era.accounts_each_block:
            zone.free.set_pageblock_migratetype(pfn, 0, Migratetype.HIGHATOMIC)
        if zone.move_pageblock(pfn, Migratetype.HIGHATOMIC) == -1:
            return
        zone.nr_reserved_highatomic += pageblock_pages

    def unreserve_highatomic(self, zone: Zone, migratetype: Migratetype, *, force: bool) -> bool:
        """Gives one reserved pageblock with free pages back to a type; whether any was.

        Kernel: mm/page_alloc.c, ``unreserve_highatomic_pageblock``, for one zone; 6.1 to 7.3.
        """
        lists = zone.free
        pageblock_pages = 1 << lists.pageblock_order
        if not force and zone.nr_reserved_highatomic <= pageblock_pages:
            return False
        for order in range(lists.max_order + 1):
            block = lists.head(order, Migratetype.HIGHATOMIC)
            if block is None:
                continue
            if lists.pageblock_migratetype(block.pfn) is Migratetype.HIGHATOMIC:
                size = max(pageblock_pages, 1 << order)
                if not self.era.accounts_each_block:
                    size = pageblock_pages
                zone.nr_reserved_highatomic -= min(size, zone.nr_reserved_highatomic)
            if self.era.accounts_each_block and order >= lists.pageblock_order:
                zone.move_block(block, migratetype)
                lists.set_pageblock_migratetype(block.pfn, order, migratetype)
                return True
            if not self.era.accounts_each_block:
                lists.set_pageblock_migratetype(block.pfn, 0, migratetype)
            if zone.move_pageblock(block.pfn, migratetype) > 0:
                return True
        return False

    def _take_many(self, request: Request, zone: Zone, flags: int, wanted: int) -> list[int]:
        lists = self.pcps[zone.number, request.cpu]
        pages: list[int] = []
        while len(pages) < wanted:
            pfn = lists.take_one(0, request.migratetype, flags)
            if pfn is None:
                break
            pages.append(pfn)
        return pages

    def _forget_movable(self, zone: Zone, pfn: int, order: int) -> None:
        if zone.movable:
            if order == 0:
                zone.movable.discard(pfn)
            else:
                zone.movable.difference_update(range(pfn, pfn + (1 << order)))
