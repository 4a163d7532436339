"""The memmap of one guest, ready to be scanned: arrays, buffers and threads made beforehand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError
from harness.sampling.memory.layout import Layout
from harness.sampling.memory.ram import Ram, Span
from harness.sampling.memory.scan import (
    RUN_OFFSET,
    RUN_PAGES,
    RUN_PFN,
    copy_frames,
    scan_heads,
    walk_pcp_lists,
)
from harness.sampling.memory.topology import Topology

_MAX_THREADS = 4
_PAGES_A_THREAD = 1 << 17
"""Fewer are not worth a thread."""
_MAX_PCP_PAGES = 1 << 20

T = TypeVar("T")


@dataclass(slots=True)
class Frames:
    """Fields of every page of ``Topology.frames``, one range after the other."""

    flags: NDArray[np.uint32]
    types: NDArray[np.uint32]
    mappings: NDArray[np.uint8]

    @classmethod
    def blank(cls, pages: int) -> Frames:
        # ones: memory that was written before is there without a page fault
        return cls(np.ones(pages, np.uint32), np.ones(pages, np.uint32), np.ones(pages, np.uint8))


class Scanner:
    """Reads the memmap by the loops of ``scan``, a part of it in each of a few threads.

    The guest's CPUs stand still meanwhile, so that the host's are free.
    """

    def __init__(self, ram: Ram, layout: Layout, topology: Topology) -> None:
        """Raises MemoryReadError when struct page is not what the loops can read."""
        self._words = ram.array.view(np.uint64)
        self._halves = ram.array.view(np.uint32)
        self._page = _page_vector(layout)
        self._runs = topology.runs
        self._vmemmap = np.uint64(topology.vmemmap)
        self.pages = int(self._runs[:, RUN_PAGES].sum())
        size = layout.page_bytes
        self.spans: list[Span] = [
            (int(run[RUN_OFFSET]) + ram.base, int(run[RUN_PAGES]) * size) for run in self._runs
        ]
        """Where in guest-physical memory the memmap is."""
        threads = max(1, min(os.cpu_count() or 1, _MAX_THREADS, self.pages // _PAGES_A_THREAD))
        self._parts = [
            (runs, int(runs[:, RUN_PAGES].sum()))
            for runs in split_runs(self._runs, threads, layout.max_order, size)
        ]
        # of two pages that could be buddies only one can be a head
        self._heads = [np.ones((pages // 2 + 2, 5), np.uint64) for _, pages in self._parts]
        self._pcp_pages = np.ones((min(self.pages, _MAX_PCP_PAGES), 4), np.int64)
        self._pool = ThreadPoolExecutor(threads, "memmap") if threads > 1 else None

    def close(self) -> None:
        """Lets go of RAM and threads."""
        del self._words, self._halves
        if self._pool is not None:
            self._pool.shutdown()

    def heads(self) -> tuple[list[NDArray[np.uint64]], bool]:
        """Heads of free blocks, in parts in the order of pfns; whether all of them were kept."""

        def part(number: int) -> int:
            runs, heads = self._parts[number][0], self._heads[number]
            return int(scan_heads(self._words, self._halves, runs, self._page, heads))

        counts = list(self._each(part))
        full = any(count == len(heads) for count, heads in zip(counts, self._heads, strict=True))
        return [heads[:count] for count, heads in zip(counts, self._heads, strict=True)], not full

    def frames(self, into: Frames) -> None:
        """Fields of every page."""

        def part(number: int) -> None:
            start = sum(pages for _, pages in self._parts[:number])
            cut = slice(start, start + self._parts[number][1])
            copy_frames(
                self._halves,
                self._parts[number][0],
                self._page,
                into.flags[cut],
                into.types[cut],
                into.mappings[cut],
            )

        list(self._each(part))

    def pcp_pages(self, lists: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pages on per-cpu lists and how each list ended; see ``scan.walk_pcp_lists``."""
        ends = np.zeros(len(lists), np.int64)
        count = walk_pcp_lists(
            self._words, self._runs, self._page, self._vmemmap, lists, self._pcp_pages, ends
        )
        return self._pcp_pages[:count], ends

    def _each(self, part: Callable[[int], T]) -> Iterator[T]:
        numbers = range(len(self._parts))
        return map(part, numbers) if self._pool is None else self._pool.map(part, numbers)


def split_runs(
    runs: NDArray[np.int64], parts: int, max_order: int, page_bytes: int
) -> list[NDArray[np.int64]]:
    """About equal parts, cut at pfns that no free block can lie across."""
    ends = np.cumsum(runs[:, RUN_PAGES])
    cuts: list[int] = []
    for part in range(1, parts):
        before = int(ends[-1]) * part // parts
        row = int(np.searchsorted(ends, before, side="right"))
        pfn = int(runs[row, RUN_PFN] + runs[row, RUN_PAGES] - ends[row]) + before
        cuts.append(-(-pfn >> max_order) << max_order)
    split: list[NDArray[np.int64]] = []
    for low, high in itertools.pairwise([0, *cuts, np.iinfo(np.int64).max]):
        rows = [
            (start, end - start, offset + (start - first) * page_bytes)
            for first, pages, offset in runs.tolist()
            if (start := max(first, low)) < (end := min(first + pages, high))
        ]
        split.append(np.array(rows, np.int64).reshape(-1, 3))
    return split


def _page_vector(layout: Layout) -> NDArray[np.int64]:
    """The layout of struct page in the order of ``scan``'s constants."""
    if layout.page_bytes % 8:
        raise MemoryReadError(f"struct page has {layout.page_bytes} bytes, not whole words")
    return np.array(
        [
            layout.page_bytes,
            layout.page_flags,
            layout.page_lru,
            layout.page_mapping,
            layout.page_private,
            layout.page_type,
            layout.page_index,
            layout.buddy_mask,
            layout.buddy_value,
            layout.max_order,
        ],
        np.int64,
    )
