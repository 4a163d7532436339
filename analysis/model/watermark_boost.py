"""Watermark boost: how far fragmentation may raise a zone's watermarks for a while."""

from __future__ import annotations

SMALL_ZONE_PAGEBLOCKS = 4
"""A zone that manages fewer pageblocks than these is never boosted."""


def max_boost_pages(
    *, high_pages: int, managed_pages: int, watermark_boost_factor: int, pageblock_pages: int
) -> int:
    """The largest boost of a zone in pages; 0: it is never boosted.

    ``high_pages`` is the high watermark without boost. The factor is in 1/10000 of it; a zone that
    is boosted at all may be so by one pageblock.

    Kernel: mm/page_alloc.c, ``boost_watermark``, the same arithmetic from 5.10 to 7.3. A kdump
        kernel boosts nothing in 6.12.117.
    Ignores: that kdump kernel.
    """
    if pageblock_pages * SMALL_ZONE_PAGEBLOCKS > managed_pages:
        return 0
    boost = high_pages * watermark_boost_factor // 10000
    return max(boost, pageblock_pages) if boost else 0


def possible_boosts(max_boost: int, pageblock_pages: int) -> frozenset[int]:
    """Every value that a zone's boost may have, in pages.

    Each fallback adds a pageblock, up to the largest boost; kswapd takes off what it saw when it
    began, so that what came since is left.

    Raises:
        ValueError: a pageblock without pages.

    Kernel: mm/page_alloc.c, ``boost_watermark``; mm/vmscan.c, ``balance_pgdat``; 5.10 to 7.3.
    Ignores: a factor that was written meanwhile.
    """
    if pageblock_pages < 1:
        raise ValueError(f"a pageblock of {pageblock_pages} pages")
    steps = range(0, max_boost + 1, pageblock_pages)
    return frozenset(steps) | {max_boost - step for step in steps}
