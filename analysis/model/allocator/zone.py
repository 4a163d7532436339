"""One zone: free lists, pageblocks, counters, watermarks, and taking blocks from its lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

from analysis.model.allocator.counter import ZoneCounter
from analysis.model.allocator.policy import KERNEL, Placement, Policy
from analysis.model.buddy import expand, free_one
from analysis.model.eras import Era
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.stat_threshold import normal_threshold, pressure_threshold


class ListMove(IntEnum):
    """What the kernel traces under the zone's lock."""

    LOCKED = 0
    """A block left the zone's lists: mm_page_alloc_zone_locked, or mm_page_alloc_extfrag alone."""
    DRAINED = 1
    """mm_page_pcpu_drain: a block came back from a per-cpu list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extfrag:
    """What mm_page_alloc_extfrag tells of a fallback."""

    pfn: int
    """The block that was found, or (where pageblocks are claimed) the page that was taken."""
    order: int
    """Of the request."""
    found: FreeBlock
    """The block that another type had, as it was."""
    borrower: Migratetype
    owned: bool
    """Its pageblock is the borrower's now."""


@dataclass(slots=True, kw_only=True)
class Zone:
    """State of one zone. Pages and pfns in the kernel's page size."""

    number: int
    """Its place in the memory sample."""
    node: int
    zone_type: int
    era: Era
    free: ZoneFreeLists
    managed_pages: int
    watermarks: tuple[int, int, int]
    """min, low, high, without the boost."""
    lowmem_reserve: tuple[int, ...]
    watermark_boost: int
    nr_reserved_highatomic: int
    nr_free_highatomic: int
    nr_free: ZoneCounter
    nr_free_cma: ZoneCounter
    boost_factor: int
    """vm.watermark_boost_factor."""
    movable: set[int] = field(default_factory=set)
    """Allocated pages that compaction could move: on an LRU list, or a driver's movable page."""
    drift_marked: bool = True
    """Its counters' thresholds change with kswapd (percpu_drift_mark is set)."""
    isolated_pageblocks: int = 0
    """nr_isolate_pageblock."""
    isolated_from: dict[int, Migratetype] = field(default_factory=dict)
    """First page of each isolated pageblock → the type it had."""
    reclaim_active: bool = False
    """ZONE_RECLAIM_ACTIVE: kswapd balances the node."""
    below_high: bool = False
    """ZONE_BELOW_HIGH."""
    boosted: bool = False
    """ZONE_BOOSTED_WATERMARK."""
    cpu: int = 0
    """The processor that acts now; its counter differences change."""
    moves: list[tuple[ListMove, int, int]] = field(default_factory=list)
    """What happened under the lock, in order: kind, pfn, order. The caller empties it."""
    rotated: dict[tuple[int, Migratetype], frozenset[int]] = field(default_factory=dict)
    """Lists (order, type) that compaction may have turned, with those of the blocks on them then
    that nobody has taken since: their order is open."""
    heads_taken: tuple[int, ...] = ()
    """While ``rotated`` lists are used: the blocks that the kernel took, in order."""
    heads_borrowed: tuple[int, ...] = ()
    """The same of the blocks that fallbacks chose."""
    borrowed: int = 0
    """How many of them were used up."""
    rotations: int = 0
    """Lists turned as the kernel's choices told."""
    captures: dict[int, int] = field(default_factory=dict)
    """Block that is about to come back → the order at which compaction takes it: given."""
    extfrags: int = 0
    """Fallbacks so far (mm_page_alloc_extfrag)."""
    fallbacks: list[Extfrag] | None = None
    """They themselves, where somebody asks for them: in order."""
    policy: Policy = KERNEL
    """Rules that are not the kernel's, for a counterfactual."""
    coin: Random | None = None
    """Where ``policy`` shuffles: what chance decides."""

    def watermark(self, number: int) -> int:
        """A watermark with its boost. Kernel: include/linux/mmzone.h, ``wmark_pages``."""
        return self.watermarks[number] + self.watermark_boost

    def account(self, pages: int, migratetype: Migratetype) -> None:
        """Counts pages that came onto (or, negative, left) a list of a type.

        Kernel: mm/page_alloc.c, ``account_freepages`` (6.12 to 7.3),
            ``__mod_zone_freepage_state`` (6.1).
        """
        if migratetype is Migratetype.ISOLATE:
            return
        self.nr_free.add(self.cpu, pages)
        if migratetype is Migratetype.CMA:
            self.nr_free_cma.add(self.cpu, pages)
        elif migratetype is Migratetype.HIGHATOMIC:
            self.nr_free_highatomic += pages

    def take_smallest(self, order: int, migratetype: Migratetype) -> int | None:
        """Takes the head of the smallest sufficient list of this type.

        Kernel: mm/page_alloc.c, ``__rmqueue_smallest``; 6.1 (which leaves the accounting to its
            callers) to 7.3.
        """
        lists = self.free
        for larger in range(order, lists.max_order + 1):
            block = lists.head(larger, migratetype)
            if block is not None:
                if self.rotated:
                    taken = sum(move[0] is ListMove.LOCKED for move in self.moves)
                    block = self.turn(block, self.heads_taken[taken : taken + 1])
                lists.remove(block)
                expand(lists, block, order)
                if self.era.accounts_each_block:
                    self.account(-(1 << order), migratetype)
                self.moves.append((ListMove.LOCKED, block.pfn, order))
                return block.pfn
        return None

    def turn(self, head: FreeBlock, chosen: tuple[int, ...]) -> FreeBlock:
        """The head of a list, after turning the list where compaction may have done so.

        Compaction's quick searches move the part of a list that they have looked at to the other
        end. No event tells where they cut, nor what came to the list between two such cuts; the
        next block that the kernel took from among those that lay there does, and that is all that
        is taken from the answer.

        Kernel: mm/compaction.c, ``move_freelist_head`` and ``move_freelist_tail``; 6.1 to 7.3.
        """
        key = head.order, head.migratetype
        there = self.rotated.get(key)
        if there is None or not chosen or head.pfn not in there:
            return head
        block = self.free.block_at(chosen[0])
        if block is None or (block.order, block.migratetype) != key or block.pfn not in there:
            return head
        left = there - {block.pfn}
        if len(left) > 1:
            self.rotated[key] = left
        else:
            del self.rotated[key]
        if block != head:
            self.free.rotate(block.order, block.migratetype, block.pfn, there)
            self.rotations += 1
        return block

    def may_be_turned(self) -> None:
        """Compaction looks at the zone's movable lists: their order is open from now on."""
        for order in range(self.free.max_order + 1):
            pfns = self.free.pfns(order, Migratetype.MOVABLE)
            if len(pfns) > 1:
                self.rotated[order, Migratetype.MOVABLE] = frozenset(pfns)

    def fell_back(self, pfn: int, order: int, found: FreeBlock, borrower: Migratetype) -> None:
        """A fallback is traced.

        Kernel: include/trace/events/kmem.h, ``mm_page_alloc_extfrag``; 6.1 to 7.3.
        """
        self.extfrags += 1
        if self.fallbacks is None:
            return
        owned = self.free.pageblock_migratetype(pfn) is borrower
        self.fallbacks.append(
            Extfrag(pfn=pfn, order=order, found=found, borrower=borrower, owned=owned)
        )

    def set_threshold(self, page_shift: int, *, under_pressure: bool) -> None:
        """Kswapd wakes or goes to sleep: how far the counters may lag behind changes.

        Kernel: mm/vmstat.c, ``set_pgdat_percpu_threshold``; 6.1 to 7.3.
        """
        if not self.drift_marked:
            return
        cpus = list(self.nr_free.thresholds)
        if under_pressure:
            threshold = pressure_threshold(self.watermarks[1], self.watermarks[0], len(cpus))
        else:
            threshold = normal_threshold(self.managed_pages, len(cpus), page_shift)
        for counter in (self.nr_free, self.nr_free_cma):
            counter.thresholds.update(dict.fromkeys(cpus, threshold))

    def move_block(self, block: FreeBlock, migratetype: Migratetype) -> None:
        """Moves a free block to the tail of another type's list.

        Kernel: mm/page_alloc.c, ``move_to_free_list``; 6.1 to 7.3.
        """
        self.free.remove(block)
        moved = FreeBlock(pfn=block.pfn, order=block.order, migratetype=migratetype)
        self.free.add(moved, to_tail=True)
        if self.era.accounts_each_block:
            # The pageblock's type is what 6.12 and later count as the old one.
            self.account(-(1 << block.order), block.migratetype)
            self.account(1 << block.order, migratetype)

    def give_back(
        self,
        pfn: int,
        order: int,
        *,
        migratetype: Migratetype | None = None,
        to_tail: bool | None = None,
        captured_order: int | None = None,
    ) -> FreeBlock:
        """A block comes back to the lists, and coalesces.

        ``migratetype`` None stands for the pageblock's. See ``analysis.model.buddy.free_one`` for
        the other arguments and what is raised.

        Kernel: mm/page_alloc.c, ``__free_one_page``; 6.1 to 7.3.
        """
        if migratetype is None:
            migratetype = self.free.pageblock_migratetype(pfn)
        if self.captures:
            captured_order = self.captures.pop(pfn, captured_order)
        by_policy = to_tail is None and self.policy is not KERNEL
        if by_policy and self.policy.placement is not Placement.KERNEL:
            to_tail = self.policy.placement is Placement.TAIL
        block = free_one(
            self.free,
            pfn,
            order,
            era=self.era,
            migratetype=migratetype,
            to_tail=to_tail,
            captured_order=captured_order,
        )
        self.account(1 << order, migratetype)
        if captured_order is not None and block.order == captured_order:
            self.account(-(1 << block.order), migratetype)
        elif by_policy and self.coin is not None and block.order == self.free.max_order:
            # Kernel: mm/shuffle.h, is_shuffle_order, and mm/shuffle.c, shuffle_pick_tail.
            self.free.remove(block)
            self.free.add(block, to_tail=bool(self.coin.getrandbits(1)))
        return block

    def pageblock_start(self, pfn: int) -> int:
        """First page of the pageblock that holds the page."""
        return pfn & ~((1 << self.free.pageblock_order) - 1)

    def free_blocks_between(self, start_pfn: int, end_pfn: int) -> list[FreeBlock]:
        """The free blocks that begin in a range, by pfn."""
        found: list[FreeBlock] = []
        pfn = start_pfn
        while pfn < end_pfn:
            block = self.free.block_at(pfn)
            if block is None:
                pfn += 1
            else:
                found.append(block)
                pfn += 1 << block.order
        return found

    def move_pageblock(self, pfn: int, migratetype: Migratetype) -> int:
        """Moves the free blocks of a pageblock to another type; the pages moved, -1 for refused.

        Kernel: mm/page_alloc.c, ``move_freepages_block``; 6.1 leaves the pageblock's type to the
            caller and, at the edges of the zone, moves a part or nothing; 6.12 to 7.3 refuse
            there and set the type.
        """
        start = self.pageblock_start(pfn)
        end = start + (1 << self.free.pageblock_order)
        if not self.free.spans(end - 1):
            return -1 if self.era.accounts_each_block else 0
        if not self.free.spans(start):
            if self.era.accounts_each_block:
                return -1
            start = pfn
        moved = 0
        for block in self.free_blocks_between(start, end):
            self.move_block(block, migratetype)
            moved += 1 << block.order
        if self.era.accounts_each_block:
            self.free.set_pageblock_migratetype(pfn, 0, migratetype)
        return moved

    def movable_between(self, start_pfn: int, end_pfn: int) -> int:
        """Movable pages of a range that are not free. Kernel: ``prep_move_freepages_block``."""
        movable = self.movable
        return sum(1 for pfn in range(start_pfn, end_pfn) if pfn in movable)
