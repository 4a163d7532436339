"""Which order of steps the trace allows, where it leaves that open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.model.allocator.allocator import Choice, Request
from analysis.model.allocator.pcp import pcp_allowed
from analysis.model.freelist import Migratetype
from analysis.replay.misses import Prediction
from analysis.replay.model_state import ModelState
from analysis.replay.step import Kind, Step
from analysis.replay.steps import ListSteps, PageNotes, Steps

_SWAYS = frozenset(
    {
        Kind.FREE_DIRECT,
        Kind.ISOLATE,
        Kind.PUT_BACK,
        Kind.FOLD,
        Kind.BALANCE_BEGIN,
        Kind.BALANCE_END,
        Kind.BOOST_END,
        Kind.KSWAPD_WAKE,
        Kind.KSWAPD_SLEEP,
        Kind.THRESHOLD,
        Kind.UNRESERVE,
    }
)
"""Steps that change a zone's free pages, its watermarks, or whether its node is passed over."""
SEARCH = 512
"""How many allocations ahead an interrupted one is looked for."""


class OpenOrder:
    """A model in some state between steps, and what the trace leaves open about their order.

    Events are recorded before or after their effect, outside locks; an interrupt, another task or
    another CPU may come in between. Whether it did is found out where the kernel's page is
    another than the model's, by looking for an order that explains it.
    """

    def __init__(
        self, state: ModelState, migratetypes: Sequence[Migratetype], notes: PageNotes
    ) -> None:
        self.state = state
        self.result = Prediction()
        self._types = tuple(migratetypes)
        self._notes = notes
        self._steps: Steps = ListSteps(())
        self._early: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """By number of step: its turn was before, in the order that fits."""
        self._late: list[tuple[Step, bool]] = []
        """Frees put off, and whether it was for an interrupt, not another task."""

    def _request(self, step: Step) -> Request:
        node = step.node if step.node >= 0 else self.state.cpu_nodes[step.cpu]
        return Request(
            cpu=step.cpu,
            node=node,
            order=step.order,
            gfp=step.gfp,
            migratetype=self._types[step.migratetype],
            alloc_flags=step.alloc_flags if step.alloc_flags >= 0 else None,
            zone=self.state.zone_of(step.pfn),
        )

    def _zone_is_open(self, step: Step) -> bool:
        """Something that zones are chosen by changed while the step was under way.

        The kernel looks at watermarks, and at whether a node's kswapd waits, outside all locks.
        """
        for number in range(step.number - 1, max(step.number - SEARCH, -1), -1):
            other = self._steps[number]
            if other.effect <= step.after:
                return False
            touched = other.locked or other.drained or other.kind in _SWAYS
            if touched and (other.pid, other.level) != (step.pid, step.level):
                return True
        return False

    def _choose_zones_as(self, step: Step, refused: int | None) -> None:
        """Sets right what made the model take from another zone (None: from none).

        What zones are chosen by changes outside all locks: kswapd may have taken back a boost that
        came after it had begun, by the trace, may have queued up to be woken, or have been woken
        by a task that has to wait for it.

        Kernel: mm/vmscan.c, ``allow_direct_reclaim``, which wakes it without an event.
        """
        state, zone = self.state, self.state.zone_of(step.pfn)
        order = state.candidates(self._request(step))
        if zone in order and (refused is None or order.index(refused) > order.index(zone)):
            state.drop_boost(zone)
        node = state.zone_nodes[zone]
        state.set_kswapd(node, awake=False)
        if refused is not None and state.zone_nodes[refused] != node:
            state.set_kswapd(state.zone_nodes[refused], awake=True)

    def _reorder(self, step: Step, choice: Choice) -> Step | None:
        """Whose page the choice is in another order of contexts, which the trace allows.

        Four cases, each with the model set right for it. The page chosen was taken before by a
        context that was interrupted before it could tell; it is that context's. The pages above
        the kernel's were freed by contexts that interrupted this one after it had taken its page,
        or that interrupted the context that freed the kernel's page before it put that on its
        list; the kernel's is taken. Or the page chosen is one that an interrupted context had
        announced as freed, but not put on the list yet; it comes there when that goes on.
        """
        other = self._under_way(step, choice.pfn)
        if other is not None:
            self._early[other.number] = True
            return other
        if not step.locked and self._take_from_below(step, choice):
            return step
        free = self._freeing(step, choice.pfn)
        if free is not None:
            self._put_off(free, step)
        return free

    def _take_from_below(self, step: Step, choice: Choice) -> bool:
        """Takes a step's page, and puts that back which the model chose, if all that lies above it
        may have come to the list later."""
        state, place = self.state, (choice.zone, step.cpu, self._pindex(step))
        if not state.listed(*place, step.pfn):
            return False
        above = [choice.pfn, *state.above(*place, step.pfn)]
        if not all(
            self._freed_after(step, pfn) or self._freed_before(step.pfn, pfn) for pfn in above
        ):
            return False
        state.forget(step.pfn)
        self._push(*place, choice.pfn)
        state.count_free_later(choice.zone, step.cpu, len(above) << step.order)
        return True

    def _freeing(self, step: Step, pfn: int) -> Step | None:
        """The free of a page that this step may have come before, though it was announced."""
        number = self._notes.last_free(pfn)
        free = self._steps[number] if number >= 0 else None
        fits = (
            free is not None
            and free.kind is Kind.FREE
            and free.event < step.effect < free.before
            and (free.pid, free.level) != (step.pid, step.level)
        )
        return free if fits else None

    def _put_off(self, free: Step, step: Step) -> None:
        """A page that was taken off its list again is freed when the other context goes on."""
        self._late.append((free, step.pid == free.pid))
        self.result.late_frees += 1

    def _freed_after(self, step: Step, pfn: int) -> bool:
        """The page came to a per-cpu list after the step's context was seen last."""
        number = self._notes.last_free(pfn)
        return number >= 0 and self._steps[number].effect > step.after

    def _freed_before(self, pfn: int, other: int) -> bool:
        """The free of a page may have been put off until another page had been freed."""
        number, last = self._notes.last_free(other), self._notes.last_free(pfn)
        return number > last >= 0 and self._freeing(self._steps[number], pfn) is not None

    def _under_way(self, step: Step, pfn: int) -> Step | None:
        """The later allocation of a page whose context ran before this step and not since."""
        other = self._steps.next_allocation(pfn, step.event)
        fits = (
            other is not None
            and other.cpu == step.cpu
            and other.after < step.effect
            and not other.locked
            and (other.pid, other.level) != (step.pid, step.level)
        )
        return other if fits else None

    def _pindex(self, step: Step) -> int:
        kind = self._types[step.migratetype]
        order = step.order if self._on_pcp(step.order) else 0
        return self.state.pindex(kind if kind.mergeable else Migratetype.MOVABLE, order)

    def _on_pcp(self, order: int) -> bool:
        return pcp_allowed(order, self.state.huge_order)

    def _let_finish(self, step: Step) -> bool:
        """Lets an allocation that this step interrupted take its page, if it may have before.

        Its event comes later, but whether it had its page already the trace does not say. It is
        tried where the per-cpu list would overflow otherwise, and the kernel's did not.
        """
        state = self.state
        for other in self._steps.interrupted_by(step, SEARCH):
            if self._early[other.number]:
                continue
            state.show_heads(other.locked, other.borrowed)
            choice = state.allocate(self._request(other))
            locked, _ = state.moves()
            if choice is None or choice.pfn < 0 or locked:
                continue
            if choice.pfn == other.pfn or self._take_from_below(other, choice):
                self._early[other.number] = True
                return True
            self._push(choice.zone, other.cpu, self._pindex(other), choice.pfn)
        return False

    def _push(self, zone: int, cpu: int, pindex: int, pfn: int) -> None:
        """Puts a page at the head of a per-cpu list."""
        kind = self.state.pageblock_migratetype(pfn)
        self.state.push(zone, cpu, pindex, pfn, kind, to_tail=False)
