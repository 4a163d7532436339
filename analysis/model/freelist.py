"""The free lists of one zone: state only, the rules are in ``analysis.model.buddy``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Migratetype(IntEnum):
    """Kinds of page blocks, in the kernel's order."""

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    CMA = 4
    ISOLATE = 5

    @property
    def mergeable(self) -> bool:
        """Whether its blocks may become another type's by fallback."""
        return self <= Migratetype.RECLAIMABLE


MIGRATETYPE_NAMES = {
    "Unmovable": Migratetype.UNMOVABLE,
    "Movable": Migratetype.MOVABLE,
    "Reclaimable": Migratetype.RECLAIMABLE,
    "HighAtomic": Migratetype.HIGHATOMIC,
    "CMA": Migratetype.CMA,
    "Isolate": Migratetype.ISOLATE,
}
"""Names as /proc/pagetypeinfo prints them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBlock:
    """``2**order`` free pages from ``pfn`` on, on the list of ``migratetype``."""

    pfn: int
    order: int
    migratetype: Migratetype


class ZoneFreeLists:
    """Free lists by order and migratetype, each in list order, and the type of every pageblock.

    A list is an ordered map of pfns, head first, so that taking the head, adding at either end
    and removing from the middle all cost the same small time. ``max_order`` is the largest order
    there is (10 where /proc/buddyinfo has eleven columns).
    """

    __slots__ = (
        "_blocks",
        "_lists",
        "_pageblocks",
        "end_pfn",
        "free_pages",
        "max_order",
        "pageblock_order",
        "start_pfn",
    )

    def __init__(
        self, *, start_pfn: int, spanned_pages: int, max_order: int, pageblock_order: int
    ) -> None:
        if not 0 <= pageblock_order <= max_order:
            raise ValueError(
                f"pageblock order {pageblock_order}: expected 0 to the largest order {max_order}"
            )
        self.start_pfn = start_pfn
        self.end_pfn = start_pfn + spanned_pages
        self.max_order = max_order
        self.pageblock_order = pageblock_order
        self.free_pages = 0
        self._lists: list[list[OrderedDict[int, None]]] = [
            [OrderedDict() for _ in Migratetype] for _ in range(max_order + 1)
        ]
        self._blocks: dict[int, FreeBlock] = {}
        first = start_pfn >> pageblock_order
        last = max(self.end_pfn - 1, start_pfn) >> pageblock_order
        self._pageblocks = bytearray([Migratetype.MOVABLE]) * (last - first + 1)

    def spans(self, pfn: int) -> bool:
        """Whether the zone's range holds the page."""
        return self.start_pfn <= pfn < self.end_pfn

    def head(self, order: int, migratetype: Migratetype) -> FreeBlock | None:
        """The first block of a list, or None."""
        pfns = self._lists[order][migratetype]
        return self._blocks[next(iter(pfns))] if pfns else None

    def block_at(self, pfn: int) -> FreeBlock | None:
        """The free block that begins at this very page, or None."""
        return self._blocks.get(pfn)

    def pfns(self, order: int, migratetype: Migratetype) -> tuple[int, ...]:
        """First pages of a list's blocks, head first."""
        return tuple(self._lists[order][migratetype])

    def blocks(self) -> Iterator[FreeBlock]:
        """Every free block, in no particular order."""
        return iter(self._blocks.values())

    def free_blocks(self) -> tuple[int, ...]:
        """Free blocks of each order, all types together, as /proc/buddyinfo counts them."""
        return tuple(sum(map(len, by_type)) for by_type in self._lists)

    def add(self, block: FreeBlock, *, to_tail: bool) -> None:
        """Puts a block, on no list so far, at the tail or the head of its list."""
        assert block.pfn not in self._blocks, f"{block} is free already"
        pfns = self._lists[block.order][block.migratetype]
        pfns[block.pfn] = None
        if not to_tail:
            pfns.move_to_end(block.pfn, last=False)
        self._blocks[block.pfn] = block
        self.free_pages += 1 << block.order

    def remove(self, block: FreeBlock) -> None:
        """Takes a block off its list."""
        del self._lists[block.order][block.migratetype][block.pfn]
        del self._blocks[block.pfn]
        self.free_pages -= 1 << block.order

    def rotate(
        self, order: int, migratetype: Migratetype, pfn: int, among: Collection[int]
    ) -> None:
        """Turns a list so that a block comes first of those in ``among``; others keep place."""
        pfns = self._lists[order][migratetype]
        turning = [other for other in pfns if other in among]
        at = turning.index(pfn)
        turned = iter(turning[at:] + turning[:at])
        order_now = [next(turned) if other in among else other for other in pfns]
        for other in order_now:
            pfns.move_to_end(other)

    def pageblock_migratetype(self, pfn: int) -> Migratetype:
        """Type of the pageblock that holds the page."""
        return Migratetype(self._pageblocks[self._pageblock(pfn)])

    def set_pageblock_migratetype(self, pfn: int, order: int, migratetype: Migratetype) -> None:
        """Sets the type of the pageblock, or of all pageblocks, of ``2**order`` pages."""
        first = self._pageblock(pfn)
        count = 1 << max(0, order - self.pageblock_order)
        self._pageblocks[first : first + count] = bytes([migratetype]) * count

    def check(self) -> None:
        """Asserts what must hold at every moment.

        Blocks are aligned to their size, lie in the zone and do not overlap; every block is on
        exactly the list that its record names; the page count is the sum of the blocks.
        """
        end_of_last = self.start_pfn
        total = 0
        for block in sorted(self._blocks.values(), key=lambda block: block.pfn):
            size = 1 << block.order
            assert block.pfn % size == 0, f"{block} is not aligned"
            assert block.pfn >= end_of_last, f"{block} overlaps the block before it"
            end_of_last = block.pfn + size
            assert block.pfn in self._lists[block.order][block.migratetype], f"{block} is unlisted"
            total += size
        assert end_of_last <= self.end_pfn, "a block ends outside the zone"
        assert total == self.free_pages, f"{total} pages on the lists, {self.free_pages} counted"
        listed = sum(self.free_blocks())
        assert listed == len(self._blocks), f"{listed} listed, {len(self._blocks)} recorded"

    def _pageblock(self, pfn: int) -> int:
        assert self.spans(pfn), f"page {pfn:#x} is outside the zone"
        return (pfn >> self.pageblock_order) - (self.start_pfn >> self.pageblock_order)
