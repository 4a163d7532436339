"""Free lists in list order, from the heads that a scan recorded; and whether they make sense.

The guest runs again by now: links between blocks are followed in the record, not in its RAM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from harness.record.memory import AREA, BLOCK
from harness.sampling.memory.layout import Layout
from harness.sampling.memory.scan import (
    HEAD_FLAGS,
    HEAD_NEXT,
    HEAD_ORDER,
    HEAD_PFN,
    HEAD_PREV,
)
from harness.sampling.memory.topology import Topology, ZonePlace

_WHOLE, _ASTRAY, _BACK, _TWICE, _ORDER = range(5)
_FAULTS = {
    _ASTRAY: "leads to what is no free block",
    _BACK: "has a prev link that does not lead back",
    _TWICE: "leads to a block that is on a list already",
    _ORDER: "holds a block of another order",
}
_SHOWN = 4
"""Faults of one kind that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeLists:
    """Rows of AREA and BLOCK, and what was wrong with the lists, a sentence each."""

    areas: NDArray[np.void]
    blocks: NDArray[np.void]
    problems: tuple[str, ...]


@numba.njit(cache=True, nogil=True)
def follow_lists(
    lists: NDArray[np.uint64],
    heads: NDArray[np.uint64],
    first_page: np.uint64,
    page_bytes: int,
    rows: NDArray[np.int64],
    faults: NDArray[np.int64],
) -> int:
    """Follows every list through the recorded heads; returns how many rows it filled.

    ``lists``: address of the list head, its next, its prev, its order. ``first_page`` is where
    the list links of the struct page of pfn 0 are. ``rows``: list, position, row in ``heads``.
    """
    seen = np.zeros(len(heads), np.uint8)
    pfns = heads[:, HEAD_PFN]
    count = 0
    for number in range(len(lists)):
        head = lists[number, 0]
        node = lists[number, 1]
        before = head
        position = 0
        faults[number] = _WHOLE
        while node != head:
            relative = node - first_page
            pfn = relative // np.uint64(page_bytes)
            row = np.searchsorted(pfns, pfn)
            if (
                relative % np.uint64(page_bytes) != np.uint64(0)
                or row >= len(heads)
                or pfns[row] != pfn
            ):
                faults[number] = _ASTRAY
                break
            if seen[row]:
                faults[number] = _TWICE
                break
            seen[row] = 1
            if heads[row, HEAD_PREV] != before:
                faults[number] = _BACK
            if heads[row, HEAD_ORDER] != lists[number, 3]:
                faults[number] = _ORDER
            rows[count, 0] = number
            rows[count, 1] = position
            rows[count, 2] = row
            count += 1
            position += 1
            before = node
            node = heads[row, HEAD_NEXT]
        if faults[number] == _WHOLE and lists[number, 2] != before:
            faults[number] = _BACK
    return count


def free_lists(
    topology: Topology, layout: Layout, copy: bytes, heads: NDArray[np.uint64]
) -> FreeLists:
    """Every zone's free lists, checked against the scan of the memmap and against nr_free."""
    keys, lists, areas = _heads_of_lists(topology, layout, copy)
    rows = np.zeros((len(heads), 3), np.int64)
    faults = np.zeros(len(lists), np.int64)
    first_page = (topology.vmemmap + layout.page_lru) & (1 << 64) - 1
    count = follow_lists(lists, heads, np.uint64(first_page), layout.page_bytes, rows, faults)
    rows = rows[:count]
    blocks = np.zeros(count, BLOCK)
    for column, name in enumerate(("zone", "order", "migratetype")):
        blocks[name] = keys[rows[:, 0], column]
    blocks["position"] = rows[:, 1]
    blocks["pfn"] = heads[rows[:, 2], HEAD_PFN].astype(np.int64)
    problems = [
        f"{_list_name(topology, layout, keys[number])} {_FAULTS[int(faults[number])]}"
        for number in np.flatnonzero(faults)
    ]
    problems += _off_list(heads, rows)
    problems += _counts(topology, layout, areas, keys, rows)
    problems += _geometry(topology, layout, blocks, heads[rows[:, 2], HEAD_FLAGS])
    return FreeLists(areas=areas, blocks=blocks, problems=tuple(problems))


def _heads_of_lists(
    topology: Topology, layout: Layout, copy: bytes
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.void]]:
    """Keys (zone, order, migratetype) and links of all lists, and AREA's rows."""
    orders, types = layout.max_order + 1, len(layout.migratetypes)
    words = layout.free_area_bytes // 8
    keys: list[NDArray[np.int64]] = []
    lists: list[NDArray[np.uint64]] = []
    areas = np.zeros(len(topology.zones) * orders, AREA)
    for zone in topology.zones:
        start = zone.copy + layout.free_area
        raw = np.frombuffer(copy, "<u8", orders * words, start).reshape(orders, words)
        links = raw[:, : 2 * types].reshape(orders * types, 2)
        order, migratetype = np.divmod(np.arange(orders * types), types)
        address = np.uint64(zone.address + layout.free_area) + (
            order * layout.free_area_bytes + migratetype * 16
        ).astype(np.uint64)
        keys.append(np.stack([np.full(orders * types, zone.number), order, migratetype], 1))
        lists.append(np.column_stack([address, links, order.astype(np.uint64)]))
        part = areas[zone.number * orders : (zone.number + 1) * orders]
        part["zone"] = zone.number
        part["order"] = np.arange(orders)
        part["nr_free"] = [
            layout.nr_free.read(copy, start + number * layout.free_area_bytes)
            for number in range(orders)
        ]
    return np.concatenate(keys), np.concatenate(lists), areas


def _off_list(heads: NDArray[np.uint64], rows: NDArray[np.int64]) -> list[str]:
    on_list = np.zeros(len(heads), bool)
    on_list[rows[:, 2]] = True
    stray = heads[~on_list]
    shown = ", ".join(f"pfn {int(p):#x} order {int(o)}" for p, o in stray[:_SHOWN, :2])
    return (
        [f"{len(stray)} free blocks in the memmap are on no list ({shown})"] if len(stray) else []
    )


def _counts(
    topology: Topology,
    layout: Layout,
    areas: NDArray[np.void],
    keys: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> list[str]:
    listed = np.zeros(len(areas), np.int64)
    at = keys[rows[:, 0]]
    np.add.at(listed, at[:, 0] * (layout.max_order + 1) + at[:, 1], 1)
    problems: list[str] = []
    for number in np.flatnonzero(listed != areas["nr_free"]):
        zone = topology.zones[int(areas["zone"][number])]
        problems.append(
            f"{_zone_name(zone)} order {areas['order'][number]}: nr_free is "
            f"{areas['nr_free'][number]}, its lists hold {listed[number]}"
        )
    return problems


def _geometry(
    topology: Topology, layout: Layout, blocks: NDArray[np.void], flags: NDArray[np.uint64]
) -> list[str]:
    """Whether blocks are aligned, disjoint, inside their zone and of it by their flags."""
    problems: list[str] = []
    pfns = blocks["pfn"]
    pages = np.int64(1) << np.clip(blocks["order"], 0, 62).astype(np.int64)
    starts = np.array([zone.start_pfn for zone in topology.zones])[blocks["zone"]]
    ends = np.array([zone.end_pfn for zone in topology.zones])[blocks["zone"]]
    owner = [
        zone.node << layout.node_shift | zone.zone_type << layout.zone_shift
        for zone in topology.zones
    ]
    owners = np.array(owner, np.uint64)[blocks["zone"]]
    which = np.uint64(layout.zone_mask << layout.zone_shift | -1 << layout.node_shift & 2**64 - 1)
    order = np.argsort(pfns, kind="stable")
    overlap = np.zeros(len(blocks), bool)
    overlap[order[1:]] = pfns[order][1:] < (pfns + pages)[order][:-1]
    for bad, what in (
        (pfns % pages != 0, "not aligned to their size"),
        ((pfns < starts) | (pfns + pages > ends), "not inside their zone"),
        (overlap, "within another free block"),
        ((flags & which) != owners, "of another zone by their page flags"),
    ):
        if bad.any():
            shown = ", ".join(f"{int(pfn):#x}" for pfn in pfns[bad][:_SHOWN])
            problems.append(f"{int(bad.sum())} free blocks are {what} (pfn {shown})")
    return problems


def _list_name(topology: Topology, layout: Layout, key: NDArray[np.int64]) -> str:
    zone, order, migratetype = (int(part) for part in key)
    return (
        f"{_zone_name(topology.zones[zone])} order {order} "
        f"{layout.migratetypes[migratetype]}: the free list"
    )


def _zone_name(zone: ZonePlace) -> str:
    return f"node {zone.node} zone {zone.name}"
