"""From the bytes copied at a stop to the rows of a memory sample."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from harness.record.memory import (
    CPU,
    LOWMEM_RESERVES,
    PAGEBLOCK,
    PCP,
    PCP_PAGE,
    ZONE,
    ZONELIST,
)
from harness.sampling.memory.layout import Layout
from harness.sampling.memory.scan import LIST_LONG, LIST_OUTSIDE, LIST_PREV
from harness.sampling.memory.topology import Topology

_ZONEREF_BYTES = 16
_ZONE_COUNTERS = (ZONE.names or ())[4:-1]
_PCP_COUNTERS = (PCP.names or ())[2:]
_LIST_FAULTS = {
    LIST_OUTSIDE: "leads out of the memmap",
    LIST_PREV: "has a prev link that does not lead back",
    LIST_LONG: "does not end",
}


def zone_rows(topology: Topology, layout: Layout, copy: bytes) -> NDArray[np.void]:
    """ZONE."""
    rows = np.zeros(len(topology.zones), ZONE)
    for row, zone in zip(rows, topology.zones, strict=True):
        row["zone"], row["node"], row["zone_type"] = zone.number, zone.node, zone.zone_type
        row["name"] = zone.name.encode()
        for name in _ZONE_COUNTERS:
            field = layout.zone_fields.get(name)
            # flags is the one unsigned column; every release has it
            row[name] = field.read(copy, zone.copy) if field is not None else -1
        row["lowmem_reserve"] = -1
        for index, field in enumerate(layout.lowmem_reserve[:LOWMEM_RESERVES]):
            row["lowmem_reserve"][index] = field.read(copy, zone.copy)
    return rows


def pcp_rows(topology: Topology, layout: Layout, copy: bytes) -> NDArray[np.void]:
    """PCP."""
    rows = np.zeros(sum(len(zone.cpus) for zone in topology.zones), PCP)
    places = [(zone, place) for zone in topology.zones for place in zone.cpus]
    for row, (zone, place) in zip(rows, places, strict=True):
        row["zone"], row["cpu"] = zone.number, place.cpu
        for name in _PCP_COUNTERS:
            field, base = layout.pcp_fields.get(name), place.pcp
            if field is None:
                field, base = layout.zonestat_fields.get(name), place.zonestat
            row[name] = field.read(copy, base) if field is not None else -1
    return rows


def pcp_lists(topology: Topology, layout: Layout, copy: bytes) -> NDArray[np.uint64]:
    """Every per-cpu list: address of its head, next, prev; in the order of ``pcp_rows``."""
    lists = layout.pcp_lists
    parts: list[NDArray[np.uint64]] = []
    for zone in topology.zones:
        for place in zone.cpus:
            links = np.frombuffer(copy, "<u8", 2 * lists, place.pcp + layout.pcp_list)
            first = np.uint64((place.pcp_address + layout.pcp_list) & (1 << 64) - 1)
            address = first + np.arange(lists, dtype=np.uint64) * np.uint64(16)
            parts.append(np.column_stack([address, links.reshape(lists, 2)]))
    return np.concatenate(parts) if parts else np.zeros((0, 3), np.uint64)


def pcp_page_rows(
    topology: Topology,
    layout: Layout,
    pcps: NDArray[np.void],
    pages: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.void], list[str]]:
    """PCP_PAGE, and what was wrong with the lists."""
    rows = np.zeros(len(pages), PCP_PAGE)
    owner, pindex = np.divmod(pages[:, 0], layout.pcp_lists)
    rows["zone"], rows["cpu"] = pcps["zone"][owner], pcps["cpu"][owner]
    rows["pindex"], rows["position"] = pindex, pages[:, 1]
    rows["pfn"] = pages[:, 2]
    rows["pcp_migratetype"] = np.clip(pages[:, 3], -1, 127) if layout.page_index >= 0 else -1
    problems: list[str] = []
    for number in np.flatnonzero(ends):
        cpu, index = divmod(int(number), layout.pcp_lists)
        problems.append(
            f"{_pcp_name(topology, pcps[cpu])}: list {index} {_LIST_FAULTS[int(ends[number])]}"
        )
    orders = np.array([layout.pcp_order(index) for index in range(layout.pcp_lists)], np.int64)
    held = np.zeros(len(pcps), np.int64)
    np.add.at(held, owner, np.int64(1) << orders[pindex])
    problems += [
        f"{_pcp_name(topology, pcps[cpu])}: count is {pcps['count'][cpu]}, "
        f"its lists hold {held[cpu]} pages"
        for cpu in np.flatnonzero(held != pcps["count"])
    ]
    return rows, problems


def pageblock_rows(topology: Topology, layout: Layout, copy: bytes) -> NDArray[np.void]:
    """PAGEBLOCK: blocks of which at least one page is in the zone and has a memmap.

    *Kernel:* get_pfnblock_migratetype and pfn_to_bitidx in mm/page_alloc.c: a section's flags
    are one bitmap, a pageblock's bits are next to each other, lowest first.
    """
    what = layout.pageblock
    flags: dict[int, int] = {}
    for usage in topology.usages:
        bitmap = int.from_bytes(copy[usage.copy : usage.copy + usage.size_bytes], "little")
        first = usage.first_pfn >> layout.pageblock_order
        for index in range(usage.size_bytes * 8 // what.bits):
            flags[first + index] = bitmap >> index * what.bits & (1 << what.bits) - 1
    parts: list[NDArray[np.void]] = []
    for zone in topology.zones:
        found: set[int] = set()
        for start, pages in topology.frames.tolist():
            low, high = max(start, zone.start_pfn), min(start + pages, zone.end_pfn)
            if low < high:
                last = (high - 1) >> layout.pageblock_order
                found |= set(range(low >> layout.pageblock_order, last + 1))
        numbers = np.array(sorted(found & flags.keys()), np.int64)
        values = np.array([flags[number] for number in numbers.tolist()], np.int64)
        rows = np.zeros(len(numbers), PAGEBLOCK)
        rows["zone"] = zone.number
        rows["migratetype"] = values & what.migratetype_mask
        if what.isolate_bit >= 0:
            rows["isolated"] = values >> what.isolate_bit & 1
        else:
            rows["isolated"] = rows["migratetype"] == layout.migratetype_isolate
        rows["skip"] = values >> what.skip_bit & 1 if what.skip_bit >= 0 else -1
        rows["pfn"] = numbers << layout.pageblock_order
        parts.append(rows)
    return np.concatenate(parts)


def zonelist_rows(topology: Topology, copy: bytes) -> tuple[NDArray[np.void], list[str]]:
    """ZONELIST."""
    numbers = {zone.address: zone.number for zone in topology.zones}
    rows: list[tuple[int, int, int, int]] = []
    problems: list[str] = []
    for place in topology.zonelists:
        for position in range(place.entries):
            (address,) = struct.unpack_from("<Q", copy, place.copy + position * _ZONEREF_BYTES)
            if address not in numbers:
                problems.append(f"a zonelist of node {place.node} has a zone without pages")
                continue
            rows.append((place.node, int(place.fallback), position, numbers[address]))
    return np.array(rows, ZONELIST), problems


def cpu_rows(topology: Topology) -> NDArray[np.void]:
    """CPU."""
    return np.array(list(topology.cpus), CPU)


def _pcp_name(topology: Topology, pcp: np.void) -> str:
    zone = topology.zones[int(pcp["zone"])]
    return f"node {zone.node} zone {zone.name} cpu {pcp['cpu']}: per-cpu pages"
