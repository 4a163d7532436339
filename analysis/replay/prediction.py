"""The model picks for itself: requests in, pages out, each held against the kernel's.

The model starts in the state of a memory sample and is told what was asked, never what was given.
What the kernel did is looked at after each choice. Where the two differ the miss is counted by
kind and the model is set right, so that one cause is one miss and not thousands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.allocator.gfp import Gfp
from analysis.model.allocator.pcp import PerCpuPages
from analysis.model.allocator.zone import ListMove, Zone
from analysis.model.freelist import FreeBlock, Migratetype
from analysis.model.stat_threshold import normal_threshold, pressure_threshold
from analysis.replay.requests import Kind, Step


class Miss(Enum):
    """Why a choice of the model was not the kernel's."""

    WRONG_ZONE = "another zone"
    UNSEEN = "taken unseen"
    """The page below the one the model took: something took that one without an event."""
    WRONG_LIST_ORDER = "same list, other place"
    """The page was further down the list that the model took from."""
    REFILL = "refill"
    """The model fetched other blocks from the zone's lists than the kernel."""
    BYPASSED = "per-cpu lists bypassed"
    """The kernel took from the zone's lists although the per-cpu list had pages: its lock was
    held, by the code that an interrupt interrupted or by another CPU's drain."""
    NOT_REFILLED = "refill unseen"
    """The kernel took a page without fetching any, where the model's list was empty."""
    NOT_FREE = "page not free in the model"
    NONE = "the model had nothing to give"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """One request at which model and kernel parted."""

    counter: int
    kind: Kind
    miss: Miss
    cpu: int
    level: int
    order: int
    migratetype: int
    kernel_pfn: int
    model_pfn: int
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Prediction:
    """How a window went."""

    requests: int = 0
    """Allocations the model had to choose for, pages of bulk requests not counted."""
    exact: int = 0
    """Those for which it chose the very page."""
    ambiguous: int = 0
    """Requests at which the trace leaves the order of two contexts on one CPU open: an interrupt
    or another task came between a page's leaving its list and the event that tells of it. Right
    in one order, they are counted here and nowhere else."""
    given: int = 0
    """Allocations that compaction served by capture: not chosen, taken as they are."""
    rotations: int = 0
    """Lists that compaction had turned, unseen, and that were turned as the kernel's next choice
    told."""
    late_frees: int = 0
    """Frees whose page came to its list only after an interrupt, which the trace leaves open."""
    bulk_pages: int = 0
    frees: int = 0
    refills: int = 0
    refills_exact: int = 0
    drains: int = 0
    drains_exact: int = 0
    unexplained: Counter[str] = field(default_factory=Counter)
    """What the model could not do as told: frees of free pages, isolation of blocks it lacks …"""
    misses: Counter[Miss] = field(default_factory=Counter)
    first_misses: list[Missed] = field(default_factory=list)
    first_divergence: int | None = None
    """Counter of the first refill or drain that was not the kernel's."""

    @property
    def match_pct(self) -> float:
        """Share of allocations with the very page, in percent; ambiguous ones are left out."""
        judged = self.requests - self.ambiguous
        return 100.0 * self.exact / judged if judged else 100.0


_LISTED = 200
_SEARCH = 512
"""How many allocations ahead an interrupted one is looked for."""


class Predictor:
    """Runs steps over an allocator model and compares as it goes."""

    def __init__(
        self,
        allocator: Allocator,
        migratetypes: Sequence[Migratetype],
        *,
        zone_pointers: Mapping[int, int] | None = None,
        node_pointers: Mapping[int, int] | None = None,
        page_shift: int = 12,
    ) -> None:
        self.allocator = allocator
        self.result = Prediction()
        self._types = tuple(migratetypes)
        self._zone_pointers = zone_pointers or {}
        self._node_pointers = node_pointers or {}
        self._page_shift = page_shift
        self._orders: dict[int, int] = {}
        """Order of blocks handed out in the window, by first page."""
        self._allocations: dict[int, list[Step]] = {}
        """Steps by the page they got, for ``_under_way`` alone."""
        self._early: set[int] = set()
        self._settled: set[int] = set()
        self._late: list[Step] = []
        self._last_free: dict[int, Step] = {}
        self._by_cpu: dict[int, list[Step]] = {}
        self._freed_at: dict[int, int] = {}
        """Counter at which a page came to a per-cpu list."""
        self._boosts: dict[int, list[tuple[Zone, int]]] = {}
        self._act = {
            Kind.ALLOCATE: self._allocate,
            Kind.CAPTURED: self._captured,
            Kind.BULK: self._bulk,
            Kind.FREE: self._free,
            Kind.FREE_RANGE: self._free_range,
            Kind.FREE_DIRECT: self._free_direct,
            Kind.ISOLATE: self._isolate,
            Kind.PUT_BACK: self._put_back,
            Kind.DRAIN_ALL: self._drain_known,
            Kind.DRAIN_BATCH: self._drain_known,
            Kind.DECAY: self._drain_known,
            Kind.UNKNOWN_DRAIN: self._drain_unknown,
            Kind.FOLD: lambda step: self.allocator.fold(step.cpu),
            Kind.ON_LRU: self._on_lru,
            Kind.COMPACTION: self._compaction,
            Kind.BALANCE_BEGIN: self._balance_begin,
            Kind.BALANCE_END: self._balance_end,
            Kind.KSWAPD_WAKE: lambda step: self.allocator.awake_kswapds.add(step.node),
            Kind.KSWAPD_SLEEP: lambda step: self.allocator.awake_kswapds.discard(step.node),
            Kind.UNRESERVE: self._unreserve,
            Kind.THRESHOLD: self._threshold,
            Kind.ISOLATE_PAGEBLOCK: self._isolate_pageblock,
            Kind.UNISOLATE_PAGEBLOCK: self._unisolate_pageblock,
        }

    def run(self, steps: Sequence[Step]) -> Prediction:
        """All steps; may be called again with later ones."""
        self._allocations.clear()
        self._by_cpu.clear()
        for step in steps:
            if step.kind is Kind.ALLOCATE:
                self._allocations.setdefault(step.pfn, []).append(step)
                self._by_cpu.setdefault(step.cpu, []).append(step)
        for by_cpu in self._by_cpu.values():
            by_cpu.sort(key=lambda step: step.event)
        for step in steps:
            if self._late:
                self._finish_late(step)
            self._act[step.kind](step)
        self.result.rotations = sum(zone.rotations for zone in self.allocator.zones)
        return self.result

    def _show_heads(self, step: Step) -> None:
        """Lets zones whose lists compaction may have turned see which heads the kernel found."""
        for zone in self.allocator.zones:
            if zone.rotated:
                zone.heads_taken = tuple(pfn for pfn, _ in step.locked)
                zone.heads_borrowed = tuple(step.borrowed)
                zone.borrowed = 0

    def _compaction(self, step: Step) -> None:
        """From now on the order of movable lists is open, until each was used once."""
        self.allocator.zone_of(step.pfn).may_be_turned()

    def _moves(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What the model just did under zone locks: blocks taken, blocks that came back."""
        locked: list[tuple[int, int]] = []
        drained: list[tuple[int, int]] = []
        for zone in self.allocator.zones:
            if zone.moves:
                for move, pfn, order in zone.moves:
                    (locked if move is ListMove.LOCKED else drained).append((pfn, order))
                zone.moves.clear()
        return locked, drained

    def _request(self, step: Step) -> Request:
        node = step.node if step.node >= 0 else self.allocator.cpu_nodes[step.cpu]
        return Request(
            cpu=step.cpu,
            node=node,
            order=step.order,
            gfp=step.gfp,
            migratetype=self._types[step.migratetype],
            alloc_flags=step.alloc_flags if step.alloc_flags >= 0 else None,
        )

    def _allocate(self, step: Step) -> None:
        result = self.result
        result.requests += 1
        self._orders[step.pfn] = step.order
        if id(step) in self._early:  # it was another's turn before, in the order that fits
            result.ambiguous += 1
            return
        self._show_heads(step)
        choice = self.allocator.allocate(self._request(step))
        locked, _ = self._moves()
        reordered = False
        while (
            choice is not None
            and choice.pfn != step.pfn
            and not locked
            and not step.locked
            and self._reorder(step, choice)
        ):
            reordered = True
            if id(step) in self._settled:
                choice = replace(choice, pfn=step.pfn)
                break
            choice = self.allocator.allocate(self._request(step))
            locked, _ = self._moves()
            if choice is None:
                break
        if step.locked:
            result.refills += 1
            result.refills_exact += locked == step.locked
        if choice is not None and choice.pfn == step.pfn:
            if reordered:
                result.ambiguous += 1
            else:
                result.exact += 1
            if locked == step.locked:
                return
        self._missed(step, None if choice is None else choice.pfn, locked)

    def _reorder(self, step: Step, choice: Choice) -> bool:
        """Whether another order of contexts, which the trace allows, makes the choice right.

        Three cases, each with the model set right for it. The page chosen was taken before by a
        context that was interrupted before it could tell; it is that context's. The pages above
        the kernel's were freed by contexts that interrupted this one after it had taken its page.
        Or the page chosen is one that an interrupted context had announced as freed, but not put
        on the list yet.
        """
        pcp = self._pcp_of(step, self.allocator.zones[choice.zone])
        pages = pcp.lists[self._pindex(pcp, step)]
        other = self._under_way(step, choice.pfn)
        if other is not None:
            self._early.add(id(other))
            return True
        if step.pfn in pages and self._freed_at.get(choice.pfn, -1) > step.after:
            above: list[int] = []
            for pfn in pages:
                if pfn == step.pfn:
                    break
                above.append(pfn)
            if all(self._freed_at.get(pfn, -1) > step.after for pfn in above):
                del pages[step.pfn]
                pages[choice.pfn] = pcp.zone.free.pageblock_migratetype(choice.pfn)
                pages.move_to_end(choice.pfn, last=False)
                self._settled.add(id(step))
                return True
        return False

    def _under_way(self, step: Step, pfn: int) -> Step | None:
        """The later allocation of a page whose context ran before this step and not since."""
        for other in self._allocations.get(pfn, ()):
            if other.event > step.event:
                fits = (
                    other.cpu == step.cpu
                    and other.after < step.effect
                    and not other.locked
                    and (other.pid, other.level) != (step.pid, step.level)
                )
                return other if fits else None
        return None

    def _missed(self, step: Step, chosen: int | None, locked: list[tuple[int, int]]) -> None:
        """Names the miss and sets the model right."""
        result = self.result
        if locked != step.locked and result.first_divergence is None:
            result.first_divergence = step.effect
        if chosen != step.pfn:
            miss = self._classify(step, chosen, locked)
            result.misses[miss] += 1
            if len(result.first_misses) < _LISTED:
                result.first_misses.append(
                    Missed(
                        counter=step.effect,
                        kind=step.kind,
                        miss=miss,
                        cpu=step.cpu,
                        level=step.level,
                        order=step.order,
                        migratetype=step.migratetype,
                        kernel_pfn=step.pfn,
                        model_pfn=-1 if chosen is None else chosen,
                        detail=f"fetched {len(locked)}, kernel {len(step.locked)}",
                    )
                )
        self._set_right(step, chosen, locked)

    def _classify(self, step: Step, chosen: int | None, locked: list[tuple[int, int]]) -> Miss:
        if chosen is None:
            return Miss.NONE
        mine = self.allocator.zone_of(chosen)
        theirs = self.allocator.zone_of(step.pfn)
        if mine is not theirs:
            return Miss.WRONG_ZONE
        pcp = self._pcp_of(step, theirs)
        if step.locked and not locked:
            return Miss.BYPASSED if len(step.locked) == 1 else Miss.REFILL
        if step.locked:
            return Miss.REFILL
        if locked:
            return Miss.NOT_REFILLED
        pages = pcp.lists[self._pindex(pcp, step)]
        if step.pfn in pages:
            first = next(iter(pages))
            return Miss.UNSEEN if first == step.pfn else Miss.WRONG_LIST_ORDER
        return Miss.NOT_FREE

    def _pcp_of(self, step: Step, zone: Zone) -> PerCpuPages:
        return self.allocator.pcps[zone.number, step.cpu]

    def _pindex(self, pcp: PerCpuPages, step: Step) -> int:
        kind = self._types[step.migratetype]
        listed = kind if kind < 3 else Migratetype.MOVABLE
        order = step.order if step.order <= 3 or step.order == pcp.huge_order else 0
        return pcp.pindex(listed, order)

    def _set_right(self, step: Step, chosen: int | None, locked: list[tuple[int, int]]) -> None:
        """The kernel's blocks and page instead of the model's.

        Blocks that the model fetched and the kernel did not go back to the zone's lists; those
        that the kernel fetched are cut out of them; a refilled list then holds what the kernel's
        holds. A page chosen wrongly goes back to the head of the list it came from.
        """
        allocator = self.allocator
        kernel = set(step.locked)
        extra = [block for block in locked if block not in kernel]
        mine = set(locked)
        for pfn, order in extra:
            self._forget(pfn, step.cpu)
            zone = allocator.zone_of(pfn)
            zone.cpu = step.cpu
            self._return_quietly(zone, pfn, order)
        for pfn, order in step.locked:
            if (pfn, order) not in mine:
                self._carve(pfn, order, step.cpu)
        zone = allocator.zone_of(step.pfn)
        on_pcp = step.order <= 3 or step.order == allocator.huge_order
        if on_pcp and len(step.locked) > 1:
            pcp = self._pcp_of(step, zone)
            pages = pcp.lists[self._pindex(pcp, step)]
            for pfn, order in step.locked:
                if pfn in pages:
                    del pages[pfn]
                    pcp.count -= 1 << order
            for pfn, order in step.locked:
                if pfn != step.pfn:
                    pages[pfn] = self._types[step.migratetype]
                    pcp.count += 1 << order
        if chosen is not None and chosen != step.pfn and (chosen, step.order) not in extra:
            home = allocator.zone_of(chosen)
            if on_pcp and (chosen, step.order) not in kernel:
                pcp = self._pcp_of(step, home)
                pages = pcp.lists[self._pindex(pcp, step)]
                pages[chosen] = home.free.pageblock_migratetype(chosen)
                pages.move_to_end(chosen, last=False)
                pcp.count += 1 << step.order
        if (step.pfn, step.order) not in kernel:
            if not self._forget(step.pfn, step.cpu) and chosen != step.pfn:
                self._carve(step.pfn, step.order, step.cpu)
        elif len(step.locked) == 1:
            self._forget(step.pfn, step.cpu)
        self._moves()

    def _return_quietly(self, zone: Zone, pfn: int, order: int) -> None:
        try:
            zone.give_back(pfn, order)
        except ValueError:
            self.result.unexplained["fetched page is free"] += 1

    def _forget(self, pfn: int, cpu: int) -> bool:
        """Takes a block off whatever per-cpu list holds it; whether one did."""
        try:
            zone = self.allocator.zone_of(pfn)
        except ValueError:
            return False
        ordered = [cpu, *(other for other in self.allocator.cpu_nodes if other != cpu)]
        for owner in ordered:
            pcp = self.allocator.pcps[zone.number, owner]
            for pindex, pages in enumerate(pcp.lists):
                if pfn in pages:
                    del pages[pfn]
                    pcp.count -= 1 << pcp.order(pindex)
                    return True
        return False

    def _carve(self, pfn: int, order: int, cpu: int) -> bool:
        """Cuts a block out of the zone's lists; whether it was free there."""
        zone = self.allocator.zone_of(pfn)
        zone.cpu = cpu
        for larger in range(order, zone.free.max_order + 1):
            start = pfn & ~((1 << larger) - 1)
            block = zone.free.block_at(start)
            if block is not None and block.order == larger:
                zone.free.remove(block)
                zone.account(-(1 << order), block.migratetype)
                _expand_around(zone, block, pfn, order)
                return True
        self.result.unexplained["page taken is not free"] += 1
        return False

    def _captured(self, step: Step) -> None:
        self.result.given += 1
        self._orders[step.pfn] = step.order

    def _bulk(self, step: Step) -> None:
        if step.count <= 0:
            return
        request = Request(
            cpu=step.cpu,
            node=step.node if step.node >= 0 else self.allocator.cpu_nodes[step.cpu],
            order=0,
            gfp=step.gfp,
            migratetype=_gfp_type(step.gfp),
        )
        self._show_heads(step)
        pages = self.allocator.allocate_bulk(request, step.count)
        locked, _ = self._moves()
        self.result.bulk_pages += len(pages)
        if step.locked:
            self.result.refills += 1
            self.result.refills_exact += locked == step.locked
        if locked != step.locked and self.result.first_divergence is None:
            self.result.first_divergence = step.effect
        if len(pages) != step.count:
            self.result.unexplained["bulk of another size"] += 1

    def _free(self, step: Step) -> None:
        self.result.frees += 1
        self._announce_captures(step)
        self._free_piece(step, step.pfn, step.order)
        self._check_drained(step)

    def _free_range(self, step: Step) -> None:
        self.result.frees += 1
        self._announce_captures(step)
        for pfn, order in step.pieces:
            self._free_piece(step, pfn, order)
        self._check_drained(step)

    def _free_piece(self, step: Step, pfn: int, order: int) -> None:
        self._orders.pop(pfn, None)
        try:
            zone = self.allocator.zone_of(pfn)
            if self._on_a_list(pfn):
                self.result.unexplained["freed page is on a per-cpu list"] += 1
                return
            if not step.drained:
                pcp = self.allocator.pcps[zone.number, step.cpu]
                while pcp.overfills(order) and self._let_finish(step):
                    pass
            self._freed_at[pfn] = step.effect
            self._last_free[pfn] = step
            self.allocator.free(step.cpu, pfn, order)
        except ValueError:
            self.result.unexplained["freed page is free"] += 1

    def _let_finish(self, step: Step) -> bool:
        """Lets an allocation that this step interrupted take its page, if it may have before.

        Its event comes later, but whether it had its page already the trace does not say. It is
        tried where the per-cpu list would overflow otherwise, and the kernel's did not.
        """
        for other in self._interrupted(step):
            pages = self._moves
            choice = self.allocator.allocate(self._request(other))
            locked, _ = pages()
            if choice is not None and choice.pfn == other.pfn and not locked:
                self._early.add(id(other))
                return True
            if choice is not None and not locked:
                pcp = self._pcp_of(other, self.allocator.zones[choice.zone])
                self._push(pcp, self._pindex(pcp, other), choice.pfn, other.order)
        return False

    def _interrupted(self, step: Step) -> Iterator[Step]:
        """Allocations on the step's CPU whose contexts ran before it and tell of them later."""
        by_cpu = self._by_cpu.get(step.cpu, [])
        at = bisect_right(by_cpu, step.event, key=lambda other: other.event)
        for other in by_cpu[at : at + _SEARCH]:
            if (
                other.after < step.effect
                and not other.locked
                and id(other) not in self._early
                and (other.pid, other.level) != (step.pid, step.level)
            ):
                yield other

    def _push(self, pcp: PerCpuPages, pindex: int, pfn: int, order: int) -> None:
        pages = pcp.lists[pindex]
        pages[pfn] = pcp.zone.free.pageblock_migratetype(pfn)
        pages.move_to_end(pfn, last=False)
        pcp.count += 1 << order

    def _free_direct(self, step: Step) -> None:
        self.result.frees += 1
        self._orders.pop(step.pfn, None)
        try:
            captured = step.captured.get(step.pfn)
            self.allocator.free_direct(step.cpu, step.pfn, step.order, captured_order=captured)
        except ValueError:
            self.result.unexplained["freed page is free"] += 1
        self._check_drained(step)

    def _on_a_list(self, pfn: int) -> bool:
        zone = self.allocator.zone_of(pfn)
        return any(
            pfn in pages
            for cpu in self.allocator.cpu_nodes
            for pages in self.allocator.pcps[zone.number, cpu].lists
        )

    def _announce_captures(self, step: Step) -> None:
        for pfn, order in step.captured.items():
            self.allocator.zone_of(pfn).captures[pfn] = order

    def _check_drained(self, step: Step) -> None:
        """Holds the blocks that came back against the kernel's, and sets the model right."""
        _, drained = self._moves()
        if step.drained:
            self.result.drains += 1
            self.result.drains_exact += drained == step.drained
        if drained == step.drained:
            return
        drained = self._without_late(step, drained)
        if drained == step.drained:
            self.result.drains_exact += bool(step.drained)
            return
        if self.result.first_divergence is None:
            self.result.first_divergence = step.effect
        kernel = set(step.drained)
        mine = set(drained)
        for pfn, order in drained:
            if (pfn, order) not in kernel and self._carve(pfn, order, step.cpu):
                zone = self.allocator.zone_of(pfn)
                pcp = self.allocator.pcps[zone.number, step.cpu]
                kind = zone.free.pageblock_migratetype(pfn)
                pages = pcp.lists[pcp.pindex(kind if kind < 3 else Migratetype.MOVABLE, order)]
                pages[pfn] = kind
                pcp.count += 1 << order
        for pfn, order in step.drained:
            if (pfn, order) not in mine:
                if not self._forget(pfn, step.cpu):
                    self.result.unexplained["drained page was on no list"] += 1
                zone = self.allocator.zone_of(pfn)
                zone.cpu = step.cpu
                self._return_quietly(zone, pfn, order)
        self._moves()

    def _without_late(self, step: Step, drained: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The drained blocks but for those whose free this step may have interrupted.

        Such a page was announced as freed and not on its list yet. It is put there when the
        interrupted context goes on.
        """
        kernel = set(step.drained)
        kept: list[tuple[int, int]] = []
        for pfn, order in drained:
            free = self._last_free.get(pfn)
            if (
                (pfn, order) not in kernel
                and free is not None
                and free.event < step.effect < free.before
                and (free.pid, free.level) != (step.pid, step.level)
                and self._carve(pfn, order, step.cpu)
            ):
                self._late.append(free)
                self.result.late_frees += 1
            else:
                kept.append((pfn, order))
        return kept

    def _finish_late(self, step: Step) -> None:
        """Puts pages on their lists whose free had been interrupted, once that may be over.

        An interrupt is over with the CPU's first event that is not its own; a task that was
        preempted goes on some time before its next event.
        """
        for free in list(self._late):
            interrupting = step.pid == free.pid and step.level > free.level
            if free.before <= step.effect or (step.cpu == free.cpu and not interrupting):
                self._late.remove(free)
                self._free_piece(free, free.pfn, free.order)
                self._moves()

    def _drain_known(self, step: Step) -> None:
        zone = self._zone_of_step(step)
        if zone is None:
            self._check_drained(step)
            return
        self._announce_captures(step)
        zone.cpu = step.cpu
        pcp = self.allocator.pcps[zone.number, step.count]
        if step.kind is Kind.DRAIN_ALL:
            pcp.drain_all()
        elif step.kind is Kind.DRAIN_BATCH:
            pcp.drain_batch()
        else:
            pcp.decay()
        self._check_drained(step)

    def _zone_of_step(self, step: Step) -> Zone | None:
        number = self._zone_pointers.get(step.pointer)
        if number is not None:
            return self.allocator.zones[number]
        if step.drained:
            return self.allocator.zone_of(step.drained[0][0])
        return None

    def _drain_unknown(self, step: Step) -> None:
        self.result.unexplained["drain without a cause"] += 1
        self._check_drained(step)

    def _isolate(self, step: Step) -> None:
        if not self.allocator.isolate_free(step.cpu, step.pfn, step.order):
            self.result.unexplained["isolated block is not free as such"] += 1
            self._carve(step.pfn, step.order, step.cpu)

    def _put_back(self, step: Step) -> None:
        try:
            self.allocator.put_back(step.cpu, step.pfn, step.order, self._types[step.migratetype])
        except ValueError:
            self.result.unexplained["block put back is free"] += 1

    def _on_lru(self, step: Step) -> None:
        order = self._orders.get(step.pfn, 0)
        zone = self.allocator.zone_of(step.pfn)
        if order == 0:
            zone.movable.add(step.pfn)
        else:
            zone.movable.update(range(step.pfn, step.pfn + (1 << order)))

    def _node_zones(self, step: Step) -> list[Zone]:
        node = self._node_pointers.get(step.pointer)
        zones = self.allocator.zones
        return [zone for zone in zones if node is None or zone.node == node]

    def _balance_begin(self, step: Step) -> None:
        zones = self._node_zones(step)
        self._boosts[step.pid] = [(zone, zone.watermark_boost) for zone in zones]
        for zone in zones:
            zone.reclaim_active = True

    def _balance_end(self, step: Step) -> None:
        for zone, boost in self._boosts.pop(step.pid, []):
            zone.watermark_boost -= min(zone.watermark_boost, boost)
            zone.reclaim_active = False

    def _unreserve(self, step: Step) -> None:
        for zone in self.allocator.zones:
            if zone.nr_reserved_highatomic and self.allocator.unreserve_highatomic(
                zone, Migratetype.MOVABLE, force=bool(step.count)
            ):
                return

    def _threshold(self, step: Step) -> None:
        """Kernel: mm/vmstat.c, ``set_pgdat_percpu_threshold``; 6.1 to 7.3."""
        for zone in self._node_zones(step):
            if not zone.drift_marked:
                continue
            cpus = list(zone.nr_free.thresholds)
            if step.count:
                low, least = zone.watermarks[1], zone.watermarks[0]
                threshold = pressure_threshold(low, least, len(cpus))
            else:
                threshold = normal_threshold(zone.managed_pages, len(cpus), self._page_shift)
            for counter in (zone.nr_free, zone.nr_free_cma):
                counter.thresholds.update(dict.fromkeys(cpus, threshold))

    def _isolate_pageblock(self, step: Step) -> None:
        zone = self.allocator.zone_of(step.pfn)
        zone.isolated_pageblocks += 1

    def _unisolate_pageblock(self, step: Step) -> None:
        zone = self.allocator.zone_of(step.pfn)
        zone.isolated_pageblocks -= 1


def _expand_around(zone: Zone, block: FreeBlock, pfn: int, order: int) -> None:
    """Gives back all of a block but the ``2**order`` pages from ``pfn`` on."""
    while block.order > order:
        half = block.order - 1
        low = FreeBlock(pfn=block.pfn, order=half, migratetype=block.migratetype)
        high = FreeBlock(pfn=block.pfn + (1 << half), order=half, migratetype=block.migratetype)
        keep, spare = (low, high) if pfn < high.pfn else (high, low)
        zone.free.add(spare, to_tail=False)
        block = keep


def _gfp_type(gfp: int) -> Migratetype:
    """Kernel: include/linux/gfp.h, ``gfp_migratetype``; 6.1 to 7.3."""
    if gfp & Gfp.MOVABLE:
        return Migratetype.MOVABLE
    if gfp & Gfp.RECLAIMABLE:
        return Migratetype.RECLAIMABLE
    return Migratetype.UNMOVABLE
