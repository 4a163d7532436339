"""The lists of pages that each processor keeps of each zone: refill, free, drain."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass

from analysis.model.allocator.fallback import Memory, rmqueue
from analysis.model.allocator.gfp import ZONE_MOVABLE, Alloc
from analysis.model.allocator.watermark import watermark_ok
from analysis.model.allocator.zone import ListMove, Zone
from analysis.model.freelist import Migratetype

COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER."""
PCP_TYPES = 3
"""MIGRATE_PCPTYPES."""
LOW_ORDER_LISTS = (COSTLY_ORDER + 1) * PCP_TYPES
"""Lists of the orders 0 to 3; those of huge pages follow, one or two."""

PREV_FREE_HIGH_ORDER = 1
"""PCPF_PREV_FREE_HIGH_ORDER: the page freed last was of order 1 to 3."""
FREE_HIGH_BATCH = 2
"""PCPF_FREE_HIGH_BATCH: a processor with much cache per core keeps a batch."""


def pcp_allowed(order: int, huge_order: int | None) -> bool:
    """Whether blocks of this order are kept on per-cpu lists; ``huge_order`` None without THP.

    Kernel: mm/page_alloc.c, ``pcp_allowed_order``; 6.1 to 7.3.
    Ignores: nothing known.
    """
    return order <= COSTLY_ORDER or order == huge_order


def clamp(value: int, low: int, high: int) -> int:
    """As the kernel's, also where ``low`` is above ``high``.

    Kernel: include/linux/minmax.h, ``clamp``.
    Ignores: nothing known.
    """
    if value >= high:
        return high
    return max(value, low)


DECAYING, DRAINING_ALL = -1, -2
"""Instead of a pindex, of what ``decay`` and ``drain_all`` left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """What is still to be given back to the zone.

    Whoever gives back many pages lets go of the lists now and then, and another task may get them
    in between. Every method that does so takes ``stop_after``: after so many pages (0: never) it
    returns what is left, for ``PerCpuPages.give_rest``.
    """

    pages: int
    pindex: int
    """List to begin with, or ``DECAYING`` or ``DRAINING_ALL``."""


@dataclass(slots=True, kw_only=True)
class PerCpuPages:
    """One processor's lists of one zone. Kernel: include/linux/mmzone.h, ``per_cpu_pages``."""

    zone: Zone
    cpu: int
    lists: list[OrderedDict[int, Migratetype]]
    """By pindex: first page → the type it goes back to, head first."""
    huge_order: int | None
    batch_scale: int
    """CONFIG_PCP_BATCH_SCALE_MAX."""
    count: int = 0
    high: int = 0
    high_min: int = 0
    high_max: int = 0
    batch: int = 1
    flags: int = 0
    free_factor: int = 0
    alloc_factor: int = 0
    free_count: int = 0

    def pindex(self, migratetype: Migratetype, order: int) -> int:
        """The list of a type and order. Kernel: ``order_to_pindex``; 6.1 to 7.3.

        6.1 has one list of huge pages, 6.12 and later one for movable ones and one for others.
        """
        if order > COSTLY_ORDER:
            huge_lists = len(self.lists) - LOW_ORDER_LISTS
            movable = migratetype is Migratetype.MOVABLE
            return LOW_ORDER_LISTS + (1 if movable and huge_lists > 1 else 0)
        return PCP_TYPES * order + migratetype

    def order(self, pindex: int) -> int:
        """The order of a list's blocks. Kernel: ``pindex_to_order``; 6.1 to 7.3."""
        if pindex >= LOW_ORDER_LISTS:
            assert self.huge_order is not None
            return self.huge_order
        return pindex // PCP_TYPES

    def take(self, order: int, migratetype: Migratetype, alloc_flags: int) -> int | None:
        """Takes the head of a list, filling the list first when it is empty.

        Kernel: mm/page_alloc.c, ``rmqueue_pcplist``; 6.1 to 7.3.
        """
        if self.zone.era.pcp_tunes_itself:
            self.free_count >>= 1
        else:
            self.free_factor >>= 1
        return self.take_one(order, migratetype, alloc_flags)

    def take_one(self, order: int, migratetype: Migratetype, alloc_flags: int) -> int | None:
        """``take`` without its effect on later frees; a bulk request takes all pages so.

        Kernel: mm/page_alloc.c, ``__rmqueue_pcplist``; 6.1 to 7.3.
        """
        pages = self.lists[self.pindex(migratetype, order)]
        if not pages:
            blocks = self.refill_blocks(order)
            if self.zone.era.highatomic_skips_refill and alloc_flags & Alloc.HIGHATOMIC:
                return None
            self._refill(pages, blocks, order, migratetype, alloc_flags)
            if not pages:
                return None
        pfn, _ = pages.popitem(last=False)
        self.count -= 1 << order
        return pfn

    def refill_blocks(self, order: int) -> int:
        """How many blocks to fetch; notes that they are asked for.

        Kernel: mm/page_alloc.c, ``nr_pcp_alloc`` (6.12 to 7.3), ``__rmqueue_pcplist`` (6.1).
        """
        zone = self.zone
        if not zone.era.pcp_tunes_itself:
            return max(self.batch >> order, 2) if self.batch > 1 else self.batch
        high = self.high = clamp(self.high, self.high_min, self.high_max)
        if high < self.batch:
            return 1
        blocks = self.batch if order else self.batch << self.alloc_factor
        if self.high_min != self.high_max and not zone.below_high:
            high = self.high = min(high + blocks, self.high_max)
        if order == 0:
            most = max(high - self.count - self.batch, self.batch)
            if blocks <= most and self.alloc_factor < self.batch_scale:
                self.alloc_factor += 1
            blocks = min(blocks, most)
        return max(blocks >> order, 2) if blocks > 1 else blocks

    def fetches_more(self, order: int) -> bool:
        """Whether a refill would ask for more than one block; changes nothing."""
        return copy(self).refill_blocks(order) > 1

    def _refill(
        self,
        pages: OrderedDict[int, Migratetype],
        blocks: int,
        order: int,
        migratetype: Migratetype,
        alloc_flags: int,
    ) -> None:
        """Kernel: mm/page_alloc.c, ``rmqueue_bulk``; 6.1 to 7.3."""
        zone = self.zone
        memory = Memory()
        fetched = 0
        for _ in range(blocks):
            found = rmqueue(zone, order, migratetype, alloc_flags, memory)
            if found is None:
                break
            pfn, source = found
            pages[pfn] = source
            fetched += 1
            if source is Migratetype.CMA and not zone.era.accounts_each_block:
                zone.nr_free_cma.add(zone.cpu, -(1 << order))
        self.count += fetched << order
        if not zone.era.accounts_each_block:
            zone.nr_free.add(zone.cpu, -(fetched << order))

    def put(self, pfn: int, order: int, *, stop_after: int = 0) -> Excess | None:
        """A freed block comes to the head of its list; too many are given back to the zone.

        Only 7.2 and 7.3 let go of the lists in between.

        Kernel: mm/page_alloc.c, ``free_unref_page_commit`` (6.1, 6.12),
            ``free_frozen_page_commit`` (7.2, 7.3).
        """
        zone = self.zone
        source = zone.free.pageblock_migratetype(pfn)
        listed = source if source < PCP_TYPES else Migratetype.MOVABLE
        pindex = self.pindex(listed, order)
        pages = self.lists[pindex]
        pages[pfn] = source
        pages.move_to_end(pfn, last=False)
        self.count += 1 << order
        if zone.era.pcp_tunes_itself:
            return self._put_tuned(pindex, order, stop_after)
        free_high = bool(self.free_factor and 0 < order <= COSTLY_ORDER)
        high = self.high_by_factor(free_high)
        if self.count >= high:
            self.drain(self.excess_by_factor(high, free_high), pindex)
        return None

    def overfills(self, order: int) -> bool:
        """Whether ``put`` of this block would give pages back to the zone; changes nothing."""
        trial = copy(self)
        trial.count += 1 << order
        if not self.zone.era.pcp_tunes_itself:
            free_high = bool(self.free_factor and 0 < order <= COSTLY_ORDER)
            high = trial.high_by_factor(free_high)
            return trial.count >= high and trial.excess_by_factor(high, free_high) > 0
        free_high = trial.count_tuned_free(order)
        high = trial.tuned_high(free_high)
        return trial.count >= high and trial.tuned_excess(high, free_high) > 0

    def high_by_factor(self, free_high: bool) -> int:
        """Kernel: ``nr_pcp_high``; 6.1."""
        if not self.high or free_high:
            return 0
        return min(self.batch << 2, self.high) if self.zone.reclaim_active else self.high

    def excess_by_factor(self, high: int, free_high: bool) -> int:
        """Kernel: ``nr_pcp_free``; 6.1."""
        if free_high:
            return self.count
        if high < self.batch:
            return 1
        most = high - self.batch
        pages = self.batch << self.free_factor
        if pages < most and self.free_factor < self.batch_scale:
            self.free_factor += 1
        return clamp(pages, self.batch, most)

    def count_tuned_free(self, order: int) -> bool:
        """Notes a free; whether it is one of many high-order ones that should not stay."""
        zone = self.zone
        self.alloc_factor >>= 1
        free_high = False
        if 0 < order <= COSTLY_ORDER:
            enough = self.batch
            if zone.era.high_order_drain_waits:
                enough += self.high_min // 2
            free_high = (
                self.free_count >= enough
                and bool(self.flags & PREV_FREE_HIGH_ORDER)
                and (not self.flags & FREE_HIGH_BATCH or self.count >= self.batch)
            )
            self.flags |= PREV_FREE_HIGH_ORDER
        else:
            self.flags &= ~PREV_FREE_HIGH_ORDER
        if self.free_count < self.batch << self.batch_scale:
            self.free_count += 1 << order
        return free_high

    def _put_tuned(self, pindex: int, order: int, stop_after: int) -> Excess | None:
        free_high = self.count_tuned_free(order)
        high = self.tuned_high(free_high)
        if self.count < high:
            return None
        return self._give_excess(self.tuned_excess(high, free_high), pindex, stop_after)

    def give_rest(self, rest: Excess, *, stop_after: int = 0) -> Excess | None:
        """Goes on with what was left."""
        if rest.pindex == DRAINING_ALL:
            return self.drain_all(stop_after=stop_after)
        if rest.pindex == DECAYING:
            return self._decay(rest.pages, stop_after)
        return self._give_excess(rest.pages, rest.pindex, stop_after)

    def _give_excess(self, left: int, pindex: int, stop_after: int) -> Excess | None:
        zone = self.zone
        if not zone.era.drains_in_batches:
            self.drain(left, pindex)
            left = 0
        given = 0
        while left > 0 and self.count > 0:
            part, before = min(left, self.batch), self.count
            self.drain(part, pindex)
            left -= part
            given += before - self.count
            if stop_after and given >= stop_after and left > 0 and self.count > 0:
                return Excess(pages=left, pindex=pindex)
        if zone.below_high and watermark_ok(
            zone, 0, zone.watermark(2), ZONE_MOVABLE, 0, zone.nr_free.seen()
        ):
            zone.below_high = False
        return None

    def tuned_high(self, free_high: bool) -> int:
        """Kernel: ``nr_pcp_high``; 6.12 to 7.3."""
        zone = self.zone
        high = self.high = clamp(self.high, self.high_min, self.high_max)
        if not high:
            return 0
        if free_high:
            self.high = max(high - (self.batch << self.batch_scale), self.high_min)
            return 0
        if zone.reclaim_active:
            self.high = max(high - max(self.free_count, self.batch), self.high_min)
            return min(self.batch << 2, self.high)
        if self.high_min == self.high_max:
            return high
        if zone.below_high:
            self.high = max(high - max(self.free_count, self.batch), self.high_min)
            return max(self.count, self.high_min)
        if self.count >= high:
            needed = self.free_count + self.batch
            if self.high < needed:
                self.high = clamp(needed, self.high_min, self.high_max)
        return high

    def tuned_excess(self, high: int, free_high: bool) -> int:
        """Kernel: ``nr_pcp_free``; 6.12 to 7.3."""
        if free_high:
            return min(self.count, self.batch << self.batch_scale)
        if high < self.batch:
            return 1
        most = high - self.batch
        return clamp(self.free_count, self.batch, most)

    def drain(self, pages: int, pindex: int = 0) -> None:
        """Gives back at least so many pages, from the tails, list after list from ``pindex`` on.

        Kernel: mm/page_alloc.c, ``free_pcppages_bulk``; 6.1 to 7.3.
        """
        zone = self.zone
        pages = min(pages, self.count)
        pindex -= 1
        while pages > 0:
            pindex = (pindex + 1) % len(self.lists)
            while not self.lists[pindex]:
                pindex = (pindex + 1) % len(self.lists)
            order = self.order(pindex)
            blocks = self.lists[pindex]
            while pages > 0 and blocks:
                pfn, source = blocks.popitem()
                pages -= 1 << order
                self.count -= 1 << order
                remembered = zone.era.pcp_remembers_type and not zone.isolated_pageblocks
                zone.give_back(pfn, order, migratetype=source if remembered else None)
                zone.moves.append((ListMove.DRAINED, pfn, order))

    def drain_all(self, *, stop_after: int = 0) -> Excess | None:
        """Kernel: mm/page_alloc.c, ``drain_pages_zone``; 6.1 to 7.3."""
        given = 0
        while self.count:
            before = self.count
            self.drain(min(self.count, self.batch << self.batch_scale))
            given += before - self.count
            if stop_after and given >= stop_after and self.count:
                return Excess(pages=self.count, pindex=DRAINING_ALL)
        return None

    def drain_batch(self) -> None:
        """Kernel: mm/page_alloc.c, ``drain_zone_pages``; 6.1 to 7.3."""
        self.drain(min(self.count, self.batch))

    def decay(self, *, stop_after: int = 0) -> Excess | None:
        """Lets the lists shrink, now and then.

        Kernel: mm/page_alloc.c, ``decay_pcp_high``; 6.12 to 7.3.
        """
        if self.high > self.high_min:
            self.high = max(
                self.count - (self.batch << self.batch_scale),
                self.high - (self.high >> 3),
                self.high_min,
            )
        return self._decay(self.count - self.high, stop_after)

    def _decay(self, left: int, stop_after: int) -> Excess | None:
        given = 0
        while left > 0:
            part, before = min(left, self.batch), self.count
            self.drain(part)
            left -= part
            given += before - self.count
            if stop_after and given >= stop_after and left > 0:
                return Excess(pages=left, pindex=DECAYING)
        return None
