"""The kprobes that show what no tracepoint does, as data.

A probe stands for something that happens (``isolate_free_page``), not for a function: functions
are renamed and merged from release to release, so each probe lists the places where the releases
do it, and the first that a kernel has is used. Arguments are named in the order of the C
function and fetched by position, typed as in C; pointers are left as they are (``x64``), for the
reader of the trace knows from a memory sample which zone or page they are.

Groups:

``exact``
    Blocks that enter or leave the free lists past the tracepoints, or change lists there. A
    replay without these is not exact.
``predict``
    What decides when per-cpu lists refill and drain, watermarks and pageblock types change. A
    model that picks pages for itself needs these.
``numa``
    The node asked for: every allocation hits it.
``limit``
    Allocation flags of each attempt: every allocation hits it, at least once.

Kprobes lose hits where one is hit inside another (in an interrupt): never replace a tracepoint
by one. How many were lost is in the trace record. Stock kernels take none in functions that
ftrace cannot trace (__alloc_pages_slowpath on x86_64, though it is there).

*Kernel:* mm/page_alloc.c, mm/page_isolation.c, mm/vmstat.c, mm/vmscan.c, mm/memory_hotplug.c of
6.1, 6.12, 7.2 and 7.3-rc7; which functions exist uninlined was read from each stock kernel's
/proc/kallsyms, on x86_64 and arm64, and who calls them from its machine code. Blocks get onto the
free lists by __free_one_page alone; its callers are free_pcppages_bulk (a tracepoint shows it),
put_page_back_buddy, __putback_isolated_page, up to 6.9 free_one_page, split_free_page and
__free_pages_ok (shown by mm_page_free with an order beyond the per-cpu lists'), and from 6.10 on
split_large_buddy. They leave it by mm_page_alloc_zone_locked, __isolate_free_page,
take_page_off_buddy and __offline_isolated_pages.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "mmscope"
"""Where the probes lie: ``events/mmscope/NAME``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One function to probe, in a range of releases."""

    function: str
    arguments: str = ""
    """As in kprobe_events; empty: only that it was called matters."""
    since: tuple[int, int] = (0, 0)
    before: tuple[int, int] = (99, 0)
    clones: tuple[str, ...] = ()
    """Kinds of compiler-made copies (``free_one_page.constprop.0``) that were seen, in the
    machine code of the stock kernels, to take these arguments in this order."""
    plain: bool = True
    """Whether the function under its own name does so too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    name: str
    group: str
    why: str
    places: tuple[Place, ...]
    returns: bool = False
    """Hit when the function returns; its arguments are then gone, ``$retval`` is there."""


_PAGE_ORDER = "page=$arg1:x64 order=$arg2:u32"
_ZONE_PAGE_PFN_ORDER = "zone=$arg1:x64 page=$arg2:x64 pfn=$arg3:u64 order=$arg4:u32"
_RANGE = "start_pfn=$arg1:u64 end_pfn=$arg2:u64"

_ISOLATE_FREE_PAGE = (Place(function="__isolate_free_page", arguments=_PAGE_ORDER),)
_BULK_HEAD = "gfp=$arg1:x32 nid=$arg2:s32 nodemask=$arg3:x64 nr_pages=$arg4:s32"

EXACT = (
    Probe(
        name="isolate_free_page",
        group="exact",
        why="compaction, page isolation or page reporting takes a free block",
        places=_ISOLATE_FREE_PAGE,
    ),
    Probe(
        name="isolate_free_page_return",
        group="exact",
        why="whether it got it: 1 << order pages, or 0 when a watermark forbade it",
        places=(Place(function="__isolate_free_page", arguments="taken=$retval:u32"),),
        returns=True,
    ),
    Probe(
        name="free_one_page",
        group="exact",
        why="a free past the per-cpu lists: isolated pageblock, or their lock was held",
        places=(
            Place(
                function="free_one_page",
                arguments=f"{_ZONE_PAGE_PFN_ORDER} migratetype=$arg5:s32",
                before=(6, 10),
                clones=("constprop",),
            ),
            Place(
                function="free_one_page",
                arguments=f"{_ZONE_PAGE_PFN_ORDER} fpi_flags=$arg5:s32",
                since=(6, 10),
            ),
        ),
    ),
    Probe(
        name="split_large_buddy",
        group="exact",
        why="the same under the zone's lock, so in the true order; also deferred frees (7.x)",
        places=(
            Place(
                function="split_large_buddy",
                arguments=f"{_ZONE_PAGE_PFN_ORDER} fpi_flags=$arg5:s32",
                since=(6, 10),
            ),
        ),
    ),
    Probe(
        name="putback_isolated_page",
        group="exact",
        why="an isolated free block goes back unused, to the tail (page reporting, isolation)",
        places=(
            Place(
                function="__putback_isolated_page", arguments=f"{_PAGE_ORDER} migratetype=$arg3:s32"
            ),
        ),
    ),
    Probe(
        name="split_free_page",
        group="exact",
        why="a free block that straddles an isolated range is cut (6.0 to 6.9)",
        places=(
            Place(
                function="split_free_page",
                arguments=f"{_PAGE_ORDER} split_pfn_offset=$arg3:u64",
            ),
        ),
    ),
    Probe(
        name="free_pages_core",
        group="exact",
        why="memory is handed to the allocator for the first time (boot, hot-add)",
        places=(Place(function="__free_pages_core", arguments=_PAGE_ORDER),),
    ),
    Probe(
        name="offline_isolated_pages",
        group="exact",
        why="free blocks vanish with the memory they are in (hot-remove)",
        places=(Place(function="__offline_isolated_pages", arguments=_RANGE),),
    ),
    Probe(
        name="take_page_off_buddy",
        group="exact",
        why="a poisoned page is taken out of its free block",
        places=(Place(function="take_page_off_buddy", arguments="page=$arg1:x64"),),
    ),
    Probe(
        name="take_page_off_buddy_return",
        group="exact",
        why="whether it was in one",
        places=(Place(function="take_page_off_buddy", arguments="taken=$retval:u8"),),
        returns=True,
    ),
    Probe(
        name="put_page_back_buddy",
        group="exact",
        why="a page is no longer poisoned",
        places=(Place(function="put_page_back_buddy", arguments="page=$arg1:x64"),),
    ),
    Probe(
        name="start_isolate_page_range",
        group="exact",
        why="pageblocks become isolated: their free blocks change lists",
        places=(Place(function="start_isolate_page_range", arguments=_RANGE),),
    ),
    Probe(
        name="start_isolate_page_range_return",
        group="exact",
        why="whether they did (0), or everything was undone",
        places=(Place(function="start_isolate_page_range", arguments="error=$retval:s32"),),
        returns=True,
    ),
    Probe(
        name="undo_isolate_page_range",
        group="exact",
        why="isolated pageblocks get their type back, free blocks are merged anew",
        places=(Place(function="undo_isolate_page_range", arguments=_RANGE),),
    ),
    Probe(
        name="set_migratetype_isolate",
        group="exact",
        why="one pageblock becomes isolated",
        places=(
            Place(function="set_migratetype_isolate", arguments="page=$arg1:x64", clones=("isra",)),
        ),
    ),
    Probe(
        name="unset_migratetype_isolate",
        group="exact",
        why="one pageblock is no longer isolated",
        places=(Place(function="unset_migratetype_isolate", arguments="page=$arg1:x64"),),
    ),
    Probe(
        name="move_freepages_block_isolate",
        group="exact",
        why="under the zone's lock: its free blocks change lists, larger ones are cut (6.10+)",
        places=(
            Place(
                function="__move_freepages_block_isolate",
                arguments="zone=$arg1:x64 page=$arg2:x64 isolate=$arg3:u8",
            ),
            Place(
                function="move_freepages_block_isolate",
                arguments="zone=$arg1:x64 page=$arg2:x64 migratetype=$arg3:s32",
            ),
        ),
    ),
)

PREDICT = (
    Probe(
        name="alloc_pages_bulk",
        group="predict",
        why="kernel stacks and others are taken from a per-cpu list without an event of its own",
        places=(
            Place(
                function="alloc_pages_bulk_noprof",
                arguments=f"{_BULK_HEAD} page_array=$arg5:x64",
                since=(6, 14),
            ),
            Place(
                function="alloc_pages_bulk_noprof",
                arguments=f"{_BULK_HEAD} page_list=$arg5:x64 page_array=$arg6:x64",
                since=(6, 10),
            ),
            Place(
                function="__alloc_pages_bulk",
                arguments=f"{_BULK_HEAD} page_list=$arg5:x64 page_array=$arg6:x64",
            ),
        ),
    ),
    Probe(
        name="alloc_pages_bulk_return",
        group="predict",
        why="how many pages it has now, those it came with included",
        places=(
            Place(function="alloc_pages_bulk_noprof", arguments="populated=$retval:u64"),
            Place(function="__alloc_pages_bulk", arguments="populated=$retval:u64"),
        ),
        returns=True,
    ),
    Probe(
        name="free_prepared_range",
        group="predict",
        why="pages announced one by one are freed as the largest aligned blocks of their range",
        places=(
            Place(
                function="free_prepared_contig_range",
                arguments="page=$arg1:x64 nr_pages=$arg2:u64",
                since=(7, 0),
            ),
        ),
    ),
    Probe(
        name="compaction_free",
        group="predict",
        why="an announced free goes back to compaction's own pages instead (6.9+)",
        places=(
            Place(
                function="compaction_free",
                arguments="page=$arg1:x64 data=$arg2:x64",
                since=(6, 9),
            ),
        ),
    ),
    Probe(
        name="drain_zone_pages",
        group="predict",
        why="vmstat's worker empties the per-cpu list of a remote zone",
        places=(Place(function="drain_zone_pages", arguments="zone=$arg1:x64 pcp=$arg2:x64"),),
    ),
    Probe(
        name="drain_pages_zone",
        group="predict",
        why="all per-cpu lists of a zone and CPU are emptied",
        places=(Place(function="drain_pages_zone", arguments="cpu=$arg1:u32 zone=$arg2:x64"),),
    ),
    Probe(
        name="drain_all_pages",
        group="predict",
        why="who emptied them all: a slow path, compaction, isolation",
        places=(
            Place(
                function="__drain_all_pages",
                arguments="zone=$arg1:x64",
                clones=("part",),
            ),
        ),
    ),
    Probe(
        name="decay_pcp_high",
        group="predict",
        why="vmstat's worker lowers a per-cpu list's high mark (6.7+)",
        places=(Place(function="decay_pcp_high", arguments="zone=$arg1:x64 pcp=$arg2:x64"),),
    ),
    Probe(
        name="refresh_cpu_vm_stats",
        group="predict",
        why="this CPU's pending counters are added to the zones' own",
        places=(Place(function="refresh_cpu_vm_stats", arguments="do_pagesets=$arg1:u8"),),
    ),
    Probe(
        name="set_pgdat_percpu_threshold",
        group="predict",
        why="how far a zone's free counter may be off changes with kswapd",
        places=(
            Place(
                function="set_pgdat_percpu_threshold",
                arguments="pgdat=$arg1:x64 threshold_of=$arg2:x64",
            ),
        ),
    ),
    Probe(
        name="balance_pgdat",
        group="predict",
        why="kswapd works on a node; boosted watermarks come down at its end",
        places=(
            Place(
                function="balance_pgdat",
                arguments="pgdat=$arg1:x64 order=$arg2:s32 highest_zoneidx=$arg3:s32",
            ),
        ),
    ),
    Probe(
        name="balance_pgdat_return",
        group="predict",
        why="and the order it reached",
        places=(Place(function="balance_pgdat", arguments="order=$retval:s32"),),
        returns=True,
    ),
    Probe(
        name="wakeup_kcompactd",
        group="predict",
        why="in balance_pgdat: boosts have come down, long before a busy CPU lets it return",
        places=(
            Place(
                function="wakeup_kcompactd",
                arguments="pgdat=$arg1:x64 order=$arg2:s32 highest_zoneidx=$arg3:s32",
            ),
        ),
    ),
    Probe(
        name="reserve_highatomic",
        group="predict",
        why="a pageblock is set aside for atomic requests (else seen by set_pageblock_flags)",
        places=(Place(function="reserve_highatomic_pageblock", arguments="page=$arg1:x64"),),
    ),
    Probe(
        name="unreserve_highatomic",
        group="predict",
        why="a slow path asks such pageblocks back",
        places=(
            Place(
                function="unreserve_highatomic_pageblock", arguments="ac=$arg1:x64 force=$arg2:u8"
            ),
        ),
    ),
    Probe(
        name="unreserve_highatomic_return",
        group="predict",
        why="and got one, or not",
        places=(Place(function="unreserve_highatomic_pageblock", arguments="moved=$retval:u8"),),
        returns=True,
    ),
    Probe(
        name="setup_per_zone_wmarks",
        group="predict",
        why="watermarks are computed anew",
        places=(Place(function="setup_per_zone_wmarks"),),
    ),
    Probe(
        name="move_freepages_block",
        group="predict",
        why="a pageblock's free blocks change lists: stealing, high-atomic, isolation",
        places=(
            Place(
                function="move_freepages_block",
                arguments="zone=$arg1:x64 page=$arg2:x64 migratetype=$arg3:s32",
                before=(6, 10),
            ),
            Place(
                function="__move_freepages_block",
                arguments="zone=$arg1:x64 start_pfn=$arg2:u64 old_mt=$arg3:s32 new_mt=$arg4:s32",
                since=(6, 10),
            ),
        ),
    ),
    Probe(
        name="set_pageblock_flags",
        group="predict",
        why="a pageblock changes its type; before 7.x also compaction's skip mark, by the mask",
        places=(
            Place(
                function="set_pfnblock_flags_mask",
                arguments="page=$arg1:x64 flags=$arg2:x64 pfn=$arg3:u64 mask=$arg4:x64",
            ),
            Place(
                function="__set_pfnblock_flags_mask",
                arguments="page=$arg1:x64 pfn=$arg2:u64 flags=$arg3:x64 mask=$arg4:x64",
            ),
            Place(
                function="__set_pfnblock_flags_mask",
                arguments="pfn=$arg1:u64 flags=$arg2:x64",
                clones=("constprop",),
                plain=False,
            ),
        ),
    ),
    Probe(
        name="set_pageset_high_and_batch",
        group="predict",
        why="a zone's per-cpu lists get other limits; 0 and 1: they are switched off",
        places=(
            Place(
                function="__zone_set_pageset_high_and_batch",
                arguments="zone=$arg1:x64 high=$arg2:u64 batch=$arg3:u64",
                before=(6, 7),
            ),
            Place(
                function="__zone_set_pageset_high_and_batch",
                arguments="zone=$arg1:x64 high_min=$arg2:u64 high_max=$arg3:u64 batch=$arg4:u64",
                since=(6, 7),
            ),
        ),
    ),
)

_ALLOC = "gfp=$arg1:x32 order=$arg2:u32 nid=$arg3:s32 nodemask=$arg4:x64"

NUMA = (
    Probe(
        name="alloc_pages",
        group="numa",
        why="the node that was asked for, before mm_page_alloc says what was given",
        places=(
            Place(
                function="__alloc_frozen_pages_noprof",
                arguments=f"{_ALLOC} alloc_flags=$arg5:x32",
                since=(7, 3),
            ),
            Place(function="__alloc_frozen_pages_noprof", arguments=_ALLOC),
            Place(function="__alloc_pages_noprof", arguments=_ALLOC),
            Place(function="__alloc_pages", arguments=_ALLOC),
        ),
    ),
)

LIMIT = (
    Probe(
        name="get_page_from_freelist",
        group="limit",
        why="the flags of each attempt: which watermark, which reserves",
        places=(
            Place(
                function="get_page_from_freelist",
                arguments="gfp=$arg1:x32 order=$arg2:u32 alloc_flags=$arg3:x32 ac=$arg4:x64",
            ),
        ),
    ),
)

PROBES = EXACT + PREDICT + NUMA + LIMIT
GROUPS = ("exact", "predict", "numa", "limit")
ALWAYS = ("exact", "predict")
"""Groups that are cheap: what they show is rare beside allocations."""
