"""ZONE_DEVICE: page frames that drivers bring struct pages for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analysis.model.layout.pfn import Span, whole_pages


def device_zone_span(mapped: Iterable[Span], page_bytes: int) -> Span:
    """The page frames that a node's ZONE_DEVICE spans, of the ranges (in bytes) mapped into it.

    The zone reaches from the first to the last of them. None of it is present, and none is
    managed: the buddy never sees it.

    Kernel: mm/memremap.c, ``pagemap_range``; mm/memory_hotplug.c, ``move_pfn_range_to_zone`` and
        ``resize_zone_range``; 5.10, 6.1, 6.12 and 7.3. CONFIG_ZONE_DEVICE.
    Ignores: ranges that were given back, which the zone may go on spanning.
    """
    pages = [whole_pages(span, page_bytes) for span in mapped]
    if not pages:
        return Span(0, 0)
    return Span(min(span.start for span in pages), max(span.end for span in pages))


def node_of_range(mapped: Span, extents: Mapping[int, Span]) -> int | None:
    """The node of a range that the firmware marks as persistent memory in the midst of RAM.

    ``extents``: the nodes from their first to their last page of memory, in bytes. None: the
    range lies outside of all, or in more than one.

    Kernel: drivers/nvdimm/e820.c, which asks ``phys_to_target_node`` or
        ``memory_add_physaddr_to_nid``: the node whose NUMA block holds the address; 6.1 and 7.2
        seen.
    Ignores: NUMA blocks that reach beyond a node's memory.
    """
    found = [n for n, s in extents.items() if s.start <= mapped.start and mapped.end <= s.end]
    return found[0] if len(found) == 1 else None
