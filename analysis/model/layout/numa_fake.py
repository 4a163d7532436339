"""``numa=fake=``: nodes that the kernel cuts from the machine's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.model.layout.absent import absent_pages
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_down, align_up, whole_pages
from analysis.model.layout.sizes import leading_size

SMALLEST_BYTES = 32 << 20
_PAGE = 4096


class NotEmulatedError(ValueError):
    """The parameter asks for what the kernel does not do; it keeps the machine's nodes."""


class _Emulation:
    """Physical blocks that shrink from their begin, and the fake ones cut off so far."""

    def __init__(
        self, blocks: Sequence[NodeSpan], memory: Sequence[NodeSpan], dma32_end: int, page: int
    ) -> None:
        self.blocks = list(blocks)
        self.fake: list[NodeSpan] = []
        self._memory = memory
        self._dma32_end = dma32_end
        self._page = page

    def hole(self, start: int, end: int) -> int:
        pages = whole_pages(Span(start, end), self._page)
        return absent_pages(self._memory, pages) * self._page if pages.size > 0 else 0

    def filled(self, start: int, end: int) -> int:
        return end - start - self.hole(start, end)

    def block_of(self, node: int) -> int | None:
        return next((i for i, block in enumerate(self.blocks) if block.node == node), None)

    def grown(self, start: int, end: int, limit: int, size: int) -> int:
        while self.filled(start, end) < size:
            end += SMALLEST_BYTES
            if end > limit:
                return limit
        return end

    def past_dma32(self, end: int) -> int:
        if end < self._dma32_end and self.filled(end, self._dma32_end) < SMALLEST_BYTES:
            return self._dma32_end
        return end

    def cut(self, index: int, fake_node: int, end: int) -> None:
        block = self.blocks[index]
        end = min(end, block.end)
        self.fake.append(NodeSpan(fake_node, block.start, end))
        if end >= block.end:
            del self.blocks[index]
        else:
            self.blocks[index] = NodeSpan(block.node, end, block.end)


def fake_nodes(
    value: str,
    blocks: Sequence[NodeSpan],
    memory: Sequence[NodeSpan],
    *,
    limit: int,
    dma32_end: int,
    nodes_max: int,
    page_bytes: int = _PAGE,
) -> tuple[NodeSpan, ...]:
    """The fake nodes, in bytes and in the order in which they are cut.

    ``value`` is what follows ``numa=fake=``: a number of nodes, a size with M or G, or a number
    with U (that many equal parts of each physical node, holes not counted). ``blocks`` are the
    physical nodes after ``cleaned``, ``memory`` the memory in pages, ``limit`` max_pfn in bytes.

    Raises:
        NotEmulatedError: the parameter asks for nothing that can be done.

    Kernel: arch/x86/mm/numa_emulation.c (mm/ from 6.12), ``numa_emulation`` and
        ``split_nodes_*``; 5.10 to 7.3, CONFIG_NUMA_EMU.
    Ignores: what follows a colon, which sets distances; more blocks than the kernel's table.
    """
    state = _Emulation(blocks, memory, dma32_end, page_bytes)
    physical = sorted({block.node for block in blocks})
    size_text = value.split(":")[0]
    if "U" in value:
        _uniform(state, physical, _count(size_text), page_bytes)
    elif "M" in value or "G" in value:
        _by_size(state, physical, leading_size(size_text)[0], limit, nodes_max, page_bytes)
    else:
        _by_count(state, physical, min(_count(size_text), nodes_max), limit, page_bytes)
    return tuple(state.fake)


def _count(text: str) -> int:
    try:
        count, _ = leading_size(text)
    except ValueError:
        count = 0
    if count <= 0:
        raise NotEmulatedError(f"numa=fake={text} names no number of nodes")
    return count


def _in_turn(state: _Emulation, physical: list[int]) -> Iterator[int]:
    """The block to cut next: of one physical node after the other, while they have any."""
    left = list(physical)
    while left:
        for node in list(left):
            index = state.block_of(node)
            if index is None:
                left.remove(node)
            else:
                yield index


def _by_count(state: _Emulation, physical: list[int], count: int, limit: int, page: int) -> None:
    size = state.filled(0, limit) // page // count * page
    larger = size % SMALLEST_BYTES * count // SMALLEST_BYTES
    size = align_down(size, SMALLEST_BYTES)
    if not size:
        raise NotEmulatedError("there is not enough memory for each node")
    for made, index in enumerate(_in_turn(state, physical)):
        _, start, block_end = state.blocks[index]
        end = start + size + (SMALLEST_BYTES if made < larger else 0)
        end = state.past_dma32(state.grown(start, end, block_end, size))
        if state.filled(end, block_end) < size:
            end = block_end
        state.cut(index, made % count, end)


def _by_size(
    state: _Emulation, physical: list[int], size: int, limit: int, nodes_max: int, page: int
) -> None:
    if not size:
        raise NotEmulatedError("a size of 0")
    smallest = state.filled(0, limit) // page // nodes_max * page
    smallest = align_up(max(smallest, SMALLEST_BYTES), SMALLEST_BYTES)
    size = align_down(max(size, smallest), SMALLEST_BYTES)
    for made, index in enumerate(_in_turn(state, physical)):
        _, start, block_end = state.blocks[index]
        end = state.past_dma32(state.grown(start, start + size, block_end, size))
        if state.filled(end, block_end) < size:
            end = block_end
        state.cut(index, made % nodes_max, end)


def _uniform(state: _Emulation, physical: list[int], count: int, page: int) -> None:
    made = 0
    for _ in physical:
        if not state.blocks:
            break
        node, first, last = state.blocks[0]
        size = (last - first) // page // count * page
        size = align_down(align_up(max(size, SMALLEST_BYTES), SMALLEST_BYTES), SMALLEST_BYTES)
        before = made
        while (index := state.block_of(node)) is not None:
            end = state.past_dma32(state.blocks[index].start + size)
            state.cut(index, made, end)
            made += 1
        if made - before < count:
            raise NotEmulatedError(f"node {node} gives {made - before} of {count} nodes")
