"""The tracepoints that are recorded, and what each is for.

Names are ``system/event`` as below ``events/`` in tracefs. A kernel that does not have one is
asked all the same: the trace record then lists it as missing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracepoint:
    name: str
    why: str


ALLOCATOR = (
    Tracepoint(
        name="kmem/mm_page_alloc",
        why="every allocation: page, order, flags; pfn -1 for a failed one",
    ),
    Tracepoint(name="kmem/mm_page_free", why="every free but batched ones of order 0 (see next)"),
    Tracepoint(
        name="kmem/mm_page_free_batched", why="when a batch's page, announced before, is freed"
    ),
    Tracepoint(
        name="kmem/mm_page_alloc_zone_locked",
        why="a block leaves the free lists, for a request or for a per-cpu list's refill",
    ),
    Tracepoint(
        name="kmem/mm_page_pcpu_drain",
        why="a block goes back from a per-cpu list to the free lists",
    ),
    Tracepoint(name="kmem/mm_page_alloc_extfrag", why="fallback to another migratetype, stealing"),
    Tracepoint(
        name="kmem/mm_alloc_contig_migrate_range_info", why="alloc_contig_range at work (6.10+)"
    ),
    Tracepoint(name="kmem/mm_setup_per_zone_wmarks", why="new watermarks (7.x)"),
    Tracepoint(name="kmem/mm_setup_per_zone_lowmem_reserve", why="new reserves (7.x)"),
    Tracepoint(name="kmem/mm_calculate_totalreserve_pages", why="new reserves (7.x)"),
)
"""Without these there is no replay."""

USE = (
    Tracepoint(
        name="pagemap/mm_lru_insertion",
        why="what became of a page: lists that compaction and stealing count as movable",
    ),
)

COMPACTION = tuple(
    Tracepoint(name=f"compaction/mm_compaction_{name}", why=why)
    for name, why in (
        ("begin", "a zone's compaction begins: where its two scanners stand"),
        ("end", "and how it ended"),
        ("isolate_migratepages", "pages taken off the lists to be moved"),
        ("isolate_freepages", "free pages taken as targets (each one: probe isolate_free_page)"),
        ("fast_isolate_freepages", "the same from the free lists directly (6.4+)"),
        ("migratepages", "moved and failed"),
        ("try_to_compact_pages", "a request that compacts directly"),
        ("kcompactd_wake", "kcompactd starts"),
        ("kcompactd_sleep", "kcompactd rests"),
    )
)

RECLAIM = tuple(
    Tracepoint(name=f"vmscan/mm_vmscan_{name}", why=why)
    for name, why in (
        ("kswapd_wake", "kswapd begins: per-cpu counter thresholds shrink"),
        ("kswapd_sleep", "kswapd rests: they grow again"),
        ("wakeup_kswapd", "who woke it and for what order"),
        ("direct_reclaim_begin", "a request entered the slow path and reclaims"),
        ("direct_reclaim_end", "what that freed"),
        ("lru_isolate", "pages taken off the LRU in one go"),
        ("lru_shrink_inactive", "what a shrink of the inactive list gave"),
        ("lru_shrink_active", "what a shrink of the active list moved"),
        ("balance_pgdat_begin", "kswapd balances a node (7.x)"),
        ("balance_pgdat_end", "and is done (7.x)"),
    )
)

RARE = (
    Tracepoint(name="page_isolation/test_pages_isolated", why="a range was isolated, or not"),
    Tracepoint(name="cma/cma_alloc_start", why="a request for contiguous memory"),
    Tracepoint(name="cma/cma_alloc_finish", why="and its pages"),
    Tracepoint(name="cma/cma_alloc_busy_retry", why="a try that failed"),
    Tracepoint(name="cma/cma_release", why="contiguous memory given back"),
    Tracepoint(name="migrate/mm_migrate_pages", why="pages moved, by reason"),
    Tracepoint(name="migrate/mm_migrate_pages_start", why="and that moving began"),
    Tracepoint(name="oom/mark_victim", why="an OOM kill: what is freed from here on is a victim's"),
)

TRACEPOINTS = ALLOCATOR + USE + COMPACTION + RECLAIM + RARE

MARKER = "ftrace/print"
"""What a write to trace_marker becomes; always on, but its format is needed to read it."""

EVENTS = tuple(tracepoint.name for tracepoint in TRACEPOINTS)
"""What a session traces unless told otherwise."""
