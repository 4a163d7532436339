"""Where the compiled allocator keeps what: one array of numbers, and the meaning of each.

``Memory`` is one array of int64, called ``m`` throughout: numbers of the machine and its zones,
a row for every page and list head, then what takes more room in larger machines.

A page is known by its index from the first page of all zones, rounded down to the largest block.
Its row links it into a free list (as the first page of a block) and into a per-cpu list, and says
what is known of it; behind the pages' rows come those of the list heads. Lists are circular.

All numbers are int64: compiled code has one form of every function then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import types
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

_F = TypeVar("_F", bound=Callable[..., Any])

Memory: TypeAlias = NDArray[np.int64]
Number: TypeAlias = Any
"""What compiled functions return: an int64, for which Python's types have no name."""


wide: Callable[[Any], Any] = np.int64
"""Makes an int64 of a narrower number, so that functions have one form still."""

_unliteral: Callable[[Any], Any] = types.unliteral


class _OneForm(CPUDispatcher):
    """A compiled function that a call with a constant does not make anew for that constant."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template([_unliteral(arg) for arg in args], kws)


def compiled(function: _F) -> _F:
    """Makes a function that other compiled code can call, and nobody else.

    It is compiled when it is called from there for the first time; what is cached is the
    outermost caller.
    """
    options = {
        "nopython": True,
        "nogil": True,
        "error_model": "numpy",
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }
    return cast(_F, _OneForm(function, targetoptions=options))


# The machine.
FIRST_PFN, PAGES, CPUS, ZONES, NODES = 0, 1, 2, 3, 4
MAX_ORDER, PAGEBLOCK_ORDER, HUGE_ORDER, PINDEXES, BATCH_SCALE = 5, 6, 7, 8, 9
HAS_CMA, NODES_ONLINE, CAPTURES, ROTATED = 10, 11, 12, 13
"""``CAPTURES``: how many blocks are to be captured. ``ROTATED``: how many lists may be turned."""
BLOCKS_AT, PCPS_AT, ZONELISTS_AT, AWAKE_AT = 14, 15, 16, 17
SEEN_AT, HEADS_AT, MOVES_AT = 18, 19, 20
"""Where the parts behind the rows begin."""
MOVES = 21
"""How many there are."""
CHOSEN_ZONE, CHOSEN_ATTEMPT = 22, 23
MODE = 24
"""Where the last block of a bulk was found."""
FAULT = 25
"""1 after a block on a per-cpu list turned out to be free as well; the step broke off there."""
HEADS_TAKEN, HEADS_BORROWED = 26, 27
"""How many heads were told: pages that the kernel took, then pages that fallbacks chose."""
STOP_AFTER, REST_PAGES, REST_PINDEX = 28, 29, 30
"""Pages after which per-cpu lists stop giving back, 0 for never; what was left, and its list:
see ``analysis.model.allocator.pcp.Excess``."""
PCP_LOCKED = 31
"""1 while per-cpu lists are passed by."""
ZONE_ASKED = 62
"""The only zone that pages may be taken from, or -1."""
ERA_AT = 32
ERA_FIELDS = (
    "merges_reserved",
    "merge_retypes",
    "pcp_remembers_type",
    "pcp_tunes_itself",
    "accounts_each_block",
    "claims_then_steals",
    "splits_large_frees",
    "drains_in_batches",
    "high_order_drain_waits",
    "highatomic_skips_refill",
    "highatomic_fast",
    "highatomic_in_rmqueue",
    "highatomic_limit_aligned",
    "highatomic_counts_free",
    "boost_waived_for_high",
    "below_high_flag",
    "skips_awake_kswapd",
    "cma_bypasses_pcp",
)
(
    MERGES_RESERVED,
    MERGE_RETYPES,
    PCP_REMEMBERS_TYPE,
    PCP_TUNES_ITSELF,
    ACCOUNTS_EACH_BLOCK,
    CLAIMS_THEN_STEALS,
    SPLITS_LARGE_FREES,
    DRAINS_IN_BATCHES,
    HIGH_ORDER_DRAIN_WAITS,
    HIGHATOMIC_SKIPS_REFILL,
    HIGHATOMIC_FAST,
    HIGHATOMIC_IN_RMQUEUE,
    HIGHATOMIC_LIMIT_ALIGNED,
    HIGHATOMIC_COUNTS_FREE,
    BOOST_WAIVED_FOR_HIGH,
    BELOW_HIGH_FLAG,
    SKIPS_AWAKE_KSWAPD,
    CMA_BYPASSES_PCP,
) = range(ERA_AT, ERA_AT + len(ERA_FIELDS))

# A zone.
ZONES_AT, ZONE_WORDS, MOST_ZONES = 64, 64, 16
START, END, NODE, ZONE_TYPE, MANAGED = 0, 1, 2, 3, 4
WATERMARK, BOOST, BOOST_FACTOR = 5, 8, 9
"""Three watermarks from ``WATERMARK`` on."""
NR_FREE, NR_FREE_CMA, NR_FREE_HIGHATOMIC, NR_RESERVED_HIGHATOMIC = 10, 11, 12, 13
ISOLATED, RECLAIM_ACTIVE, BELOW_HIGH, BOOSTED = 14, 15, 16, 17
DRIFT_MARKED, CPU, EXTFRAGS, FREE_PAGES = 18, 19, 20, 21
LOCKED, BORROWED, ROTATIONS = 22, 23, 24
"""Blocks that left this zone's lists since moves were cleared; heads borrowed that were used."""
RESERVES, RESERVE, MOST_RESERVES = 25, 26, 8
"""Number of lowmem reserves, and the first of them."""
TURNED, ZONE_SEEN_AT = 34, 35
"""A bit by order: movable lists that compaction may have turned; and where its part of the
blocks seen begins."""

# A row.
ROWS_AT, ROW = ZONES_AT + ZONE_WORDS * MOST_ZONES, 8
NEXT, PREV, LIST = ROWS_AT, ROWS_AT + 1, ROWS_AT + 2
"""Of a free block, at its first page: links, and its list or -1. To be added to page * ROW."""
PCP_NEXT, PCP_PREV, PCP_LIST, PCP_TYPE = ROWS_AT + 3, ROWS_AT + 4, ROWS_AT + 5, ROWS_AT + 6
"""The same on a per-cpu list, and the type it goes back to."""
NOTES = ROWS_AT + 7
"""What else is known of the page."""
MOVABLE_NOTE = 1
"""Compaction could move it."""
SEEN_SHIFT = 1
"""A bit by order from here on: compaction saw it on the movable list of that order."""
CAPTURE_SHIFT, CAPTURE_MASK = 16, 31 << 16
"""The order at which compaction will take what it grows to, plus one; 0: none."""
HANDED_SHIFT, HANDED_MASK = 21, 31 << 21
"""The order of the block handed out here, plus one; 0: none. For callers."""
LOST_NOTE = 1 << 26
"""Something took it unseen; for callers."""
FREED_SHIFT = 27
"""The caller's number of the free that brought it to a per-cpu list, plus one; 0: none."""

# Free list: zone << 8 | order << 3 | migratetype. Per-cpu list: (zone * cpus + cpu) << 4 | pindex.
LIST_ZONE, LIST_ORDER = 8, 3
PCP_LISTS = 4

# A pageblock, from m[BLOCKS_AT] on.
BLOCK_WORDS = 4
BLOCK_TYPE, BLOCK_FREE, BLOCK_MOVABLE, BLOCK_ISOLATED_FROM = 0, 1, 2, 3
"""Migratetype; pages of the free blocks below the pageblock order in it; movable pages in it; the
type it had before it was isolated, plus one, or 0."""

# A processor's lists of one zone, from m[PCPS_AT] on.
PCP_WORDS = 16
COUNT, HIGH, HIGH_MIN, HIGH_MAX, BATCH = 0, 1, 2, 3, 4
FLAGS, FREE_FACTOR, ALLOC_FACTOR, FREE_COUNT = 5, 6, 7, 8
DIFFERENCE, THRESHOLD = 9, 11
"""Of ``NR_FREE``; the next word is that of ``NR_FREE_CMA``."""

MOST_HEADS = 1 << 16
"""Heads that can be told at a time."""

# A zonelist: number of zones, then the zones. By node, all nodes' first, then this node's only.
ZONELIST_WORDS = MOST_ZONES + 1

# A move: pfn << 8 | kind << 7 | order.
MOVE_PFN, MOVE_ORDER, MOVE_DRAINED = 8, 0x7F, 0x80
