"""Pageblocks set apart: what page isolation does to a zone's free lists."""

from __future__ import annotations

from analysis.model.allocator.zone import Zone
from analysis.model.freelist import Migratetype


def isolate_pageblock(zone: Zone, pfn: int) -> None:
    """Moves a pageblock's free pages to the Isolate lists, where no request finds them.

    Nothing happens to a pageblock that is isolated already.

    Kernel: mm/page_isolation.c, ``set_migratetype_isolate`` (6.1), with
        ``move_freepages_block_isolate`` (6.12) or ``pageblock_isolate_and_move_free_pages`` (7.2,
        7.3), which first cut a free block that is larger than the pageblock.
    Ignores: refusals because of unmovable pages.
    """
    lists = zone.free
    start = zone.pageblock_start(pfn)
    kind = lists.pageblock_migratetype(max(start, lists.start_pfn))
    if kind is Migratetype.ISOLATE:
        return
    zone.isolated_from[start] = kind
    zone.isolated_pageblocks += 1
    if not zone.era.accounts_each_block:
        lists.set_pageblock_migratetype(pfn, 0, Migratetype.ISOLATE)
        zone.account(-zone.move_pageblock(pfn, Migratetype.ISOLATE), kind)
    elif not _cut(zone, start, Migratetype.ISOLATE):
        zone.move_pageblock(pfn, Migratetype.ISOLATE)


def unisolate_pageblock(zone: Zone, pfn: int) -> None:
    """Gives a pageblock its type back, and its free pages to that type's lists.

    Kernel: mm/page_isolation.c, ``unset_migratetype_isolate``; 6.1 to 7.3. A free pageblock whose
        buddy is free is taken out and freed anew, so that both coalesce.
    Ignores: memory taken offline, whose pages the caller removes.
    """
    lists = zone.free
    start = zone.pageblock_start(pfn)
    kind = zone.isolated_from.pop(start, None)
    if kind is None:
        return
    zone.isolated_pageblocks -= 1
    block = lists.block_at(start)
    if block is not None and lists.pageblock_order <= block.order < lists.max_order:
        buddy = lists.block_at(start ^ (1 << block.order))
        if (
            buddy is not None
            and buddy.order == block.order
            and buddy.migratetype is not (Migratetype.ISOLATE)
        ):
            lists.remove(block)
            lists.set_pageblock_migratetype(start, block.order, kind)
            zone.give_back(start, block.order, migratetype=kind, to_tail=True)
            return
    if not zone.era.accounts_each_block:
        zone.account(zone.move_pageblock(pfn, kind), kind)
        lists.set_pageblock_migratetype(pfn, 0, kind)
    elif not _cut(zone, start, kind):
        zone.move_pageblock(pfn, kind)


def _cut(zone: Zone, start: int, kind: Migratetype) -> bool:
    """Cuts the free block above pageblock size that holds a pageblock, and retypes that one.

    Kernel: mm/page_alloc.c, ``split_large_buddy`` as page isolation uses it; 6.12 to 7.3.
    """
    lists = zone.free
    for order in range(lists.pageblock_order + 1, lists.max_order + 1):
        block = lists.block_at(start & ~((1 << order) - 1))
        if block is not None and block.order == order:
            lists.remove(block)
            zone.account(-(1 << order), block.migratetype)
            lists.set_pageblock_migratetype(start, 0, kind)
            for piece in range(block.pfn, block.pfn + (1 << order), 1 << lists.pageblock_order):
                zone.give_back(piece, lists.pageblock_order)
            return True
    return False
