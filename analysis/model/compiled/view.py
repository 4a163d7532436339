"""What lies in the compiled allocator's memory, for callers in Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.model.compiled import layout as at
from analysis.model.compiled.layout import Memory
from analysis.model.compiled.pack import page_rows


def free_list(m: Memory, zone: int, order: int, migratetype: int) -> tuple[int, ...]:
    """First pages of a free list's blocks, by pfn, head first."""
    return _walk(m, zone << at.LIST_ZONE | order << at.LIST_ORDER | migratetype, at.NEXT)


def pcp_list(m: Memory, zone: int, cpu: int, pindex: int) -> tuple[int, ...]:
    """First pages of a per-cpu list's blocks, by pfn, head first."""
    number = (zone * int(m[at.CPUS]) + cpu) << at.PCP_LISTS | pindex
    return _walk(m, number, at.PCP_NEXT)


def zone_word(m: Memory, zone: int, word: int) -> int:
    """A number of a zone."""
    return int(m[at.ZONES_AT + zone * at.ZONE_WORDS + word])


def pcp_word(m: Memory, zone: int, cpu: int, word: int) -> int:
    """A number of a processor's lists of a zone."""
    pcp = zone * int(m[at.CPUS]) + cpu
    return int(m[int(m[at.PCPS_AT]) + pcp * at.PCP_WORDS + word])


def free_blocks(m: Memory) -> NDArray[np.int64]:
    """Zone, order, migratetype and page index of every free block, by page; a row each."""
    lists = page_rows(m)[:, at.LIST - at.ROWS_AT]
    pages = np.flatnonzero(lists >= 0)
    number = lists[pages]
    orders = number >> at.LIST_ORDER & (1 << at.LIST_ZONE - at.LIST_ORDER) - 1
    types = number & (1 << at.LIST_ORDER) - 1
    return np.stack([number >> at.LIST_ZONE, orders, types, pages], axis=1)


def free_pages(m: Memory, zone: int) -> NDArray[np.bool_]:
    """By page index: whether it is on the zone's free lists."""
    blocks = free_blocks(m)
    blocks = blocks[blocks[:, 0] == zone]
    edges = np.zeros(int(m[at.PAGES]) + 1, np.int32)
    np.add.at(edges, blocks[:, 3], 1)
    np.add.at(edges, blocks[:, 3] + (1 << blocks[:, 1]), -1)
    return np.cumsum(edges[:-1]) > 0


def pageblock_types(m: Memory, zone: int) -> NDArray[np.int64]:
    """Migratetypes of the zone's pageblocks."""
    order = int(m[at.PAGEBLOCK_ORDER])
    first = zone_word(m, zone, at.START) >> order
    last = max(zone_word(m, zone, at.END) - 1, zone_word(m, zone, at.START)) >> order
    begin, end = (int(m[at.BLOCKS_AT]) + block * at.BLOCK_WORDS for block in (first, last + 1))
    return m[begin + at.BLOCK_TYPE : end : at.BLOCK_WORDS]


def _walk(m: Memory, number: int, word: int) -> tuple[int, ...]:
    top, first_pfn = int(m[at.PAGES]) + number, int(m[at.FIRST_PFN])
    found: list[int] = []
    page = int(m[top * at.ROW + word])
    while page != top:
        found.append(page + first_pfn)
        page = int(m[page * at.ROW + word])
    return tuple(found)
