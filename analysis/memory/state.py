"""The buddy allocator's state in one memory sample, as dense arrays over page frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError
from analysis.memory.geometry import Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeState:
    """Free blocks, page by page; indices are those of a ``Geometry``.

    Isolated blocks are free blocks like others.
    """

    head: NDArray[np.int8]
    """Order + 1 at the first page of every free block, else 0."""
    free: NDArray[np.bool_]
    """Whether a page lies in a free block."""
    on_pcp: NDArray[np.bool_]
    """Whether a page lies on a per-cpu list."""
    block_type: NDArray[np.int8]
    """Migratetype of every pageblock; isolated ones have the number of Isolate."""
    true_type: NDArray[np.int8]
    """The same, but what the kernel remembers of isolated ones where it does (7.x)."""
    nr_free: NDArray[np.int64]
    """``free_area[order].nr_free``, by zone and order."""
    free_cells: NDArray[np.int64]
    """Blocks counted in the lists, by zone and order; a sound sample has them equal."""


def free_state(sample: MemorySample, geometry: Geometry) -> FreeState:
    """The sample's free lists over the pages of ``geometry``.

    Raises:
        BundleError: blocks overlap, are misaligned, lie outside their zone, or zones and orders
            are named that the map does not have.
    """
    zones = int(sample.zones["zone"].max()) + 1 if len(sample.zones) else 0
    shape = (zones, geometry.max_order + 1)
    blocks = sample.blocks
    index = blocks["pfn"] - geometry.first_pfn
    order = blocks["order"].astype(np.int64)
    _require(sample, _in_range(order, shape[1]), "a block of an order that does not exist")
    size = np.left_shift(np.int64(1), order)
    _require(sample, (index >= 0) & (index + size <= geometry.pages), "a free block outside memory")
    _require(sample, index & (size - 1) == 0, "a free block that is not aligned")
    _require(sample, _in_range(blocks["zone"], zones), "a block of a zone that does not exist")
    of_zone = geometry.zone_of
    same = (of_zone[index] == blocks["zone"]) & (of_zone[index + size - 1] == blocks["zone"])
    _require(sample, same, "a free block on the list of a zone that it does not lie in")
    head = np.zeros(geometry.pages, np.int8)
    head[index] = order + 1
    # +1 where a block begins, -1 after its end: the running sum is how many blocks hold a page.
    edges = np.zeros(geometry.pages + 1, np.int32)
    np.add.at(edges, index, 1)
    np.add.at(edges, index + size, -1)
    cover = np.cumsum(edges[:-1])
    _require(sample, cover <= 1, "free blocks that overlap")
    cells = np.zeros(shape, np.int64)
    np.add.at(cells, (blocks["zone"], order), 1)
    return FreeState(
        head=head,
        free=cover > 0,
        on_pcp=_on_pcp(sample, geometry),
        block_type=_block_types(sample, geometry, isolated=True),
        true_type=_block_types(sample, geometry, isolated=False),
        nr_free=_nr_free(sample, shape),
        free_cells=cells,
    )


def nr_free_of(sample: MemorySample) -> NDArray[np.int64]:
    """``free_area[order].nr_free`` of a sample, by zone and order.

    Raises:
        BundleError: zones or orders that do not exist.
    """
    zones = int(sample.zones["zone"].max()) + 1 if len(sample.zones) else 0
    return _nr_free(sample, (zones, int(sample.meta["max_order"]) + 1))


def _nr_free(sample: MemorySample, shape: tuple[int, int]) -> NDArray[np.int64]:
    nr_free = np.zeros(shape, np.int64)
    areas = sample.areas
    known = _in_range(areas["zone"], shape[0]) & _in_range(areas["order"], shape[1])
    _require(sample, known, "a free area of a zone or order that does not exist")
    nr_free[areas["zone"], areas["order"]] = areas["nr_free"]
    return nr_free


def _on_pcp(sample: MemorySample, geometry: Geometry) -> NDArray[np.bool_]:
    """Pages on per-cpu lists; ``pindex`` tells the order of a block there.

    Kernel: mm/page_alloc.c, ``order_to_pindex`` and ``pindex_to_order``; 6.1 to 7.3: one list a
        type for each order up to 3, and one or two more for huge pages.
    """
    types = int(sample.meta["pcp_types"])
    on_pcp = np.zeros(geometry.pages, np.bool_)
    order = sample.pcp_pages["pindex"].astype(np.int64) // max(types, 1)
    order[order > COSTLY_ORDER] = geometry.pageblock_order
    index = sample.pcp_pages["pfn"] - geometry.first_pfn
    size = np.left_shift(np.int64(1), order)
    _require(
        sample, (index >= 0) & (index + size <= geometry.pages), "a per-cpu page outside memory"
    )
    for start, count in zip(index.tolist(), size.tolist(), strict=True):
        on_pcp[start : start + count] = True
    return on_pcp


COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER: the largest order that always has per-cpu lists."""


def _block_types(sample: MemorySample, geometry: Geometry, *, isolated: bool) -> NDArray[np.int8]:
    types = np.full(geometry.pages >> geometry.pageblock_order, -1, np.int8)
    blocks = sample.pageblocks
    index = (blocks["pfn"] - geometry.first_pfn) >> geometry.pageblock_order
    _require(sample, _in_range(index, len(types)), "a pageblock outside memory")
    types[index] = blocks["migratetype"]
    if isolated and geometry.isolate >= 0:
        types[index[blocks["isolated"] == 1]] = geometry.isolate
    return types


def _in_range(values: NDArray[np.signedinteger], end: int) -> NDArray[np.bool_]:
    return np.asarray((values >= 0) & (values < end))


def _require(sample: MemorySample, condition: NDArray[np.bool_], what: str) -> None:
    if not condition.all():
        raise BundleError(
            f"memory sample {sample.label}: it holds {what}",
            fix="run the experiment again; the sample cannot be used",
        )
