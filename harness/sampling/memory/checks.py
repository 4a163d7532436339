"""Whether the kernel's counters of free pages agree with its free lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.sampling.memory.layout import Layout
from harness.sampling.memory.topology import Topology


def counter_problems(
    topology: Topology,
    layout: Layout,
    zones: NDArray[np.void],
    pcps: NDArray[np.void],
    blocks: NDArray[np.void],
) -> list[str]:
    """One sentence for each counter that differs.

    The rule: a zone's NR_FREE_PAGES plus every CPU's pending difference is the number of pages on
    its free lists other than Isolate; with NR_FREE_CMA_PAGES in the same way for CMA, where the
    kernel has it; and nr_free_highatomic is that of HighAtomic's lists, where it is counted.

    *Kernel:* __mod_zone_freepage_state (6.1) and account_freepages (from 6.10) in
    mm/page_alloc.c, both under the zone's lock, which was free; the differences are folded into
    the zone's counter by refresh_cpu_vm_stats in mm/vmstat.c with no lock, so that a stop can
    fall between taking one and adding it.
    """
    problems: list[str] = []
    pages = np.int64(1) << blocks["order"].astype(np.int64)
    isolate = layout.migratetype_isolate
    for zone, place in zip(zones, topology.zones, strict=True):
        mine = blocks["zone"] == place.number
        pending = pcps[pcps["zone"] == place.number]

        def on_lists(name: str, mine: NDArray[np.bool_] = mine) -> int:
            number = layout.migratetypes.index(name)
            return int(pages[mine & (blocks["migratetype"] == number)].sum())

        listed = int(pages[mine & (blocks["migratetype"] != isolate)].sum())
        counted = int(zone["nr_free_pages"]) + int(pending["diff_free_pages"].sum())
        compared = [("NR_FREE_PAGES", counted, listed)]
        if "CMA" in layout.migratetypes:
            counted = int(zone["nr_free_cma"]) + int(pending["diff_free_cma"].sum())
            compared.append(("NR_FREE_CMA_PAGES", counted, on_lists("CMA")))
        if "nr_free_highatomic" in layout.zone_fields:
            counted = int(zone["nr_free_highatomic"])
            compared.append(("nr_free_highatomic", counted, on_lists("HighAtomic")))
        isolated = int(zone["nr_isolate_pageblock"])
        aside = f", {isolated} pageblocks isolated" if isolated > 0 else ""
        problems += [
            f"node {place.node} zone {place.name}: {name} is {counted} with all CPUs' "
            f"differences, the free lists hold {listed} such pages{aside}"
            for name, counted, listed in compared
            if counted != listed
        ]
    return problems
