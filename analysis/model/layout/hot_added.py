"""ZONE_MOVABLE of memory that was added to the running machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from analysis.model.layout.pfn import Span
from analysis.model.layout.zone_limits import MOVABLE
from analysis.model.layout.zones import ZoneLayout


def added_blocks(
    blocks: Collection[int], block_bytes: int, at_boot: Sequence[Span]
) -> tuple[int, ...]:
    """The memory blocks, of those that are there, that no memory of the boot lies in.

    ``at_boot``: memory in bytes as the kernel found it when it started.

    Kernel: drivers/base/memory.c, ``memory_dev_init`` and ``create_memory_block_devices``: a block
        for each range of sections with memory, boot or added; 5.10 to 7.3.
    Ignores: blocks of which a part was there at boot; memory is not added to them.
    """
    return tuple(
        block
        for block in sorted(blocks)
        if not any(
            span.start < (block + 1) * block_bytes and block * block_bytes < span.end
            for span in at_boot
        )
    )


def movable_zone(node: int, blocks: Sequence[int], block_bytes: int, page_bytes: int) -> ZoneLayout:
    """ZONE_MOVABLE of a node that had none, after these blocks were onlined as ``online_movable``.

    It spans from the first page of the first block to the last of the last; every page of them is
    present, and managed too, since nothing of it was ever taken: struct pages for memory that is
    added come from memory that was there before.

    Kernel: mm/memory_hotplug.c, ``online_pages``, ``move_pfn_range_to_zone``,
        ``resize_zone_range`` and ``generic_online_page``; drivers/base/memory.c,
        ``memory_block_online``; 5.10 to 7.3.
    Ignores: ``memory_hotplug.memmap_on_memory``, which puts the struct pages into the memory itself
        (from 5.13, off by default); blocks that were taken offline again.
    """
    pages = block_bytes // page_bytes
    if not blocks:
        return ZoneLayout(node=node, zone=MOVABLE, start_pfn=0, spanned_pages=0, present_pages=0)
    start = min(blocks) * pages
    return ZoneLayout(
        node=node,
        zone=MOVABLE,
        start_pfn=start,
        spanned_pages=(max(blocks) + 1) * pages - start,
        present_pages=len(blocks) * pages,
    )
