"""What a stop read from outside of a guest's struct pages: pointers, free blocks, and frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import MissingInputError
from analysis.tour.evidence import BootEvidence

Frames = NDArray[np.bool_]
"""Index = page frame number; whether it lies in a free block."""
Finder = Callable[["Head"], int | None]
"""The frame of a struct page under a memory model; None where the model has none there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first page of a free block, as a free list names it."""

    node: int
    zone: int
    order: int
    address: int
    content: bytes

    def word(self, offset: int, size_bytes: int, byte_order: str) -> int:
        """An unsigned number in its struct page."""
        part = self.content[offset : offset + size_bytes]
        return int.from_bytes(part, "big" if byte_order == "big" else "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMap:
    """What a node's pglist_data says."""

    node: int
    start_pfn: int
    spanned_pages: int
    mem_map: int | None


@dataclass(frozen=True, kw_only=True)
class Outside:
    """``outside.json`` of ``harness.tour.stops.memory_models``."""

    symbols: Mapping[str, int]
    """By kallsyms."""
    told: Mapping[str, int]
    """By vmcoreinfo."""
    pointers: Mapping[str, int]
    struct_bytes: int
    section_bits: int | None
    physical_bits: int | None
    byte_order: str
    nodes: tuple[NodeMap, ...]
    sections: tuple[tuple[int, int], ...]
    """(number, ``section_mem_map``)."""
    heads: tuple[Head, ...]

    @cached_property
    def node_of(self) -> Mapping[int, NodeMap]:
        """The nodes by number."""
        return {node.node: node for node in self.nodes}


def read_outside(boot: BootEvidence) -> Outside:
    """Raises MissingInputError: the boot was not read from outside."""
    value: Mapping[str, Any] = boot.json("outside")
    return Outside(
        symbols={str(name): int(at) for name, at in value["symbols"].items()},
        told={str(name): int(at) for name, at in value["vmcoreinfo"].items()},
        pointers={str(name): int(at) for name, at in value["pointers"].items()},
        struct_bytes=int(value["struct_page_bytes"]),
        section_bits=value["section_bits"],
        physical_bits=value["max_physmem_bits"],
        byte_order=str(value["byte_order"]),
        nodes=tuple(NodeMap(**node) for node in value["nodes"]),
        sections=tuple((int(number), int(word)) for number, word in value["sections"]),
        heads=tuple(
            Head(node=node, zone=zone, order=order, address=at, content=bytes.fromhex(content))
            for node, zone, order, at, content in value["heads"]
        ),
    )


def frames_of(heads: Sequence[Head], find: Finder, pages: int) -> tuple[Frames, list[Head]]:
    """The frames of all free blocks by a memory model's formula, and the heads to which it gives
    no frame: none of its own, one beyond the end, or one at which no such block begins."""
    frames = np.zeros(pages, np.bool_)
    lost = []
    for head in heads:
        pfn = find(head)
        size = 1 << head.order
        if pfn is None or pfn % size or not 0 <= pfn <= pages - size:
            lost.append(head)
            continue
        frames[pfn : pfn + size] = True
    return frames, lost


def free_frames(boot: BootEvidence, pages: int) -> tuple[Frames, Frames]:
    """The frames that lie in free blocks by /proc/kpageflags both before and after the free lists
    were read, and those that do at one of the two readings at least.

    Raises:
        MissingInputError: the boot has no such reading, or one without any.
    """
    value: Mapping[str, Any] = boot.json("buddy")
    first, second = (_flagged(value[name], pages) for name in ("first", "second"))
    both: Frames = first & second
    if not both.any():
        raise MissingInputError("frames in free blocks in /proc/kpageflags")
    return both, first | second


def _flagged(runs: Sequence[Sequence[int]], pages: int) -> Frames:
    frames = np.zeros(pages, np.bool_)
    for first, count in runs:
        frames[first : first + count] = True
    return frames
