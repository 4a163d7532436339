"""Where ZONE_MOVABLE begins on each node: ``kernelcore=`` and ``movablecore=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.model.layout.nodes import NodeSpan, node_extents
from analysis.model.layout.pfn import Span, align_up
from analysis.model.layout.zone_limits import DEVICE


def highest_zone(zones: Mapping[str, Span]) -> str:
    """The zone that ZONE_MOVABLE is cut from: the highest that can have pages.

    Raises:
        ValueError: no zone can.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``find_usable_zone_for_movable``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    usable = [name for name, span in zones.items() if span.size > 0 and name != DEVICE]
    if not usable:
        raise ValueError("no zone has pages")
    return usable[-1]


def required_kernelcore(
    total_pages: int, kernelcore_pages: int, movablecore_pages: int, max_order_pages: int
) -> int:
    """Pages that must stay usable for the kernel; 0: there is no ZONE_MOVABLE.

    ``movablecore`` is rounded up to ``max_order_pages``; where both are given, the larger
    kernel part counts.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``find_zone_movable_pfns_for_nodes``; 5.10 to
        7.3.
    Ignores: nothing known.
    """
    required = kernelcore_pages
    if movablecore_pages:
        movable = min(total_pages, align_up(movablecore_pages, max_order_pages))
        required = max(required, total_pages - movable)
    return required if required < total_pages else 0


def movable_starts(
    ranges: Sequence[NodeSpan], required: int, lowest_pfn: int, max_order_pages: int
) -> dict[int, int]:
    """The pfn at which ZONE_MOVABLE begins, by node; nodes without it are left out.

    The kernel's part is spread evenly over the nodes with memory; what a small node cannot give
    is asked of the others in further passes. ``ranges`` are memory in pages, ``lowest_pfn`` is
    the first page of the zone that Movable is cut from: what lies below can only be the
    kernel's.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``find_zone_movable_pfns_for_nodes``; the same
        arithmetic in 5.10 to 7.3.
    Ignores: ``movable_node`` and ``kernelcore=mirror``, which replace this rule.
    """
    extents = node_extents(ranges)
    if not required:
        return {}
    starts = dict.fromkeys(extents, 0)
    usable_nodes = len(extents)
    while True:
        required = _pass(ranges, starts, required, usable_nodes, lowest_pfn)
        usable_nodes -= 1
        if not usable_nodes or required <= usable_nodes:
            break
    aligned = {node: align_up(pfn, max_order_pages) for node, pfn in starts.items()}
    return {node: pfn for node, pfn in aligned.items() if 0 < pfn < extents[node].end}


def _pass(
    ranges: Sequence[NodeSpan],
    starts: dict[int, int],
    required: int,
    usable_nodes: int,
    lowest_pfn: int,
) -> int:
    share = required // usable_nodes
    for node in starts:
        if required < share:
            share = required // usable_nodes
        remaining = share
        for _, start, end in (piece for piece in ranges if piece.node == node):
            start = max(start, starts[node])
            if start >= end:
                continue
            if start < lowest_pfn:
                kernel = min(end, lowest_pfn) - start
                remaining -= min(kernel, remaining)
                required -= min(kernel, required)
                if end <= lowest_pfn:
                    starts[node] = end
                    continue
                start = lowest_pfn
            taken = min(end - start, remaining)
            starts[node] = start + taken
            required -= min(required, taken)
            remaining -= taken
            if not remaining:
                break
    return required
