"""A moment's state of an allocator model, plain or compiled, over the pages of a ``Geometry``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.memory.state import COSTLY_ORDER
from analysis.model.allocator.allocator import Allocator
from analysis.model.compiled import layout as at
from analysis.model.compiled.pack import page_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """A model's state at one moment; page indices are those of a ``Geometry``."""

    head: NDArray[np.int8]
    """Order + 1 at the first page of every free block, else 0."""
    on_pcp: NDArray[np.bool_]
    """Whether a page lies on a per-cpu list."""
    nr_free: NDArray[np.int64]
    """Free blocks, zone by order."""


def snapshot_of(allocator: Allocator, geometry: Geometry) -> ModelSnapshot:
    """The state that a plain model is in."""
    free = [
        (zone.number, block.order, block.pfn)
        for zone in allocator.zones
        for block in zone.free.blocks()
    ]
    listed = [
        (pcp.order(pindex), pfn)
        for pcp in allocator.pcps.values()
        for pindex, pages in enumerate(pcp.lists)
        for pfn in pages
    ]
    return _snapshot(
        geometry, np.array(free, np.int64).reshape(-1, 3), np.array(listed, np.int64).reshape(-1, 2)
    )


def snapshot_of_memory(memory: at.Memory, geometry: Geometry) -> ModelSnapshot:
    """The state that the compiled model is in; see ``analysis.model.compiled.layout``."""
    rows = page_rows(memory)
    first_pfn = int(memory[at.FIRST_PFN])
    lists, pcp_lists = rows[:, at.LIST - at.ROWS_AT], rows[:, at.PCP_LIST - at.ROWS_AT]
    free, listed = np.flatnonzero(lists >= 0), np.flatnonzero(pcp_lists >= 0)
    number = lists[free]
    order = number >> at.LIST_ORDER & (1 << at.LIST_ZONE - at.LIST_ORDER) - 1
    pindex = pcp_lists[listed] & (1 << at.PCP_LISTS) - 1
    pcp_order = pindex // geometry.pcp_types
    pcp_order[pcp_order > COSTLY_ORDER] = int(memory[at.HUGE_ORDER])
    return _snapshot(
        geometry,
        np.stack([number >> at.LIST_ZONE, order, free + first_pfn], axis=1),
        np.stack([pcp_order, listed + first_pfn], axis=1),
    )


def _snapshot(
    geometry: Geometry, free: NDArray[np.int64], listed: NDArray[np.int64]
) -> ModelSnapshot:
    """``free``: zone, order and pfn of every free block; ``listed``: order and pfn of the others
    that lie on per-cpu lists."""
    head = np.zeros(geometry.pages, np.int8)
    nr_free = np.zeros((len(geometry.zones), geometry.max_order + 1), np.int64)
    zone, order, pfn = free.T
    head[pfn - geometry.first_pfn] = order + 1
    np.add.at(nr_free, (zone, order), 1)
    # +1 where a block begins, -1 after its end: the running sum tells the pages of blocks.
    edges = np.zeros(geometry.pages + 1, np.int32)
    order, pfn = listed.T
    np.add.at(edges, pfn - geometry.first_pfn, 1)
    np.add.at(edges, pfn - geometry.first_pfn + (1 << order), -1)
    return ModelSnapshot(head=head, on_pcp=np.cumsum(edges[:-1]) > 0, nr_free=nr_free)
