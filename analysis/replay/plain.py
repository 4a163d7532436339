"""The replay in plain Python: what every operation does to the free lists, and nothing fast.

``analysis.replay.engine`` is the same, compiled, over dense arrays. This one is the text to read
and the judge of the other in property tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from analysis.replay.ledger import Kind
from analysis.replay.operation import LARGEST_FREE, Op

_GIVES = (Op.GIVE, Op.FREE_AND_GIVE, Op.GIVE_OR_SPLIT)


class Status(Enum):
    """What is known of a page."""

    UNKNOWN = "not seen since the window began, so somebody's"
    FREE = "on the free lists"
    OUT = "taken from them or freed: on a per-cpu list, isolated, or in somebody's hand"
    HELD = "handed out"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainOperation:
    """One record of ``OPERATION``."""

    op: Op
    pfn: int
    order: int
    migratetype: int = -1
    cpu: int = 0
    pid: int = 0
    compacting: bool = False

    @property
    def pfns(self) -> range:
        """The pages that it is about."""
        return range(self.pfn, self.pfn + (1 << self.order))


@dataclass(slots=True, kw_only=True)
class PlainReplay:
    """Free blocks and pages, changed by one operation after the other."""

    max_order: int
    pageblock_order: int
    pcp_types: int
    largest_give: int
    retypes: bool
    isolate: int
    zone_of: Mapping[int, int]
    """Zone of every page that has one."""
    blocks: dict[int, int]
    """First page of every free block → order."""
    block_type: dict[int, int]
    """Number of a pageblock (pfn >> pageblock_order) → migratetype."""
    true_type: dict[int, int] = field(default_factory=dict)
    """The same, but what an isolated pageblock was before."""
    status: dict[int, Status] = field(default_factory=dict)
    ledger: Counter[Kind] = field(default_factory=Counter)
    past: list[PlainOperation] = field(default_factory=list)
    """What was done; what is impossible was not."""
    last_taken: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.true_type = dict(self.block_type)
        for pfn, order in self.blocks.items():
            for page in range(pfn, pfn + (1 << order)):
                self.status[page] = Status.FREE

    def apply(self, operations: Iterable[PlainOperation]) -> None:
        """One operation after the other."""
        for operation in operations:
            if self._possible(operation):
                self._apply(operation)
                self.past.append(operation)
            else:
                self.ledger[Kind.IMPOSSIBLE] += 1

    def _apply(self, operation: PlainOperation) -> None:
        if operation.op is Op.ALLOCATE:
            self._allocate(operation)
        elif operation.op is Op.FREE:
            self._free(operation)
        elif operation.op in (Op.ISOLATE, Op.UNISOLATE):
            self._isolate(operation)
        elif self._is_split(operation):
            self._split(operation.pfns, operation.order)
        elif operation.op is not Op.SPLIT:
            self._move(operation)

    def _move(self, operation: PlainOperation) -> None:
        """Pages leave or join the free lists."""
        last = self.last_taken.pop(operation.cpu, None)
        if operation.op is Op.TAKE:
            self._take(operation.pfns)
            self.last_taken[operation.cpu] = operation.pfn
        elif operation.op in (Op.GIVE, Op.GIVE_OR_SPLIT):
            self._give(operation)
        elif operation.op is Op.FREE_AND_GIVE:
            if self._free(operation):
                self._give(operation)
            else:
                self._give_rest(operation.pfns)
        elif last != operation.pfn and self._all_free(operation.pfns):
            self._take(operation.pfns)

    def _is_split(self, operation: PlainOperation) -> bool:
        """Whether a free block is listed anew."""
        if operation.op is Op.GIVE_OR_SPLIT and operation.order <= self.pageblock_order:
            return False
        return operation.op in (Op.SPLIT, Op.GIVE_OR_SPLIT) and self._all_free(operation.pfns)

    def _isolate(self, operation: PlainOperation) -> None:
        block = self._block(operation.pfn)
        isolated = operation.op is Op.ISOLATE
        self.block_type[block] = self.isolate if isolated else self.true_type[block]

    def _take(self, pfns: range) -> None:
        if self._all_free(pfns):
            self._carve(pfns)
        else:
            self.ledger[Kind.TAKEN_NOT_FREE] += 1
            self._carve_free(pfns)
        self._mark(pfns, Status.OUT)

    def _give(self, operation: PlainOperation) -> None:
        found = self._statuses(operation.pfns)
        if Status.FREE in found:
            self.ledger[Kind.GIVEN_FREE] += 1
            self._give_rest(operation.pfns)
            return
        if Status.HELD in found:
            self.ledger[Kind.GIVEN_ALLOCATED] += 1
        self._mark(operation.pfns, Status.FREE)
        order = min(operation.order, self.largest_give)
        for pfn in operation.pfns[:: 1 << order]:
            migratetype = operation.migratetype
            if migratetype < 0:
                migratetype = self.block_type[self._block(pfn)]
            elif self.retypes and order == operation.order:
                for page in range(pfn, pfn + (1 << order)):
                    self._retype(self._block(page), migratetype)
            self._merge(pfn, order, migratetype)

    def _split(self, pfns: range, order: int) -> None:
        """Lists a free block anew, each pageblock for itself, as far as their types part them.

        Kernel: mm/page_alloc.c, ``split_free_page`` (6.0 to 6.9) and ``split_large_buddy`` (6.10
            to 7.3), when a range of pageblocks is isolated.
        """
        self._carve(pfns)
        for pfn in pfns[:: 1 << min(order, self.pageblock_order)]:
            migratetype = self.block_type[self._block(pfn)]
            self._merge(pfn, min(order, self.pageblock_order), migratetype)

    def _block(self, pfn: int) -> int:
        return pfn >> self.pageblock_order

    def _retype(self, block: int, migratetype: int) -> None:
        self.block_type[block] = migratetype
        if migratetype != self.isolate:
            self.true_type[block] = migratetype

    def _give_rest(self, pfns: range) -> None:
        for pfn in pfns:
            if self._status(pfn) is not Status.FREE:
                self.status[pfn] = Status.FREE
                self._merge(pfn, 0, self.block_type[self._block(pfn)])

    def _allocate(self, operation: PlainOperation) -> None:
        found = self._statuses(operation.pfns)
        if Status.FREE in found:
            if found == {Status.FREE} and operation.order > 0 and self._captured(operation):
                self.ledger[Kind.CAPTURED] += 1
            else:
                self.ledger[Kind.ALLOCATED_FREE] += 1
            self._carve_free(operation.pfns)
        elif Status.HELD in found:
            self.ledger[Kind.ALLOCATED_TWICE] += 1
        elif Status.UNKNOWN in found:
            self.ledger[Kind.ALLOCATED_UNSEEN] += 1
        self._mark(operation.pfns, Status.HELD)

    def _free(self, operation: PlainOperation) -> bool:
        found = self._statuses(operation.pfns)
        if Status.FREE in found:
            self.ledger[Kind.FREED_FREE] += 1
            for pfn in operation.pfns:
                if self._status(pfn) is not Status.FREE:
                    self.status[pfn] = Status.OUT
            return False
        if Status.UNKNOWN in found:
            self.ledger[Kind.FREED_UNSEEN] += 1
        elif Status.OUT in found:
            self.ledger[Kind.FREED_UNHANDED] += 1
        self._mark(operation.pfns, Status.OUT)
        return True

    def _captured(self, operation: PlainOperation) -> bool:
        """Whether the task that now gets these free pages freed the last of them, compacting.

        Kernel: mm/page_alloc.c, ``compaction_capture``: while a task compacts for itself, the
            first block of the wanted order that it (or an interrupt on top of it) completes by a
            free goes to it and never to a list. 5.1 to 7.3.
        """
        wanted = set(operation.pfns)
        for before in reversed(self.past):
            if before.op in _GIVES and wanted & set(before.pfns):
                return before.compacting and before.pid == operation.pid
        return False

    def _carve(self, pfns: range) -> None:
        """Takes free pages off the lists; what is left of a larger block stays in halves.

        Kernel: mm/page_alloc.c, ``expand`` and ``break_down_buddy_pages``.
        """
        pieces = self._holding(pfns)
        for pfn in pieces:
            order = self.blocks.pop(pfn)
            self._keep_outside(range(pfn, pfn + (1 << order)), pfns)

    def _keep_outside(self, block: range, pfns: range) -> None:
        """Lists the largest aligned parts of ``block`` that hold none of ``pfns``."""
        if block.stop <= pfns.start or pfns.stop <= block.start:
            self.blocks[block.start] = len(block).bit_length() - 1
        elif len(block) > 1 and not (pfns.start <= block.start and block.stop <= pfns.stop):
            half = len(block) // 2
            self._keep_outside(block[:half], pfns)
            self._keep_outside(block[half:], pfns)

    def _carve_free(self, pfns: range) -> None:
        for pfn in pfns:
            if self._status(pfn) is Status.FREE:
                self._carve(range(pfn, pfn + 1))

    def _holding(self, pfns: range) -> Sequence[int]:
        """First pages of the blocks that hold any of ``pfns``."""
        found = [pfn for pfn in pfns if pfn in self.blocks]
        for order in range(1, self.max_order + 1):
            start = pfns.start & ~((1 << order) - 1)
            held = self.blocks.get(start)
            if held is not None and start < pfns.start < start + (1 << held):
                return [start]
        return found

    def _merge(self, pfn: int, order: int, migratetype: int) -> None:
        """Lists a block, joined with its buddy while that is free as a whole.

        Kernel: mm/page_alloc.c, ``__free_one_page``; 6.1 to 7.3: from the pageblock order on,
            types without fallback (high-atomic, CMA, isolated) only join their like.
        """
        while order < self.max_order:
            buddy = pfn ^ (1 << order)
            if self.blocks.get(buddy) != order or self.zone_of[buddy] != self.zone_of[pfn]:
                break
            if order >= self.pageblock_order:
                other = self.block_type[self._block(buddy)]
                if migratetype != other and max(migratetype, other) >= self.pcp_types:
                    break
            del self.blocks[buddy]
            pfn &= buddy
            order += 1
        self.blocks[pfn] = order

    def _possible(self, operation: PlainOperation) -> bool:
        back = operation.op in _GIVES or operation.op is Op.FREE
        largest = LARGEST_FREE if back else self.max_order
        if not 0 <= operation.order <= largest or operation.pfn % (1 << operation.order):
            return False
        zone = self.zone_of.get(operation.pfn)
        return zone is not None and self.zone_of.get(operation.pfns[-1]) == zone

    def _status(self, pfn: int) -> Status:
        return self.status.get(pfn, Status.UNKNOWN)

    def _statuses(self, pfns: range) -> set[Status]:
        return {self._status(pfn) for pfn in pfns}

    def _all_free(self, pfns: range) -> bool:
        return self._statuses(pfns) == {Status.FREE}

    def _mark(self, pfns: range, status: Status) -> None:
        for pfn in pfns:
            self.status[pfn] = status
