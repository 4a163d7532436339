"""What prediction asks of an allocator model: the model's own steps, and ways to set it right.

``PlainState`` answers with the plain model, ``analysis.replay.compiled_state`` with the compiled
one. Zones go by number, per-cpu lists by (zone, cpu, pindex), pages by pfn.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Protocol

from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.allocator.isolation import isolate_pageblock, unisolate_pageblock
from analysis.model.allocator.pcp import Excess, PerCpuPages
from analysis.model.allocator.zone import ListMove, Zone
from analysis.model.buddy import is_free
from analysis.model.freelist import FreeBlock, Migratetype

Block = tuple[int, int]
"""First page and order."""


class ModelState(Protocol):
    """An allocator in some state. ``cpu`` is the processor that acts."""

    @property
    def huge_order(self) -> int | None: ...
    @property
    def cpu_nodes(self) -> dict[int, int]: ...
    @property
    def zone_nodes(self) -> Sequence[int]:
        """The node of every zone."""

    @property
    def rotations(self) -> int:
        """Lists turned so far as the kernel's choices told."""

    def zone_of(self, pfn: int) -> int:
        """Raises ValueError when no zone spans the page."""

    def pindex(self, migratetype: Migratetype, order: int) -> int: ...
    def pageblock_migratetype(self, pfn: int) -> Migratetype: ...

    def moves(self) -> tuple[list[Block], list[Block]]:
        """Blocks that left the zones' lists, and that came back from per-cpu lists, since this
        was asked last."""

    # What the kernel does.
    def show_heads(self, locked: Sequence[Block], borrowed: Sequence[int]) -> None:
        """What the kernel took for the next request, for lists that compaction may have turned."""

    def allocate(self, request: Request) -> Choice | None: ...
    def allocate_from(self, request: Request, zone: int) -> Choice | None:
        """From a zone of which it is known that it was served."""

    def allocate_bulk(self, request: Request, wanted: int) -> int:
        """The number of pages it got."""

    def free(self, cpu: int, pfn: int, order: int, stop_after: int = 0) -> Excess | None:
        """See ``Excess`` for ``stop_after`` and what is returned, here and below.

        Raises:
            ValueError: the pages are free, or in no zone.
        """

    def free_direct(self, cpu: int, pfn: int, order: int, captured_order: int | None) -> None:
        """Raises ValueError: the pages are free, or in no zone."""

    def isolate_free(self, cpu: int, pfn: int, order: int) -> bool: ...
    def put_back(self, cpu: int, pfn: int, order: int, migratetype: Migratetype) -> None:
        """Raises ValueError: the pages are free, or in no zone."""

    def drain_all(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None:
        """Raises ValueError: a page on the lists is free; so do the next three."""

    def drain_batch(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> None: ...
    def decay(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None: ...
    def give_rest(
        self, cpu: int, zone: int, owner: int, rest: Excess, stop_after: int
    ) -> Excess | None:
        """What was interrupted goes on."""

    def fold(self, cpu: int) -> None: ...
    def unreserve_highatomic(self, *, force: bool) -> bool: ...
    def mark_movable(self, pfn: int, order: int) -> None: ...
    def may_be_turned(self, pfn: int) -> None:
        """Compaction looks at the movable lists of the page's zone."""

    def set_threshold(self, zone: int, page_shift: int, *, under_pressure: bool) -> None: ...
    def set_kswapd(self, node: int, *, awake: bool) -> None: ...
    def count_isolated(self, pfn: int, pageblocks: int) -> None: ...
    def capture(self, pfn: int, order: int) -> None:
        """Compaction will take what this block becomes when it comes back."""

    def begin_balance(self, zone: int) -> int:
        """Kswapd begins with a zone; the boost at that time."""

    def end_balance(self, zone: int, boost: int) -> None: ...

    # What sets the model right.
    def overfills(self, zone: int, cpu: int, order: int) -> bool:
        """Whether a free of this order would give pages back to the zone."""

    def save(self) -> object:
        """The state as it is, for ``restore``."""

    def restore(self, saved: object) -> None: ...
    def uses_pcp(self, zone: int, cpu: int, pindex: int) -> bool:
        """Whether a request would take from a per-cpu list, or fetch several blocks for it."""

    def on_pcp(self, pfn: int) -> bool:
        """Whether a per-cpu list has the block; so for every other method below."""

    def listed(self, zone: int, cpu: int, pindex: int, pfn: int) -> bool: ...
    def above(self, zone: int, cpu: int, pindex: int, pfn: int) -> list[int]:
        """The blocks between the head of a list and the one that is on it, head first."""

    def candidates(self, request: Request) -> list[int]:
        """Zones that a request may use, in the order of the search."""

    def drop_boost(self, zone: int) -> None:
        """The zone's watermarks are not boosted."""

    def count_free_later(self, zone: int, cpu: int, pages: int) -> None:
        """So many pages were freed after the last request to the lists, not before it."""

    def push(
        self, zone: int, cpu: int, pindex: int, pfn: int, kind: Migratetype, *, to_tail: bool
    ) -> None:
        """Puts a block on a list, and takes it off the one that it is on."""

    def forget(self, pfn: int) -> bool:
        """Takes a block off whatever per-cpu list has it; whether one did."""

    def give_back(self, cpu: int, pfn: int, order: int) -> None:
        """Raises ValueError: the pages are free, or in no zone."""

    def carve(self, cpu: int, pfn: int, order: int) -> bool:
        """Cuts a block out of the zone's lists; whether it was free there."""

    def take_out(self, cpu: int, pfn: int, order: int) -> bool:
        """Takes pages off all lists, and blocks that share pages with them off per-cpu lists;
        whether there were any. Afterwards the pages may come to any list: they lie on none."""


def free_count_later(free_count: int, pages: int) -> int:
    """What a request makes of ``free_count`` if it comes before so many pages are freed.

    Kernel: mm/page_alloc.c, ``rmqueue_pcplist``, which halves it; 6.12 to 7.3. One page may be
        lost to rounding.
    """
    return max(2 * free_count - pages, 0) // 2 + pages if free_count else 0


class PlainState:
    """The plain model as ``ModelState``."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self.huge_order = allocator.huge_order
        self.cpu_nodes = dict(allocator.cpu_nodes)
        self.zone_nodes = tuple(zone.node for zone in allocator.zones)
        self._any_pcp = next(iter(allocator.pcps.values()))

    def zone_of(self, pfn: int) -> int:
        return self.allocator.zone_of(pfn).number

    def pindex(self, migratetype: Migratetype, order: int) -> int:
        return self._any_pcp.pindex(migratetype, order)

    def pageblock_migratetype(self, pfn: int) -> Migratetype:
        return self.allocator.zone_of(pfn).free.pageblock_migratetype(pfn)

    def moves(self) -> tuple[list[Block], list[Block]]:
        locked: list[Block] = []
        drained: list[Block] = []
        for zone in self.allocator.zones:
            if zone.moves:
                for move, pfn, order in zone.moves:
                    (locked if move is ListMove.LOCKED else drained).append((pfn, order))
                zone.moves.clear()
        return locked, drained

    @property
    def rotations(self) -> int:
        return sum(zone.rotations for zone in self.allocator.zones)

    def show_heads(self, locked: Sequence[Block], borrowed: Sequence[int]) -> None:
        for zone in self.allocator.zones:
            if zone.rotated:
                zone.heads_taken = tuple(pfn for pfn, _ in locked)
                zone.heads_borrowed = tuple(borrowed)
                zone.borrowed = 0

    def allocate(self, request: Request) -> Choice | None:
        return self.allocator.allocate(request)

    def allocate_from(self, request: Request, zone: int) -> Choice | None:
        return self.allocator.allocate_from(request, zone)

    def allocate_bulk(self, request: Request, wanted: int) -> int:
        return len(self.allocator.allocate_bulk(request, wanted))

    def free(self, cpu: int, pfn: int, order: int, stop_after: int = 0) -> Excess | None:
        return self.allocator.free(cpu, pfn, order, stop_after=stop_after)

    def free_direct(self, cpu: int, pfn: int, order: int, captured_order: int | None) -> None:
        self.allocator.free_direct(cpu, pfn, order, captured_order=captured_order)

    def isolate_free(self, cpu: int, pfn: int, order: int) -> bool:
        return self.allocator.isolate_free(cpu, pfn, order)

    def put_back(self, cpu: int, pfn: int, order: int, migratetype: Migratetype) -> None:
        self.allocator.put_back(cpu, pfn, order, migratetype)

    def drain_all(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None:
        return self._owned(cpu, zone, owner).drain_all(stop_after=stop_after)

    def drain_batch(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> None:  # noqa: ARG002
        # One batch is given back at once; the argument is that of the other drains.
        self._owned(cpu, zone, owner).drain_batch()

    def decay(self, cpu: int, zone: int, owner: int, stop_after: int = 0) -> Excess | None:
        return self._owned(cpu, zone, owner).decay(stop_after=stop_after)

    def give_rest(
        self, cpu: int, zone: int, owner: int, rest: Excess, stop_after: int
    ) -> Excess | None:
        return self._owned(cpu, zone, owner).give_rest(rest, stop_after=stop_after)

    def fold(self, cpu: int) -> None:
        self.allocator.fold(cpu)

    def unreserve_highatomic(self, *, force: bool) -> bool:
        return any(
            zone.nr_reserved_highatomic
            and self.allocator.unreserve_highatomic(zone, Migratetype.MOVABLE, force=force)
            for zone in self.allocator.zones
        )

    def mark_movable(self, pfn: int, order: int) -> None:
        zone = self.allocator.zone_of(pfn)
        if order == 0:
            zone.movable.add(pfn)
        else:
            zone.movable.update(range(pfn, pfn + (1 << order)))

    def may_be_turned(self, pfn: int) -> None:
        self.allocator.zone_of(pfn).may_be_turned()

    def set_threshold(self, zone: int, page_shift: int, *, under_pressure: bool) -> None:
        self.allocator.zones[zone].set_threshold(page_shift, under_pressure=under_pressure)

    def set_kswapd(self, node: int, *, awake: bool) -> None:
        if awake:
            self.allocator.awake_kswapds.add(node)
        else:
            self.allocator.awake_kswapds.discard(node)

    def count_isolated(self, pfn: int, pageblocks: int) -> None:
        zone = self.allocator.zone_of(pfn)
        if pageblocks > 0:
            isolate_pageblock(zone, pfn)
        else:
            unisolate_pageblock(zone, pfn)

    def capture(self, pfn: int, order: int) -> None:
        self.allocator.zone_of(pfn).captures[pfn] = order

    def begin_balance(self, zone: int) -> int:
        balanced = self.allocator.zones[zone]
        balanced.reclaim_active = True
        return balanced.watermark_boost

    def end_balance(self, zone: int, boost: int) -> None:
        balanced = self.allocator.zones[zone]
        balanced.watermark_boost -= min(balanced.watermark_boost, boost)
        balanced.reclaim_active = False

    def overfills(self, zone: int, cpu: int, order: int) -> bool:
        return self.allocator.pcps[zone, cpu].overfills(order)

    def save(self) -> object:
        return deepcopy(self.allocator)

    def restore(self, saved: object) -> None:
        assert isinstance(saved, Allocator)
        for field in fields(Allocator):
            setattr(self.allocator, field.name, getattr(saved, field.name))

    def uses_pcp(self, zone: int, cpu: int, pindex: int) -> bool:
        pcp = self.allocator.pcps[zone, cpu]
        return bool(pcp.lists[pindex]) or pcp.fetches_more(pcp.order(pindex))

    def on_pcp(self, pfn: int) -> bool:
        return self._holder(pfn) is not None

    def listed(self, zone: int, cpu: int, pindex: int, pfn: int) -> bool:
        return pfn in self.allocator.pcps[zone, cpu].lists[pindex]

    def above(self, zone: int, cpu: int, pindex: int, pfn: int) -> list[int]:
        found: list[int] = []
        for other in self.allocator.pcps[zone, cpu].lists[pindex]:
            if other == pfn:
                break
            found.append(other)
        return found

    def candidates(self, request: Request) -> list[int]:
        return [zone.number for zone in self.allocator.candidates(request)]

    def drop_boost(self, zone: int) -> None:
        self.allocator.zones[zone].watermark_boost = 0

    def count_free_later(self, zone: int, cpu: int, pages: int) -> None:
        pcp = self.allocator.pcps[zone, cpu]
        pcp.free_count = free_count_later(pcp.free_count, pages)

    def push(
        self, zone: int, cpu: int, pindex: int, pfn: int, kind: Migratetype, *, to_tail: bool
    ) -> None:
        self.forget(pfn)
        pcp = self.allocator.pcps[zone, cpu]
        pages = pcp.lists[pindex]
        pages[pfn] = kind
        pages.move_to_end(pfn, last=to_tail)
        pcp.count += 1 << pcp.order(pindex)

    def forget(self, pfn: int) -> bool:
        holder = self._holder(pfn)
        if holder is None:
            return False
        pcp, pindex = holder
        del pcp.lists[pindex][pfn]
        pcp.count -= 1 << pcp.order(pindex)
        return True

    def give_back(self, cpu: int, pfn: int, order: int) -> None:
        self._zone(cpu, pfn).give_back(pfn, order)

    def carve(self, cpu: int, pfn: int, order: int) -> bool:
        zone = self._zone(cpu, pfn)
        for larger in range(order, zone.free.max_order + 1):
            block = zone.free.block_at(pfn & ~((1 << larger) - 1))
            if block is not None and block.order == larger:
                zone.free.remove(block)
                zone.account(-(1 << order), block.migratetype)
                _expand_around(zone, block, pfn, order)
                return True
        return False

    def take_out(self, cpu: int, pfn: int, order: int) -> bool:
        zone = self._zone(cpu, pfn)
        found = False
        for owner in self.cpu_nodes:
            pcp = self.allocator.pcps[zone.number, owner]
            for pindex, pages in enumerate(pcp.lists):
                if pages:
                    size = 1 << pcp.order(pindex)
                    for block in range(pfn & -size, pfn + (1 << order), size):
                        found |= block in pages and self.forget(block)
        if self.carve(cpu, pfn, order):
            return True
        for page in range(pfn, pfn + (1 << order)):
            found |= is_free(zone.free, page, 0) and self.carve(cpu, page, 0)
        return found

    def _zone(self, cpu: int, pfn: int) -> Zone:
        zone = self.allocator.zone_of(pfn)
        zone.cpu = cpu
        return zone

    def _owned(self, cpu: int, zone: int, owner: int) -> PerCpuPages:
        self.allocator.zones[zone].cpu = cpu
        return self.allocator.pcps[zone, owner]

    def _holder(self, pfn: int) -> tuple[PerCpuPages, int] | None:
        zone = self.allocator.zone_of(pfn).number
        for cpu in self.cpu_nodes:
            pcp = self.allocator.pcps[zone, cpu]
            for pindex, pages in enumerate(pcp.lists):
                if pfn in pages:
                    return pcp, pindex
        return None


def _expand_around(zone: Zone, block: FreeBlock, pfn: int, order: int) -> None:
    """Gives back all of a block but the ``2**order`` pages from ``pfn`` on."""
    while block.order > order:
        half = block.order - 1
        low = FreeBlock(pfn=block.pfn, order=half, migratetype=block.migratetype)
        high = FreeBlock(pfn=block.pfn + (1 << half), order=half, migratetype=block.migratetype)
        keep, spare = (low, high) if pfn < high.pfn else (high, low)
        zone.free.add(spare, to_tail=False)
        block = keep
