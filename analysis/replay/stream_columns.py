"""What the columns of an exported request stream say: unit and meaning, one place for all.

docs/request-stream.md and the README in every export say the same for people.
"""

from __future__ import annotations

from collections.abc import Mapping

Columns = Mapping[str, tuple[str, str]]
"""Column → unit, meaning."""

REQUESTS: Columns = {
    "number": ("steps", "place among all steps by the first sign of their effect in the trace"),
    "op": ("name", "what happens: see the document"),
    "counter": ("events", "trace_clock=counter when it took effect"),
    "event": ("events", "trace_clock=counter of its own event"),
    "cpu": ("cpu", "where"),
    "pid": ("pid", "task that ran there"),
    "context": ("name", "task, softirq, hardirq or nmi"),
    "order": ("order", "log2 of the pages; null where it says nothing"),
    "pages": ("pages", "asked for, freed or moved; null where it says nothing"),
    "gfp": ("bits", "gfp_t of an allocation, as include/linux/gfp_types.h of that release"),
    "migratetype": ("name", "asked for, or of the list that a block is put back to"),
    "node": ("node", "where the search begins; null: the node of the cpu"),
    "zone": ("zone", "number in begin/zones.parquet, where a step is about a zone"),
    "allocation": ("id", "allocations: their own name; others: whose pages they are about"),
    "first_page": ("pages", "first page in question, from the allocation's first"),
    "pfn": ("pages", "first page where no allocation of the stream names it"),
    "alloc_flags": ("bits", "ALLOC_* of the attempt that succeeded, where a probe told"),
    "argument": ("", "see the document, by op"),
    "stop_after": ("pages", "given back from per-cpu lists before another context ran; null: none"),
    "pieces": ("blocks", "free_range: the blocks that are freed"),
    "after": ("events", "counter of the same context's event before; the effect is later"),
    "before": ("events", "counter of the same context's next event; the effect is earlier"),
    "kernel_pfn": ("pages", "ANSWER: the first page that the kernel gave"),
    "kernel_pages": ("pages", "ANSWER: single pages of a bulk, in order"),
    "kernel_node": ("node", "ANSWER: node with room for dirty pages, where not the one asked"),
    "kernel_fetched": ("blocks", "ANSWER: blocks that left the zone's lists for it, in order"),
    "kernel_drained": ("blocks", "ANSWER: blocks that came back from per-cpu lists, in order"),
    "kernel_borrowed": ("pages", "ANSWER: first pages of blocks that fallbacks chose"),
    "kernel_captured": ("blocks", "ANSWER: freed blocks that compaction took, at which order"),
}

_ZONE = ("zone", "number of the zone")
_PFN = ("pages", "first page")
_POSITION = ("blocks", "0 is the head of the list")
_MIGRATETYPE = ("number", "in the order of description.json's migratetypes")

STATE: Mapping[str, Columns] = {
    "zones": {
        "zone": _ZONE,
        "node": ("node", "as the kernel numbers it"),
        "zone_type": ("number", "index in the node's node_zones"),
        "name": ("name", "zone->name"),
        "start_pfn": ("pages", "zone_start_pfn"),
        "spanned_pages": ("pages", "with holes"),
        "present_pages": ("pages", "without holes"),
        "managed_pages": ("pages", "given to the buddy allocator"),
        "cma_pages": ("pages", "set apart for CMA"),
        "nr_free_pages": ("pages", "vm_stat[NR_FREE_PAGES], without per-cpu differences"),
        "nr_free_cma": ("pages", "vm_stat[NR_FREE_CMA_PAGES]; -1: unknown"),
        "watermark_min": ("pages", "without the boost"),
        "watermark_low": ("pages", "without the boost"),
        "watermark_high": ("pages", "without the boost"),
        "watermark_promo": ("pages", "without the boost; -1: not in this release"),
        "watermark_boost": ("pages", "added to every watermark"),
        "nr_reserved_highatomic": ("pages", "of pageblocks set aside for high-order atomic"),
        "nr_free_highatomic": ("pages", "free ones of them; -1: not in this release"),
        "nr_isolate_pageblock": ("pageblocks", "isolated ones"),
        "percpu_drift_mark": ("pages", "0: kswapd does not change the counters' thresholds"),
        "flags": ("bits", "zone->flags; names of the bits in description.json"),
        "lowmem_reserve": ("pages", "by highest zone type of the request"),
    },
    "areas": {
        "zone": _ZONE,
        "order": ("order", "of the free area"),
        "nr_free": ("blocks", "free_area[order].nr_free"),
    },
    "blocks": {
        "zone": _ZONE,
        "order": ("order", "log2 of its pages"),
        "migratetype": _MIGRATETYPE,
        "position": _POSITION,
        "pfn": _PFN,
    },
    "pcps": {
        "zone": _ZONE,
        "cpu": ("cpu", "whose lists"),
        "count": ("pages", "on the lists"),
        "high": ("pages", "at which they overflow"),
        "high_min": ("pages", "bound of high; -1: not in this release"),
        "high_max": ("pages", "bound of high; -1: not in this release"),
        "batch": ("pages", "fetched or given back at a time"),
        "flags": ("bits", "PCPF_*; -1: not in this release"),
        "free_factor": ("log2", "doubles what is given back; -1: not in this release"),
        "alloc_factor": ("log2", "doubles what is fetched; -1: not in this release"),
        "expire": ("ticks", "of a remote node's lists"),
        "free_count": ("pages", "freed in a row; -1: not in this release"),
        "stat_threshold": ("pages", "beyond which a counter's difference is handed over"),
        "diff_free_pages": ("pages", "of NR_FREE_PAGES, not yet handed over"),
        "diff_free_cma": ("pages", "of NR_FREE_CMA_PAGES, not yet handed over"),
    },
    "pcp_pages": {
        "zone": _ZONE,
        "cpu": ("cpu", "whose list"),
        "pindex": ("number", "index in per_cpu_pages->lists"),
        "position": _POSITION,
        "pfn": _PFN,
        "pcp_migratetype": ("number", "type that the page goes back to; -1: the pageblock's"),
    },
    "pageblocks": {
        "zone": _ZONE,
        "migratetype": _MIGRATETYPE,
        "isolated": ("0 or 1", "set apart"),
        "skip": ("0 or 1", "compaction passes it over"),
        "pfn": _PFN,
    },
    "zonelists": {
        "node": ("node", "where the search begins"),
        "fallback": ("0 or 1", "1: all nodes, 0: this node alone (__GFP_THISNODE)"),
        "position": ("zones", "0 is asked first"),
        "zone": _ZONE,
    },
    "cpus": {"cpu": ("cpu", "an online one"), "node": ("node", "that it belongs to")},
    "movable": {"pfn": ("pages", "an allocated page that compaction could move")},
}
"""Tables of ``begin/`` and ``end/``."""

FREE_BLOCKS: Columns = {
    "counter": ("events", "trace_clock=counter of the moment"),
    "zone": _ZONE,
    "order": ("order", "log2 of the blocks' pages"),
    "nr_free": ("blocks", "free then, in the kernel, as exact replay tells"),
}
