"""The two fragmentation indexes of debugfs, from the free blocks of a zone."""

from __future__ import annotations

from collections.abc import Sequence

EXTFRAG_WOULD_SUCCEED = -1000
"""What the external fragmentation index says when a request of that order would not fail."""


def free_pages(free_blocks: Sequence[int]) -> int:
    """Pages in ``free_blocks[order]`` blocks of each order.

    Kernel: mm/vmstat.c, ``fill_contig_page_info``, ``free_pages``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return sum(blocks << order for order, blocks in enumerate(free_blocks))


def suitable_blocks(free_blocks: Sequence[int], order: int) -> int:
    """Blocks of exactly ``order`` that the free blocks of that order and above could give.

    Kernel: mm/vmstat.c, ``fill_contig_page_info``, ``free_blocks_suitable``; 5.10 to 7.3.
    Ignores: pageblock types: a block counts whoever may use it.
    """
    return sum(free_blocks[larger] << (larger - order) for larger in range(order, len(free_blocks)))


def unusable_index_milli(free_blocks: Sequence[int], order: int) -> int:
    """Unusable free space index for a request of ``order``, in thousandths (0 … 1000).

    The share of the zone's free memory that lies in blocks too small for the request. A zone
    without free memory counts as wholly unusable, 1000.

    Raises:
        IndexError: ``order`` is not one of the zone's orders.

    Kernel: mm/vmstat.c, ``unusable_free_index`` and ``fill_contig_page_info``; the same
        arithmetic in 5.10, 6.1, 6.12 and 7.2. CONFIG_COMPACTION and debugfs.
    Ignores: the 64-bit overflow of a zone above 2^54 free pages.
    """
    _require_order(free_blocks, order)
    free = free_pages(free_blocks)
    if free == 0:
        return 1000
    usable = suitable_blocks(free_blocks, order) << order
    return (free - usable) * 1000 // free


def extfrag_index_milli(free_blocks: Sequence[int], order: int) -> int:
    """External fragmentation index for a request of ``order``, in thousandths.

    -1000 when the request would not fail; else near 0 when memory is short and near 1000 when it
    is only scattered. A zone with no free block at all gives 0. The formula may dip below 0 in
    a zone with next to no free blocks (one free page, order 1: -500).

    Raises:
        IndexError: ``order`` is not one of the zone's orders.

    Kernel: mm/vmstat.c, ``__fragmentation_index``; the same arithmetic in 5.10, 6.1, 6.12 and
        7.2. CONFIG_COMPACTION and debugfs.
    Ignores: 2^32 or more free blocks in one zone (the kernel divides by a 32-bit number).
    """
    _require_order(free_blocks, order)
    blocks = sum(free_blocks)
    if blocks == 0:
        return 0
    if suitable_blocks(free_blocks, order):
        return EXTFRAG_WOULD_SUCCEED
    wanted_milli = free_pages(free_blocks) * 1000 // (1 << order)
    return 1000 - (1000 + wanted_milli) // blocks


def _require_order(free_blocks: Sequence[int], order: int) -> None:
    if not 0 <= order < len(free_blocks):
        raise IndexError(f"order {order} is outside the zone's orders 0 to {len(free_blocks) - 1}")
