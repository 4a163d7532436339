"""Laws of free blocks and slabs: what lists hold against what counters say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pages_of_blocks(free_blocks: Sequence[int]) -> int:
    """Pages in free blocks, from their number by order.

    Kernel: mm/vmstat.c, ``frag_show_print``: ``free_area[order].nr_free``; 5.10, 6.1, 6.12, 7.2
        and 7.3.
    Ignores: nothing known.
    """
    return sum(blocks << order for order, blocks in enumerate(free_blocks))


def pages_on_lists(*, free_pages: int, unaccepted_pages: int, isolated_pages: int) -> int:
    """Pages on the free lists of a zone, from its counter of free pages.

    Isolated blocks are on lists and not counted as free; memory that the host has not handed out
    yet is counted and on no list. A CPU changes the counter through a private difference, so the
    lists may be ahead of it by one threshold per CPU.

    Kernel: mm/page_alloc.c, ``__mod_zone_freepage_state`` (``account_freepages`` from 6.10) and
        ``__free_unaccepted``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return free_pages - unaccepted_pages + isolated_pages


def blocks_by_type(counts: Iterable[Sequence[int]]) -> int:
    """Pages in the free lists of all migrate types, from their blocks by order: those of the zone.

    Kernel: mm/vmstat.c, ``pagetypeinfo_showfree_print``; mm/page_alloc.c, ``add_to_free_list``
        counts a block in ``nr_free`` and puts it on the list of one type; 5.10, 6.1, 6.12, 7.2 and
        7.3.
    Ignores: lists of 100,000 blocks and more, which are not counted to the end.
    """
    return sum(pages_of_blocks(row) for row in counts)


def slab_pages(slabs: Iterable[tuple[int, int]]) -> int:
    """Pages of slabs, from the number of slabs of each cache and the pages of one.

    For caches whose memory can be reclaimed this is nr_slab_reclaimable. The unreclaimable
    counter is larger: it has kmalloc() memory too large for slabs as well.

    Kernel: mm/slab.h (mm/slub.c later), ``account_slab`` and ``unaccount_slab``; mm/slab_common.c,
        ``cache_show``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: slabs of SLAB_TYPESAFE_BY_RCU caches that wait to be freed: counted, in no cache.
    """
    return sum(count * pages for count, pages in slabs)
