"""The memory of a machine whose kernel takes each piece of it for a node: m68k."""

from __future__ import annotations

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.layout.capture import LayoutInputError, Way, boot
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span

ARCHES = frozenset({"m68k"})


def chunk_memory(snapshot: Snapshot, way: Way) -> tuple[tuple[Span, ...], tuple[NodeSpan, ...]]:
    """The pieces in bytes, and the same with their nodes.

    Kernel: arch/m68k/mm/motorola.c, ``paging_init``: the boot loader's pieces in its order, each a
    node; printed by mm/page_alloc.c, ``free_area_init``, as the early memory node ranges.

    Raises:
        LayoutInputError: the messages that list them are lost.
    """
    said = boot(snapshot).node_ranges if snapshot.has("dmesg") else ()
    if not said:
        raise LayoutInputError("the pieces of memory (dmesg, early memory node ranges) are lost")
    pieces = tuple(NodeSpan(block.node, block.start, block.end) for block in said)
    way.say(
        "pieces of memory (dmesg): "
        + "; ".join(f"node {p.node} {p.start:#x}-{p.end - 1:#x}" for p in pieces)
    )
    return tuple(Span(piece.start, piece.end) for piece in pieces), pieces
