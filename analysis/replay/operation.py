"""What replay works on: one record for everything that happens to pages, in global order."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

OPERATION = np.dtype(
    [
        ("counter", "<i8"),  # place in the order of all events
        ("pfn", "<i8"),  # first page
        ("pid", "<i4"),
        ("cpu", "<i2"),
        ("op", "u1"),  # Op
        ("order", "i1"),
        ("migratetype", "i1"),  # of the pageblock as the kernel passed it, -1: not told
        ("event", "u1"),  # index in EVENTS: where the record comes from
        ("compacting", "u1"),  # 1: its task was compacting a zone at that moment
    ],
    align=True,
)
"""One operation. ``counter`` never falls from one record to the next."""


class Op(IntEnum):
    """What happens to the ``2**order`` pages from ``pfn`` on."""

    TAKE = 0
    """They leave the free lists."""
    GIVE = 1
    """They return to the free lists."""
    ALLOCATE = 2
    """Somebody got them from the allocator, from the free lists or a per-cpu list."""
    FREE = 3
    """Their owner gave them to the allocator, which may keep them on a per-cpu list."""
    FREE_AND_GIVE = 4
    """FREE of an order that has no per-cpu list: at once GIVE."""
    FALLBACK = 5
    """Another type's block served a request. TAKE, unless the TAKE just before it on the same
    CPU was of the same pages, or a captured block is meant that is on no list."""
    SPLIT = 6
    """A free block that spans pageblocks is listed anew in pieces of one pageblock."""
    GIVE_OR_SPLIT = 7
    """SPLIT when it is above the pageblock order and free as a whole, else GIVE."""
    ISOLATE = 8
    """The pageblock of ``pfn`` becomes isolated; free blocks stay free."""
    UNISOLATE = 9
    """It gets back the type that it had."""


EVENTS = (
    "mm_page_alloc_zone_locked",
    "mm_page_pcpu_drain",
    "mm_page_alloc",
    "mm_page_free",
    "mm_page_alloc_extfrag",
    "free_one_page",
    "split_large_buddy",
    "isolate_free_page",
    "putback_isolated_page",
    "split_free_page",
    "take_page_off_buddy",
    "put_page_back_buddy",
    "set_migratetype_isolate",
    "unset_migratetype_isolate",
    "start_isolate_page_range",
    "undo_isolate_page_range",
)
"""The events that operations are made of: tracepoints, then probes."""

DELAYED = frozenset({EVENTS.index("mm_page_free"), EVENTS.index("free_one_page")})
"""Events that are recorded before the zone lock is taken: a guest may be stopped after the event
and before its effect."""

LARGEST_FREE = 20
"""What alloc_contig_range made one folio of may be freed as such, beyond the largest order of a
free list. Kernel: mm/page_alloc.c, ``split_large_buddy``; 6.12 to 7.3."""
