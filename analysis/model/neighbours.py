"""Free blocks side by side: which pairs are buddies, and which of those may stay apart."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.model.buddy import may_merge
from analysis.model.eras import Era
from analysis.model.freelist import FreeBlock, ZoneFreeLists

Pair = tuple[FreeBlock, FreeBlock]
"""Lower block first."""


def buddy_pfn(pfn: int, order: int) -> int:
    """First page of the one block that a block can merge with: one bit of its own flipped.

    Kernel: mm/internal.h, ``__find_buddy_pfn`` (``__find_buddy_index`` before 4.12); 5.10 to 7.3.
    Ignores: nothing known.
    """
    return pfn ^ (1 << order)


def equal_neighbours(zone: ZoneFreeLists) -> Iterator[Pair]:
    """Free blocks of one order that touch and are no buddies, by pfn: together they would not be
    aligned to their size.

    Kernel: as ``buddy_pfn``.
    Ignores: nothing known.
    """
    for block in sorted(zone.blocks(), key=lambda block: block.pfn):
        following = zone.block_at(block.pfn + (1 << block.order))
        if (
            following is not None
            and following.order == block.order < zone.max_order
            and following.pfn != buddy_pfn(block.pfn, block.order)
        ):
            yield block, following


def free_buddies(zone: ZoneFreeLists) -> Iterator[Pair]:
    """Pairs of buddies of one order that are both free, by pfn; of the largest order there are
    none, since nothing larger is there.

    Kernel: mm/internal.h, ``find_buddy_page_pfn`` and ``page_is_buddy``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    for block in sorted(zone.blocks(), key=lambda block: block.pfn):
        other = zone.block_at(buddy_pfn(block.pfn, block.order))
        if (
            other is not None
            and other.order == block.order < zone.max_order
            and block.pfn < other.pfn
        ):
            yield block, other


def must_merge(pair: Pair, zone: ZoneFreeLists, era: Era) -> bool:
    """Whether two free buddies cannot both stay on the lists.

    Below the order of a pageblock they always merge. From there on the types of their pageblocks
    are asked: equal ones merge, and different ones where both are mergeable.

    Kernel: mm/page_alloc.c, ``__free_one_page``; 5.10 to 7.3, differing as
        ``Era.merges_reserved`` says.
    Ignores: two CPUs at work in the same moment (the zone's lock); blocks that page reporting or
        compaction has taken aside.
    """
    order = pair[0].order
    if order < zone.pageblock_order:
        return True
    one, other = (zone.pageblock_migratetype(block.pfn) for block in pair)
    return one is other or may_merge(one, other, era)
