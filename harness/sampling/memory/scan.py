"""The loops over guest RAM that run while the guest stands still. Plain arrays in and out.

Each ``struct page`` is one cache line, and each is touched once. A free block's other pages are
not touched at all in a light sample: its head says how many there are.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

RUN_PFN, RUN_PAGES, RUN_OFFSET = 0, 1, 2
"""Columns of ``runs``: first pfn, number of pages, byte offset in RAM of the first struct page."""
PAGE_BYTES, FLAGS, LRU, MAPPING, PRIVATE, TYPE, INDEX, MASK, VALUE, MAX_ORDER = range(10)
"""Entries of ``page``: the layout of struct page as the loops want it."""
HEAD_PFN, HEAD_ORDER, HEAD_NEXT, HEAD_PREV, HEAD_FLAGS = range(5)
"""Columns of ``heads``: one row a free block, in the order of pfns."""
LIST_END, LIST_OUTSIDE, LIST_PREV, LIST_LONG = range(4)
"""How the walk of a list ended: whole; left the memmap; a prev link is wrong; does not end."""


@numba.njit(cache=True, nogil=True)
def copy_spans(
    ram: NDArray[np.uint8],
    sources: NDArray[np.int64],
    sizes: NDArray[np.int64],
    into: NDArray[np.uint8],
) -> None:
    to = 0
    for number in range(len(sources)):
        size = sizes[number]
        into[to : to + size] = ram[sources[number] : sources[number] + size]
        to += size


@numba.njit(cache=True, nogil=True)
def scan_heads(
    words: NDArray[np.uint64],
    halves: NDArray[np.uint32],
    runs: NDArray[np.int64],
    page: NDArray[np.int64],
    heads: NDArray[np.uint64],
) -> int:
    """Finds every free block's head in the memmap; returns how many rows of ``heads`` it filled.

    A head whose order cannot be is recorded, and only its own page skipped. ``words`` and
    ``halves`` are the same RAM by 8 and by 4 bytes. Full when ``len(heads)`` is returned.
    """
    count = 0
    following = np.int64(0)
    size = page[PAGE_BYTES]
    step = np.uint64(size >> 2)
    mask, value = np.uint32(page[MASK]), np.uint32(page[VALUE])
    for run in range(len(runs)):
        end = runs[run, RUN_PFN] + runs[run, RUN_PAGES]
        # byte offset in RAM that the struct page of pfn 0 would have in this run
        origin = runs[run, RUN_OFFSET] - runs[run, RUN_PFN] * size
        pfn = max(runs[run, RUN_PFN], following)
        half = np.uint64((origin + pfn * size + page[TYPE]) >> 2)
        while pfn < end:
            if (halves[half] & mask) != value:
                pfn += 1
                half += step
                continue
            if count == len(heads):
                return count
            at = origin + pfn * size
            order = words[(at + page[PRIVATE]) >> 3]
            heads[count, HEAD_PFN] = pfn
            heads[count, HEAD_ORDER] = order
            heads[count, HEAD_NEXT] = words[(at + page[LRU]) >> 3]
            heads[count, HEAD_PREV] = words[(at + page[LRU] + 8) >> 3]
            heads[count, HEAD_FLAGS] = words[(at + page[FLAGS]) >> 3]
            count += 1
            pages = np.int64(1) << np.int64(order) if order <= np.uint64(page[MAX_ORDER]) else 1
            pfn += pages
            half += step * np.uint64(pages)
        following = pfn
    return count


@numba.njit(cache=True, nogil=True)
def copy_frames(
    halves: NDArray[np.uint32],
    runs: NDArray[np.int64],
    page: NDArray[np.int64],
    flags: NDArray[np.uint32],
    types: NDArray[np.uint32],
    mappings: NDArray[np.uint8],
) -> None:
    """Takes three fields of every page, one run after the other."""
    to = 0
    size = page[PAGE_BYTES]
    flags_at, type_at, mapping_at = page[FLAGS] >> 2, page[TYPE] >> 2, page[MAPPING] >> 2
    for run in range(len(runs)):
        at = runs[run, RUN_OFFSET] >> 2
        for _ in range(runs[run, RUN_PAGES]):
            flags[to] = halves[at + flags_at]
            types[to] = halves[at + type_at]
            mappings[to] = halves[at + mapping_at] & 3
            to += 1
            at += size >> 2


@numba.njit(cache=True, nogil=True)
def walk_pcp_lists(
    words: NDArray[np.uint64],
    runs: NDArray[np.int64],
    page: NDArray[np.int64],
    vmemmap: np.uint64,
    lists: NDArray[np.uint64],
    pages: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> int:
    """Follows per-cpu lists from head to tail; returns how many rows of ``pages`` it filled.

    ``lists``: virtual address of a list's head, its next, its prev. ``pages``: list, position,
    pfn, the word at INDEX (0 where there is none). ``ends``: one of LIST_* a list.
    """
    count = 0
    size = np.uint64(page[PAGE_BYTES])
    shift = np.uint64(page[LRU]) + vmemmap
    for number in range(len(lists)):
        head = lists[number, 0]
        node = lists[number, 1]
        before = head
        position = 0
        ends[number] = LIST_END
        while node != head:
            relative = node - shift
            pfn = np.int64(relative // size)
            run = np.searchsorted(runs[:, RUN_PFN], pfn, side="right") - 1
            if (
                relative % size != np.uint64(0)
                or run < 0
                or pfn - runs[run, RUN_PFN] >= runs[run, RUN_PAGES]
            ):
                ends[number] = LIST_OUTSIDE
                break
            if count == len(pages):
                ends[number] = LIST_LONG
                break
            at = runs[run, RUN_OFFSET] + (pfn - runs[run, RUN_PFN]) * page[PAGE_BYTES]
            if words[(at + page[LRU] + 8) >> 3] != before:
                ends[number] = LIST_PREV
            pages[count, 0] = number
            pages[count, 1] = position
            pages[count, 2] = pfn
            pages[count, 3] = np.int64(words[(at + page[INDEX]) >> 3]) if page[INDEX] >= 0 else 0
            count += 1
            position += 1
            before = node
            node = words[(at + page[LRU]) >> 3]
        if ends[number] == LIST_END and lists[number, 2] != before:
            ends[number] = LIST_PREV
    return count
