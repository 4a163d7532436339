"""Windows that a plain allocator made, playing the kernel, with what a real trace leaves open.

Steps are what a reader would make of them. In a faithful window they tell everything; in others
some took effect before they could tell, lists were turned, pages come and go unseen, and in spoiled
ones steps are wrong, out of order or missing.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any

from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.allocator.pcp import Excess
from analysis.model.freelist import Migratetype
from analysis.replay.model_state import PlainState
from analysis.replay.step import Kind, Step
from tests.random_allocator import Outcome, Walk, random_allocator

TYPES = tuple(Migratetype)
ZONE_POINTER = 0xFFFF888000000000
NODE_POINTER = 0xFFFF888100000000
_DRAINS = {
    "drain_all": Kind.DRAIN_ALL,
    "drain_batch": Kind.DRAIN_BATCH,
    "decay": Kind.DECAY,
}
_UNSEEN = frozenset(
    {"push", "forget", "carve", "capture", "turn", "free_anything"}
    | {"set_threshold", "begin_balance", "end_balance", "set_right", "allocate_from"}
)
"""Actions of a walk that its steps do not tell, or not all of."""


class Trust(Enum):
    """How far steps can be trusted."""

    FAITHFUL = 0
    OPEN = 1
    SPOILED = 2


@dataclass(slots=True)
class RandomWindow:
    """``begin`` is the state before the first of ``steps``, ``kernel`` that after the last."""

    random: Random
    trust: Trust
    kernel: Allocator
    begin: Allocator
    steps: list[Step] = field(default_factory=list)
    failed: bool = False
    """A request got less than it wanted: no step tells of that, though it left traces."""
    whole: int = 0
    """How many actions went before it."""
    _told_later: list[Step] = field(default_factory=list)
    _rested: list[tuple[tuple[int, int, Excess], int]] = field(default_factory=list)
    """What some steps left to give back, and the pid that goes on with it."""

    @property
    def zone_pointers(self) -> dict[int, int]:
        return {ZONE_POINTER + number: number for number in range(len(self.kernel.zones))}

    @property
    def node_pointers(self) -> dict[int, int]:
        return {NODE_POINTER + zone.node: zone.node for zone in self.kernel.zones}

    def run(self, actions: int) -> None:
        """Lets the kernel do so many things."""
        walk = Walk(self.random, [PlainState(self.kernel)], self.kernel, as_told=False)
        if self.trust is Trust.FAITHFUL:
            walk.without, walk.largest_order = _UNSEEN, 3
        for number in range(actions):
            self._act(walk)
            if self.failed and self.trust is Trust.FAITHFUL:
                self.whole = number
                return
            if self._told_later and self.random.random() < 0.3:
                self._tell(self._told_later.pop(0))
        for step in self._told_later:
            self._tell(step)
        if self.trust is Trust.SPOILED:
            self._spoil()
        self._bound()

    def _act(self, walk: Walk) -> None:
        outcomes = walk.step()
        if not outcomes:
            return
        (name, outcome), call, rest = outcomes[0], walk.last[0], walk.last[1:]
        maker = getattr(self, f"_made_by_{name}", None)
        if maker is not None:
            maker(call, rest, outcome)

    def _step(self, kind: Kind, cpu: int) -> Step:
        level = self.random.choice([0, 0, 0, 0, 1, 2])
        pid = 100 * cpu + self.random.choice([1, 2]) if level == 0 else 100 * cpu
        return Step(kind, -1, -1, cpu, pid, level)

    def _tell(self, step: Step) -> None:
        """Gives a step its counters: now."""
        step.effect = step.event = 10 + 3 * len(self.steps)
        self.steps.append(step)

    def _made_by_allocate(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        choice, locked, _ = outcome
        if not isinstance(choice, Choice):
            self.failed = True
            return
        request: Request = rest[0]
        step = self._step(Kind.ALLOCATE, request.cpu)
        step.pfn, step.order, step.gfp = choice.pfn, request.order, request.gfp
        step.migratetype, step.locked = int(request.migratetype), list(locked)
        asked_here = request.node == self.kernel.cpu_nodes[request.cpu]
        step.node = -1 if asked_here and self.random.random() < 0.5 else request.node
        step.alloc_flags = -1 if request.alloc_flags is None else request.alloc_flags
        open_order = self.trust is not Trust.FAITHFUL and not locked
        if open_order and self.random.random() < 0.1:
            self._told_later.append(step)
        else:
            self._tell(step)

    def _made_by_allocate_bulk(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        pages, locked, _ = outcome
        request: Request = rest[0]
        step = self._step(Kind.BULK, request.cpu)
        step.gfp, step.node, step.order = request.gfp, request.node, rest[1]
        step.count, step.locked = int(str(pages)), list(locked)
        self.failed |= step.count < rest[1]
        self._tell(step)

    def _leave(self, step: Step, left: object, zone: int, owner: int) -> None:
        """A step that did not give back all; its context does nothing else before it goes on."""
        if isinstance(left, Excess):
            step.pid, step.level = 1000 + len(self.steps) + len(self._rested), 0
            step.stop_after = sum(1 << order for _, order in step.drained)
            self._rested.append(((zone, owner, left), step.pid))

    def _made_by_give_rest(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        cpu, zone, owner, left, _ = rest
        step = self._step(Kind.DRAIN_REST, cpu)
        number = [key for key, _ in self._rested].index((zone, owner, left))
        step.drained = list(outcome[2])
        self._leave(step, outcome[0], zone, owner)
        _, pid = self._rested.pop(number)
        step.pid, step.level = pid, 0
        if step.stop_after:
            self._rested[-1] = self._rested[-1][0], pid
        self._tell(step)

    def _made_by_free(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        cpu, pfn, order, _ = rest
        on_pcp = order <= 3 or order == self.kernel.huge_order
        step = self._step(Kind.FREE if on_pcp else Kind.FREE_DIRECT, cpu)
        step.pfn, step.order, step.drained = pfn, order, list(outcome[2])
        if on_pcp and order == 0 and self.random.random() < 0.1:
            step.kind, step.pieces = Kind.FREE_RANGE, [(pfn, order)]
        self._leave(step, outcome[0], self.kernel.zone_of(pfn).number, cpu)
        self._tell(step)

    def _made_by_free_direct(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        cpu, pfn, order, captured = rest
        step = self._step(Kind.FREE_DIRECT, cpu)
        step.pfn, step.order = pfn, order
        if captured is not None:
            step.captured[pfn] = captured
        if outcome[0] is None:
            self._tell(step)

    _made_by_free_anything = _made_by_free_direct

    def _made_by_isolate(self, _call: str, rest: list[Any], outcome: Outcome) -> None:
        step = self._step(Kind.ISOLATE, rest[0])
        step.pfn, step.order = rest[1:]
        if outcome[0]:
            self._tell(step)

    def _made_by_put_back(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.PUT_BACK, rest[0])
        step.pfn, step.order, step.migratetype = rest[1], rest[2], int(rest[3])
        self._tell(step)

    def _made_by_drain(self, call: str, rest: list[Any], outcome: Outcome) -> None:
        cpu, zone, owner, _ = rest
        step = self._step(_DRAINS[call], cpu)
        step.pointer, step.count = ZONE_POINTER + zone, owner
        step.drained = list(outcome[2])
        if step.drained and self.trust is not Trust.FAITHFUL:
            if self.random.random() < 0.1:
                step.pointer = 0
            if self.random.random() < 0.05:
                step.kind = Kind.UNKNOWN_DRAIN
        self._leave(step, outcome[0], zone, owner)
        self._tell(step)

    def _made_by_fold(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        self._tell(self._step(Kind.FOLD, rest[0]))

    def _made_by_unreserve(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.UNRESERVE, 0)
        step.count = int(rest[-1]["force"])
        self._tell(step)

    def _made_by_mark_movable(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.ON_LRU, 0)
        step.pfn = rest[0]
        self._tell(step)

    def _made_by_turn(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        """The kernel turns some lists, which no event tells."""
        zone = self.kernel.zone_of(rest[0])
        step = self._step(Kind.COMPACTION, 0)
        step.pfn = rest[0]
        self._tell(step)
        for order in range(zone.free.max_order + 1):
            pfns = zone.free.pfns(order, Migratetype.MOVABLE)
            if pfns and self.random.random() < 0.5:
                first = self.random.choice(pfns)
                zone.free.rotate(order, Migratetype.MOVABLE, first, pfns)
        zone.rotated.clear()

    def _made_by_kswapd(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        kind = Kind.KSWAPD_WAKE if rest[-1]["awake"] else Kind.KSWAPD_SLEEP
        step = self._step(kind, 0)
        step.node = rest[0]
        self._tell(step)

    def _made_by_isolate_pageblock(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        kind = Kind.ISOLATE_PAGEBLOCK if rest[1] > 0 else Kind.UNISOLATE_PAGEBLOCK
        step = self._step(kind, 0)
        step.pfn = rest[0]
        self._tell(step)

    def _made_by_set_threshold(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.THRESHOLD, 0)
        step.pointer = NODE_POINTER + self.kernel.zones[rest[0]].node
        step.count = int(rest[-1]["under_pressure"])
        self._tell(step)

    def _made_by_begin_balance(self, _call: str, rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.BALANCE_BEGIN, 0)
        step.pid, step.pointer = 77, NODE_POINTER + self.kernel.zones[rest[0]].node
        self._tell(step)

    def _made_by_end_balance(self, _call: str, _rest: list[Any], _outcome: Outcome) -> None:
        step = self._step(Kind.BALANCE_END, 0)
        step.pid, step.node = 77, self.random.choice([-1, 0])
        self._tell(step)

    def _spoil(self) -> None:
        """Loses steps, blocks and pages, swaps neighbours, names wrong pages."""
        random, steps = self.random, self.steps
        for _ in range(random.randrange(6)):
            if len(steps) < 4:
                return
            at = random.randrange(len(steps) - 1)
            step, what = steps[at], random.randrange(6)
            if what == 0:
                del steps[at]
            elif what == 1:
                steps[at : at + 2] = steps[at + 1], step
            elif what == 2 and step.locked:
                step.locked.pop(random.randrange(len(step.locked)))
            elif what == 3 and step.drained:
                step.drained.pop(random.randrange(len(step.drained)))
            elif what == 4 and step.kind in (Kind.ALLOCATE, Kind.FREE):
                pfn = random.choice(steps).pfn >> step.order << step.order
                if any(zone.free.spans(pfn) for zone in self.kernel.zones):
                    step.pfn = pfn
            elif what == 5 and step.kind is Kind.ALLOCATE:
                step.kind = Kind.CAPTURED
        steps[:] = [step for step in steps if step.pfn >= 0 or step.kind not in _WITH_PAGE]

    def _bound(self) -> None:
        """Counters anew, and between which events of its own context each step took effect."""
        last: dict[tuple[int, int], Step] = {}
        for number, step in enumerate(self.steps):
            step.effect = step.event = 10 + 3 * number
            context = step.pid, step.level
            if context in last:
                step.after, last[context].before = last[context].event, step.event
            last[context] = step


_WITH_PAGE = (Kind.ALLOCATE, Kind.FREE, Kind.FREE_DIRECT, Kind.FREE_RANGE, Kind.CAPTURED)


def random_window(seed: int, actions: int, trust: Trust) -> RandomWindow:
    """A window of about so many steps; a faithful one ends before a request gets too little."""
    random = Random(seed)
    kernel = random_allocator(random)
    window = RandomWindow(random, trust, kernel, deepcopy(kernel))
    window.run(actions)
    if window.failed and trust is Trust.FAITHFUL:
        return random_window(seed, window.whole, trust)
    return window
