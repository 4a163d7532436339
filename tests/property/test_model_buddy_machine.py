"""Any series of requests and releases keeps the buddy allocator's invariants."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from analysis.model.buddy import Ambiguous, free_one, rmqueue
from analysis.model.eras import era_of
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import Release

START_PFN, END_PFN, MAX_ORDER, PAGEBLOCK_ORDER = 5, 235, 6, 4
TYPES = (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)


def maximal_blocks(pages: set[int]) -> set[tuple[int, int]]:
    """The only way to cover the pages with aligned blocks that cannot be merged further."""
    blocks: set[tuple[int, int]] = set()
    left = set(pages)
    for order in range(MAX_ORDER, -1, -1):
        size = 1 << order
        for pfn in range(0, END_PFN, size):
            block = set(range(pfn, pfn + size))
            if block <= left:
                blocks.add((pfn, order))
                left -= block
    return blocks


class BuddyMachine(RuleBasedStateMachine):
    """Takes and gives back blocks of a zone whose span is aligned to nothing."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.zone = ZoneFreeLists(
            start_pfn=START_PFN,
            spanned_pages=END_PFN - START_PFN,
            max_order=MAX_ORDER,
            pageblock_order=PAGEBLOCK_ORDER,
        )
        self.free = set(range(START_PFN, END_PFN))
        for pfn, order in sorted(maximal_blocks(self.free)):
            block = FreeBlock(pfn=pfn, order=order, migratetype=Migratetype.MOVABLE)
            self.zone.add(block, to_tail=True)

    @rule(target=held, order=st.integers(0, MAX_ORDER), migratetype=st.sampled_from(TYPES))
    def take(self, order: int, migratetype: Migratetype) -> object:
        rows = self.zone.free_blocks()
        pfn = rmqueue(self.zone, order, migratetype)
        if pfn is None or isinstance(pfn, Ambiguous):
            assert self.zone.free_blocks() == rows
            return multiple()
        pages = set(range(pfn, pfn + (1 << order)))
        assert pages <= self.free
        self.free -= pages
        return pfn, order

    @rule(block=consumes(held), release=st.sampled_from([(5, 10), (6, 1), (6, 12)]))
    def give_back(self, block: tuple[int, int], release: tuple[int, int]) -> None:
        pfn, order = block
        free_one(self.zone, pfn, order, era=era_of(Release(*release)))
        self.free |= set(range(pfn, pfn + (1 << order)))

    @rule(order=st.integers(0, MAX_ORDER))
    def split_then_merge_is_the_identity(self, order: int) -> None:
        rows = self.zone.free_blocks()
        pfn = rmqueue(self.zone, order, Migratetype.UNMOVABLE)
        if isinstance(pfn, int):
            free_one(self.zone, pfn, order, era=era_of(Release(6, 1)))
        assert self.zone.free_blocks() == rows

    @invariant()
    def lists_are_sound(self) -> None:
        self.zone.check()

    @invariant()
    def pages_are_conserved(self) -> None:
        assert self.zone.free_pages == len(self.free)

    @invariant()
    def blocks_are_a_function_of_the_free_pages(self) -> None:
        blocks = {(block.pfn, block.order) for block in self.zone.blocks()}
        assert blocks == maximal_blocks(self.free)


TestBuddyMachine = BuddyMachine.TestCase
TestBuddyMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
