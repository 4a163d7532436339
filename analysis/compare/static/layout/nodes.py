"""The nodes of a capture's memory."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.layout.capture import (
    FOUR_GIB,
    LayoutInputError,
    LayoutUnknownError,
    Way,
    boot,
)
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.nodes import NodeSpan, OverlapError, assigned, cleaned, in_pages
from analysis.model.layout.numa_fake import NotEmulatedError, fake_nodes
from analysis.model.layout.pfn import Span


def node_pieces(
    snapshot: Snapshot, era: LayoutEra, memory: Sequence[Span], max_pfn: int, way: Way
) -> tuple[tuple[NodeSpan, ...], tuple[NodeSpan, ...]]:
    """Pieces of memory in bytes with their nodes, and the fake nodes as they were cut.

    Raises:
        LayoutUnknownError: nothing says which node has which memory.
    """
    page = snapshot.page_size_bytes
    said = boot(snapshot) if snapshot.has("dmesg") else None
    bounds = Span(0, max_pfn * page)
    if era.numa_blocks_begin_with_memory:
        bounds = Span(memory[0].start, memory[-1].end)
    everything = NodeSpan(0, *bounds)
    blocks: tuple[NodeSpan, ...] | None = None
    if said is not None and said.single_node:
        blocks = (everything,)
        way.say("no NUMA description: all memory belongs to node 0")
    elif said is not None and said.srat:
        listed = [NodeSpan(b.node, b.start, b.end) for b in said.srat]
        try:
            blocks = cleaned(listed, memory, bounds)
        except OverlapError as error:
            raise LayoutUnknownError(f"the kernel refuses the SRAT: {error}") from None
        way.say("SRAT: " + "; ".join(f"node {b.node} {b.start:#x}-{b.end - 1:#x}" for b in blocks))
    elif len(snapshot.nodes) == 1 and snapshot.nodes == (0,):
        blocks = (everything,)
        way.say("one node: all memory belongs to node 0")
    fake: tuple[NodeSpan, ...] = ()
    if blocks is not None:
        blocks, fake = _emulated(snapshot, memory, blocks, max_pfn, way)
        try:
            return assigned(memory, blocks), fake
        except ValueError as error:
            raise LayoutUnknownError(str(error)) from None
    if said is None or not said.node_setups:
        raise LayoutInputError(
            "which node has which memory is not in the capture: no SRAT and no node ranges in dmesg"
        )
    setups = [NodeSpan(node, *span) for node, span in said.node_setups.items()]
    way.say(
        "node borders (dmesg, Initmem setup node): "
        + "; ".join(f"node {b.node} {b.start:#x}-{b.end - 1:#x}" for b in setups)
    )
    try:
        return assigned(memory, cleaned(setups, memory, bounds)), ()
    except ValueError as error:
        raise LayoutUnknownError(str(error)) from None


def _emulated(
    snapshot: Snapshot,
    memory: Sequence[Span],
    blocks: tuple[NodeSpan, ...],
    max_pfn: int,
    way: Way,
) -> tuple[tuple[NodeSpan, ...], tuple[NodeSpan, ...]]:
    value = next(
        (v[5:] for v in reversed(snapshot.cmdline.all("numa")) if v.startswith("fake=")), None
    )
    if value is None or not snapshot.config.on("NUMA_EMU"):
        return blocks, ()
    page = snapshot.page_size_bytes
    physical = in_pages((NodeSpan(0, s.start, s.end) for s in memory), page)
    x86 = snapshot.arch in ("x86_64", "i386")
    try:
        fake = fake_nodes(
            value,
            blocks,
            physical,
            limit=max_pfn * page,
            dma32_end=FOUR_GIB if x86 else memory[0].start + FOUR_GIB,
            nodes_max=1 << (snapshot.config.number("NODES_SHIFT") or 0),
            page_bytes=page,
        )
    except NotEmulatedError as error:
        way.say(f"numa=fake={value} changes nothing: {error}")
        return blocks, ()
    way.say(
        f"numa=fake={value}: "
        + "; ".join(f"node {b.node} {b.start:#x}-{b.end - 1:#x}" for b in fake)
    )
    return fake, fake
