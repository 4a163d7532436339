"""Which node each range of memory belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analysis.model.layout.pfn import Span, whole_pages


class NodeSpan(NamedTuple):
    """A range of a node; bytes or pages, as its owner says."""

    node: int
    start: int
    end: int

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


class OverlapError(ValueError):
    """Two nodes claim the same memory: the kernel refuses the whole description."""


def cleaned(
    blocks: Iterable[NodeSpan], memory: Sequence[Span], bounds: Span
) -> tuple[NodeSpan, ...]:
    """Blocks of the firmware's NUMA description, in bytes, as the kernel keeps them.

    A block without memory goes; the others are cut to ``bounds``; blocks of one node become one,
    with the hole between them, where no other node lies in that hole.

    Raises:
        OverlapError: blocks of two nodes overlap.

    Kernel: arch/x86/mm/numa.c (mm/numa_memblks.c from 6.12), ``numa_cleanup_meminfo``; 5.10 to
        7.3. The bounds are 0 and max_pfn, from 6.12 the first and the last byte of memory.
    Ignores: holes that CXL windows fill (``numa_fill_memblks``).
    """
    cut = [
        NodeSpan(block.node, max(block.start, bounds.start), min(block.end, bounds.end))
        for block in blocks
        if any(span.start < block.end and block.start < span.end for span in memory)
    ]
    kept = [block for block in cut if block.start < block.end]
    index = 0
    while index < len(kept):
        other = index + 1
        while other < len(kept):
            one, two = kept[index], kept[other]
            if one.node != two.node:
                if one.start < two.end and two.start < one.end:
                    raise OverlapError(f"nodes {one.node} and {two.node} overlap at {two.start:#x}")
                other += 1
                continue
            start, end = min(one.start, two.start), max(one.end, two.end)
            if any(b.node != one.node and start < b.end and end > b.start for b in kept):
                other += 1
                continue
            kept[index] = NodeSpan(one.node, start, end)
            del kept[other]
        index += 1
    return tuple(kept)


def assigned(memory: Sequence[Span], blocks: Sequence[NodeSpan]) -> tuple[NodeSpan, ...]:
    """Memory in bytes cut at the borders of blocks, each piece with its node, in order.

    Raises:
        ValueError: memory that no block covers.

    Kernel: mm/memblock.c, ``memblock_set_node``, called for each block by
        ``numa_register_memblks``; adjacent pieces of one node are one region. 5.10 to 7.3.
    Ignores: the memory without a node (up to 1 MiB) that the kernel tolerates.
    """
    ordered = sorted(blocks, key=lambda block: block.start)
    pieces: list[NodeSpan] = []
    for span in memory:
        at = span.start
        for block in ordered:
            start, end = max(at, block.start), min(span.end, block.end)
            if start >= end:
                continue
            if start > at:
                break
            last = pieces[-1] if pieces else None
            if last is not None and last.node == block.node and last.end == start:
                pieces[-1] = NodeSpan(block.node, last.start, end)
            else:
                pieces.append(NodeSpan(block.node, start, end))
            at = end
        if at < span.end:
            raise ValueError(f"memory at {at:#x} belongs to no node")
    return tuple(pieces)


def in_pages(pieces: Iterable[NodeSpan], page_bytes: int) -> tuple[NodeSpan, ...]:
    """Ranges of bytes as ranges of whole pages; those without one are left out.

    Kernel: mm/memblock.c, ``__next_mem_pfn_range`` (``for_each_mem_pfn_range``); 5.10 to 7.3.
    Ignores: nothing known.
    """
    pages = [(piece.node, whole_pages(piece.span, page_bytes)) for piece in pieces]
    return tuple(NodeSpan(node, s.start, s.end) for node, s in pages if s.start < s.end)


def node_extents(ranges: Iterable[NodeSpan]) -> dict[int, Span]:
    """From the first to the last page of every node with memory, holes included, by node.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``get_pfn_range_for_nid``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    extents: dict[int, Span] = {}
    for node, start, end in ranges:
        old = extents.get(node, Span(start, end))
        extents[node] = Span(min(old.start, start), max(old.end, end))
    return dict(sorted(extents.items()))
