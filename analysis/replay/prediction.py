"""The model picks for itself: requests in, pages out, each held against the kernel's.

The model starts in the state of a memory sample and is told what was asked, never what was given.
What the kernel did is looked at after each choice. Where the two differ the miss is counted by
kind and the model is set right, so that one cause is one miss and not thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.allocator.gfp import Gfp, gfp_migratetype
from analysis.model.allocator.pcp import Excess
from analysis.model.freelist import Migratetype
from analysis.replay.kswapd import Kswapds
from analysis.replay.misses import Miss, Missed, Prediction
from analysis.replay.model_state import Block, ModelState, PlainState
from analysis.replay.open_order import OpenOrder
from analysis.replay.step import Kind, Step
from analysis.replay.steps import DictNotes, ListSteps, PageNotes, Steps

_LISTED = 200


class Predictor(OpenOrder):
    """Runs steps over an allocator model and compares as it goes."""

    def __init__(
        self,
        model: Allocator | ModelState,
        migratetypes: Sequence[Migratetype],
        *,
        zone_pointers: Mapping[int, int] | None = None,
        node_pointers: Mapping[int, int] | None = None,
        page_shift: int = 12,
        notes: PageNotes | None = None,
    ) -> None:
        state: ModelState = PlainState(model) if isinstance(model, Allocator) else model
        super().__init__(state, migratetypes, notes or DictNotes())
        self._zone_pointers = zone_pointers or {}
        self._kswapds = Kswapds(state, node_pointers or {}, page_shift)
        self._next = 0
        self._nodes = frozenset(self.state.zone_nodes)
        self._rests: dict[tuple[int, int], tuple[int, int, Excess]] = {}
        """By pid and level: zone and CPU of the lists that it has still to shrink."""
        self._act: Mapping[Kind, Callable[[Step], object]] = {
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
            Kind.DRAIN_REST: self._drain_rest,
            Kind.FOLD: lambda step: self.state.fold(step.cpu),
            Kind.ON_LRU: self._on_lru,
            Kind.COMPACTION: lambda step: self.state.may_be_turned(step.pfn),
            Kind.UNRESERVE: lambda step: self.state.unreserve_highatomic(force=bool(step.count)),
            Kind.ISOLATE_PAGEBLOCK: lambda step: self.state.count_isolated(step.pfn, 1),
            Kind.UNISOLATE_PAGEBLOCK: lambda step: self.state.count_isolated(step.pfn, -1),
            **self._kswapds.act,
        }

    def run(self, steps: Sequence[Step]) -> Prediction:
        """All steps; may be called again with later ones."""
        self.begin(ListSteps(steps))
        return self.advance()

    def begin(self, steps: Steps) -> None:
        """Goes on with these steps, the first first."""
        self._steps = steps
        self._next = 0
        self._early = np.zeros(len(steps), np.bool_)
        self._notes.forget_frees()

    def advance(self, counter: int | None = None) -> Prediction:
        """Does the steps that took effect up to a counter, or all that are left."""
        end = len(self._steps) if counter is None else self._steps.count_until(counter)
        self._do(end)
        self.result.rotations = self.state.rotations
        return self.result

    def _do(self, end: int) -> None:
        """Does the steps before this one that are left."""
        while self._next < end:
            self._take(self._steps[self._next])
            self._next += 1

    def _take(self, step: Step) -> None:
        if self._late:
            self._finish_late(step)
        self._act[step.kind](step)

    def _spread(self, step: Step) -> bool:
        """Page cache that will be written went to another node than the one asked.

        A node over its share of the dirty pages is passed over, which the trace does not show:
        where such a page lies is taken from the kernel.

        Kernel: mm/page_alloc.c, ``get_page_from_freelist`` with spread_dirty_pages; 6.1 to 7.3.
        """
        if not step.gfp & Gfp.WRITE or len(self._nodes) < 2:
            return False
        node = self.state.zone_nodes[self.state.zone_of(step.pfn)]
        if node == (step.node if step.node >= 0 else self.state.cpu_nodes[step.cpu]):
            return False
        step.node = node
        return True

    def _allocate(self, step: Step) -> None:
        self.result.requests += 1
        self._notes.hand_out(step.pfn, step.order)
        if self._early[step.number]:
            self.state.take_out(step.cpu, step.pfn, step.order)
            self.result.ambiguous += 1
            return
        if self._notes.is_lost(step.pfn):  # it was this one that nobody had seen take it
            self._notes.find(step.pfn)
            self.state.take_out(step.cpu, step.pfn, step.order)
            self.result.misses[Miss.UNSEEN] += 1
            return
        self.state.show_heads(step.locked, step.borrowed)
        rotations = self.state.rotations if step.locked else 0
        choice, locked, locked_out = self._choose(step)
        turned = bool(step.locked) and self.state.rotations > rotations
        self._judge_choice(step, choice, locked, turned=turned, ambiguous=locked_out)

    def _choose(self, step: Step) -> tuple[Choice | None, list[Block], bool]:
        """What the model takes, the blocks it fetches for it, and whether it had to be told that
        the per-cpu lists were locked.

        By another CPU that drains them, or by the code that an interrupt came upon, which no event
        tells. A kernel that took one block from the zone's lists either had no more, or did not
        get at per-cpu lists that would have done.

        Kernel: mm/page_alloc.c, ``rmqueue_pcplist``, which only tries to lock them; 6.1 to 7.3.
        """
        state, request = self.state, self._request(step)
        place = state.zone_of(step.pfn), step.cpu, self._pindex(step)
        alone = step.locked == [(step.pfn, step.order)] and self._on_pcp(step.order)
        if not (alone and state.uses_pcp(*place)):
            return state.allocate(request), state.moves()[0], False
        before = state.save()
        choice = state.allocate(request)
        locked, _ = state.moves()
        if choice is None or choice.pfn < 0 or (choice.pfn == step.pfn and locked == step.locked):
            return choice, locked, False
        state.restore(before)
        choice = state.allocate(replace(request, pcp_locked=True))
        return choice, state.moves()[0], True

    def _judge_choice(
        self,
        step: Step,
        choice: Choice | None,
        locked: list[Block],
        *,
        turned: bool,
        ambiguous: bool = False,
    ) -> None:
        """Holds the page that the model just chose, and what it fetched, against the kernel's.

        ``turned``: the kernel's answer told where a list began (``Zone.turn``), or on which node
        pages that will be dirty have room. ``ambiguous``: it told that per-cpu lists were locked.
        """
        result, state = self.result, self.state
        reordered = ambiguous
        miss: Miss | None = None
        zone = state.zone_of(step.pfn)
        if choice is not None and choice.pfn < 0 and self._spread(step):
            turned = True
            choice = state.allocate(self._request(step))
            locked, _ = state.moves()
        if choice is None or choice.pfn < 0:
            if self._zone_is_open(step):
                reordered = True
            else:
                miss = Miss.NONE if choice is None else Miss.WRONG_ZONE
                self._choose_zones_as(step, None if choice is None else choice.zone)
            choice = state.allocate_from(self._request(step), zone)
            locked, _ = state.moves()
        while (
            choice is not None
            and choice.pfn != step.pfn
            and not locked
            and (other := self._reorder(step, choice)) is not None
        ):
            reordered = True
            if other is step:
                choice = replace(choice, pfn=step.pfn)
                break
            choice = state.allocate_from(self._request(step), zone)
            locked, _ = state.moves()
        if step.locked:
            result.refills += 1
            result.refills_exact += locked == step.locked
        if choice is not None and choice.pfn == step.pfn and miss is None:
            if turned:
                result.turned += 1
                result.given += 1
            elif reordered or (step.count and not step.locked):
                result.ambiguous += 1
            else:
                result.exact += 1
            if locked == step.locked:
                return
        self._missed(step, None if choice is None else choice.pfn, locked, miss)

    def _missed(
        self, step: Step, chosen: int | None, locked: list[Block], miss: Miss | None
    ) -> None:
        """Names the miss, unless it has a name, and sets the model right."""
        result = self.result
        if locked != step.locked and result.first_divergence is None:
            result.first_divergence = step.effect
        if chosen != step.pfn or miss is not None:
            miss = miss or self._classify(step, chosen, locked)
            if miss is Miss.UNSEEN and chosen is not None:
                self._notes.lose(chosen)
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

    def _classify(self, step: Step, chosen: int | None, locked: list[Block]) -> Miss:
        state = self.state
        if chosen is None:
            return Miss.NONE
        zone = state.zone_of(step.pfn)
        if step.locked:
            return Miss.REFILL
        if locked:
            return Miss.NOT_REFILLED
        place = zone, step.cpu, self._pindex(step)
        if state.listed(*place, step.pfn):
            return Miss.WRONG_LIST_ORDER if state.above(*place, step.pfn) else Miss.UNSEEN
        return Miss.NOT_FREE

    def _set_right(self, step: Step, chosen: int | None, locked: list[Block]) -> None:
        """The kernel's blocks and page instead of the model's.

        Blocks that the model fetched and the kernel did not go back to the zone's lists; those
        that the kernel fetched are cut out of them; a refilled list then holds what the kernel's
        holds. A page chosen wrongly goes back to the head of the list it came from.
        """
        state = self.state
        kernel = set(step.locked)
        extra = [block for block in locked if block not in kernel]
        mine = set(locked)
        for pfn, order in extra:
            state.forget(pfn)
            self._return_quietly(step.cpu, pfn, order)
        for pfn, order in step.locked:
            if (pfn, order) not in mine:
                self._carve(pfn, order, step.cpu)
        on_pcp = self._on_pcp(step.order)
        zone = state.zone_of(step.pfn)
        if on_pcp and len(step.locked) > 1:
            kind, pindex = self._types[step.migratetype], self._pindex(step)
            listed = [pfn for pfn, order in step.locked if self._fits(step, zone, pfn, order)]
            for pfn in listed:
                state.forget(pfn)
            for pfn in listed:
                if pfn != step.pfn:
                    state.push(zone, step.cpu, pindex, pfn, kind, to_tail=True)
        wrong = chosen is not None and chosen != step.pfn and (chosen, step.order) not in extra
        if chosen is not None and self._notes.is_lost(chosen):
            pass
        elif chosen is not None and wrong and on_pcp and (chosen, step.order) not in kernel:
            self._push(state.zone_of(chosen), step.cpu, self._pindex(step), chosen)
        if (step.pfn, step.order) not in kernel:
            if not state.forget(step.pfn) and chosen != step.pfn:
                self._carve(step.pfn, step.order, step.cpu)
        elif len(step.locked) == 1:
            state.forget(step.pfn)
        state.take_out(step.cpu, step.pfn, step.order)
        state.moves()

    def _fits(self, step: Step, zone: int, pfn: int, order: int) -> bool:
        """Whether a block may be on the list that the step took its page from."""
        return order == step.order and self.state.zone_of(pfn) == zone

    def _return_quietly(self, cpu: int, pfn: int, order: int) -> None:
        self._notes.take_back(pfn, order)
        self._take_out(cpu, pfn, order, "fetched page is free")
        try:
            self.state.give_back(cpu, pfn, order)
        except ValueError:
            self.result.unexplained["fetched page is free"] += 1

    def _take_out(self, cpu: int, pfn: int, order: int, why: str) -> None:
        """Pages are somebody's, whatever the model thinks; counts if it thought otherwise."""
        if self.state.take_out(cpu, pfn, order):
            self.result.unexplained[why] += 1

    def _carve(self, pfn: int, order: int, cpu: int) -> bool:
        """Cuts a block out of the zone's lists; whether it was free there."""
        if self.state.carve(cpu, pfn, order):
            return True
        self.result.unexplained["page taken is not free"] += 1
        self.state.take_out(cpu, pfn, order)
        return False

    def _captured(self, step: Step) -> None:
        self.result.given += 1
        self._notes.hand_out(step.pfn, step.order)
        self._take_out(step.cpu, step.pfn, step.order, "captured block is free")

    def _bulk(self, step: Step) -> None:
        if step.count <= 0:
            return
        request = Request(
            cpu=step.cpu,
            node=step.node if step.node >= 0 else self.state.cpu_nodes[step.cpu],
            order=0,
            gfp=step.gfp,
            migratetype=gfp_migratetype(step.gfp),
        )
        self.state.show_heads(step.locked, step.borrowed)
        self._judge_bulk(step, self.state.allocate_bulk(request, step.count))

    def _judge_bulk(self, step: Step, pages: int) -> None:
        """Holds the number of pages that a bulk request just got, and its refill, against the
        kernel's."""
        locked, _ = self.state.moves()
        self.result.bulk_pages += pages
        if step.locked:
            self.result.refills += 1
            self.result.refills_exact += locked == step.locked
        if locked != step.locked and self.result.first_divergence is None:
            self.result.first_divergence = step.effect
        if pages != step.count:
            self.result.unexplained["bulk of another size"] += 1

    def _free(self, step: Step) -> None:
        self.result.frees += 1
        self._announce_captures(step)
        self._finish_free(step, [(step.pfn, step.order)])

    def _free_range(self, step: Step) -> None:
        self.result.frees += 1
        self._announce_captures(step)
        self._finish_free(step, step.pieces)

    def _finish_free(self, step: Step, pieces: Sequence[Block]) -> None:
        for pfn, order in pieces:
            self._free_piece(step, pfn, order)
        self._check_drained(step)

    def _free_piece(self, step: Step, pfn: int, order: int) -> None:
        held = order == 0 and self._notes.is_held(pfn)
        self._notes.take_back(pfn, order)
        self._notes.find(pfn)
        try:
            zone = self.state.zone_of(pfn)
            if self.state.on_pcp(pfn):
                self.result.unexplained["freed page is on a per-cpu list"] += 1
                return
            if not held:
                self._take_out(step.cpu, pfn, order, "freed page is free")
            isolated = self.state.pageblock_migratetype(pfn) is Migratetype.ISOLATE
            early = False
            if not step.drained and not isolated:
                while self.state.overfills(zone, step.cpu, order) and self._let_finish(step):
                    pass
                begins = self._kswapds.may_not_have_begun(zone, step)
                early = begins and self.state.overfills(zone, step.cpu, order)
            self._notes.note_free(pfn, step.number)
            if early:
                self.state.end_balance(zone, 0)
            try:
                rest = self.state.free(step.cpu, pfn, order, step.stop_after)
            finally:
                if early:
                    self.state.begin_balance(zone)
            self._leave(step, zone, step.cpu, rest)
        except ValueError:
            self.result.unexplained["freed page is free"] += 1

    def _leave(self, step: Step, zone: int, owner: int, rest: Excess | None) -> None:
        """Keeps what an interrupted step has still to give back."""
        if rest is None:
            self._rests.pop((step.pid, step.level), None)
        else:
            self._rests[step.pid, step.level] = zone, owner, rest

    def _drain_rest(self, step: Step) -> None:
        self._announce_captures(step)
        left = self._rests.pop((step.pid, step.level), None)
        if left is not None:
            zone, owner, rest = left
            try:
                rest_left = self.state.give_rest(step.cpu, zone, owner, rest, step.stop_after)
                self._leave(step, zone, owner, rest_left)
            except ValueError:
                self.result.unexplained["drained page is free"] += 1
        self._check_drained(step)

    def _free_direct(self, step: Step) -> None:
        self.result.frees += 1
        held = step.order == 0 and self._notes.is_held(step.pfn)
        self._notes.take_back(step.pfn, step.order)
        try:
            if not held:
                self._take_out(step.cpu, step.pfn, step.order, "freed page is free")
            captured = step.captured.get(step.pfn)
            self.state.free_direct(step.cpu, step.pfn, step.order, captured)
        except ValueError:
            self.result.unexplained["freed page is free"] += 1
        self._check_drained(step)

    def _announce_captures(self, step: Step) -> None:
        for pfn, order in step.captured.items():
            self.state.capture(pfn, order)

    def _check_drained(self, step: Step) -> None:
        """Holds the blocks that came back against the kernel's, and sets the model right."""
        state = self.state
        _, drained = state.moves()
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
        # Lists are drained from the tail: what came out first was the last.
        for pfn, order in reversed(drained):
            if (pfn, order) not in kernel and self._carve(pfn, order, step.cpu):
                kind = state.pageblock_migratetype(pfn)
                pindex = state.pindex(kind if kind.mergeable else Migratetype.MOVABLE, order)
                state.push(state.zone_of(pfn), step.cpu, pindex, pfn, kind, to_tail=True)
        for pfn, order in step.drained:
            if (pfn, order) not in mine:
                if not state.forget(pfn):
                    self.result.unexplained["drained page was on no list"] += 1
                self._return_quietly(step.cpu, pfn, order)
        state.moves()

    def _without_late(self, step: Step, drained: list[Block]) -> list[Block]:
        """The drained blocks but for those whose free this step may have interrupted.

        Such a page was announced as freed and not on its list yet. It is put there when the
        interrupted context goes on.
        """
        kernel = set(step.drained)
        kept: list[Block] = []
        for pfn, order in drained:
            free = self._freeing(step, pfn) if (pfn, order) not in kernel else None
            if free is not None and self._carve(pfn, order, step.cpu):
                self._put_off(free, step)
            else:
                kept.append((pfn, order))
        return kept

    def _finish_late(self, step: Step) -> None:
        """Puts pages on their lists whose free had been interrupted, once that may be over.

        An interrupt is over with the CPU's first event that is not its own; a task that was
        preempted goes on some time before its next event.
        """
        for free, by_interrupt in list(self._late):
            interrupting = step.pid == free.pid and step.level > free.level
            over = by_interrupt and step.cpu == free.cpu and not interrupting
            if over or free.before <= step.effect:
                self._late.remove((free, by_interrupt))
                self._free_piece(free, free.pfn, free.order)
                self.state.moves()

    def _drain_known(self, step: Step) -> None:
        zone = self._zone_of_step(step)
        if zone is not None:
            self._announce_captures(step)
            drain = {
                Kind.DRAIN_ALL: self.state.drain_all,
                Kind.DRAIN_BATCH: self.state.drain_batch,
                Kind.DECAY: self.state.decay,
            }[step.kind]
            try:
                left = drain(step.cpu, zone, step.count, step.stop_after)
                self._leave(step, zone, step.count, left)
            except ValueError:
                self.result.unexplained["drained page is free"] += 1
        self._check_drained(step)

    def _zone_of_step(self, step: Step) -> int | None:
        number = self._zone_pointers.get(step.pointer)
        if number is None and step.drained:
            return self.state.zone_of(step.drained[0][0])
        return number

    def _drain_unknown(self, step: Step) -> None:
        self.result.unexplained["drain without a cause"] += 1
        self._check_drained(step)

    def _isolate(self, step: Step) -> None:
        if not self.state.isolate_free(step.cpu, step.pfn, step.order):
            self.result.unexplained["isolated block is not free as such"] += 1
            self._carve(step.pfn, step.order, step.cpu)

    def _put_back(self, step: Step) -> None:
        self._notes.take_back(step.pfn, step.order)
        self._take_out(step.cpu, step.pfn, step.order, "block put back is free")
        try:
            self.state.put_back(step.cpu, step.pfn, step.order, self._types[step.migratetype])
        except ValueError:
            self.result.unexplained["block put back is free"] += 1

    def _on_lru(self, step: Step) -> None:
        held = self._notes.is_held(step.pfn)
        self.state.mark_movable(step.pfn, 0 if held else self._notes.order(step.pfn) or step.order)
