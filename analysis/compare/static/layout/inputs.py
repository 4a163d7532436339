"""The memory layout that the model computes for a capture, with the way to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.layout import chunks
from analysis.compare.static.layout.capture import (
    FOUR_GIB,
    MEMORY_ROOT,
    LayoutInputError,
    LayoutUnknownError,
    Way,
    boot,
    hexes,
    options,
)
from analysis.compare.static.layout.map import (
    added_memory,
    added_unknown,
    iomem_memory,
    physical_tree,
    x86_memory,
)
from analysis.compare.static.layout.nodes import node_pieces
from analysis.model.layout.device_zone import device_zone_span, node_of_range
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.hot_added import added_blocks, movable_zone
from analysis.model.layout.movable import highest_zone, movable_starts, required_kernelcore
from analysis.model.layout.nodes import NodeSpan, in_pages, node_extents
from analysis.model.layout.orders import buddy_orders
from analysis.model.layout.pfn import Span
from analysis.model.layout.sizes import core_pages
from analysis.model.layout.zone_limits import (
    MOVABLE,
    arm64_zone_ends,
    m68k_zone_ends,
    riscv_zone_ends,
    x86_zone_ends,
    zone_names,
    zone_ranges,
)
from analysis.model.layout.zones import ZoneLayout, zone_layout

_MODEL = re.compile(r"Machine model: (.*)")
_HAS_ACPI = re.compile(r"ACPI: RSDP |ACPI: Early table")
_NARROW_DMA = ("Raspberry Pi 4", "Raspberry Pi 400", "Raspberry Pi Compute Module 4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a machine's memory is, and whose."""

    memory: tuple[Span, ...]
    """Bytes."""
    max_pfn: int
    ranges: tuple[NodeSpan, ...]
    """Pages."""
    fake: tuple[NodeSpan, ...]
    """Bytes, in the order in which they were cut."""
    added: tuple[Span, ...]
    """What came after boot, in bytes; the rest tells of boot alone."""
    steps: tuple[str, ...]
    """The way from the inputs, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The zones that a machine's memory makes."""

    placement: Placement
    names: tuple[str, ...]
    limits: Mapping[str, Span]
    movable: Mapping[int, int]
    zones: tuple[ZoneLayout, ...]
    orders: int
    steps: tuple[str, ...]
    """The way from the inputs, a line each."""


def _zone_ends(
    snapshot: Snapshot, memory: Sequence[Span], max_pfn: int, way: Way
) -> dict[str, int]:
    page = snapshot.page_size_bytes
    arch = snapshot.arch
    if arch == "x86_64":
        return x86_zone_ends(max_pfn, max_pfn)
    if arch == "i386":
        low = boot(snapshot).low_ram_end
        if low is None:
            raise LayoutInputError("how much memory is mapped directly (dmesg, low ram) is lost")
        way.say(f"mapped directly (dmesg, low ram): to {low:#x}")
        return x86_zone_ends(min(low // page, max_pfn), max_pfn)
    if arch == "arm64":
        limit = _dma_limit(snapshot, memory)
        way.say(f"every bus master reaches {limit:#x}")
        return arm64_zone_ends(memory, limit, page)
    if arch == "m68k":
        return m68k_zone_ends(max(span.end for span in memory))
    if arch == "riscv64":
        return riscv_zone_ends(memory, page)
    raise LayoutUnknownError(f"zone limits are not modelled for {arch}")


def _dma_limit(snapshot: Snapshot, memory: Sequence[Span]) -> int:
    if memory[0].start >= FOUR_GIB:
        return FOUR_GIB
    model = next((m[1] for m in snapshot.dmesg.matching(_MODEL)), None)
    if model is not None and model.startswith(_NARROW_DMA):
        return 1 << 30
    if model == "linux,dummy-virt" or any(True for _ in snapshot.dmesg.matching(_HAS_ACPI)):
        return FOUR_GIB
    raise LayoutInputError(
        f"the dma-ranges of the device tree are not in the capture (machine model: {model})"
    )


def _movable(
    snapshot: Snapshot,
    ranges: Sequence[NodeSpan],
    limits: Mapping[str, Span],
    orders: int,
    way: Way,
) -> dict[int, int]:
    line = snapshot.cmdline
    page = snapshot.page_size_bytes
    if line.has("movable_node"):
        hot = [b for b in boot(snapshot).srat if "hotplug" in b.flags]
        if hot:
            raise LayoutInputError(
                "movable_node: which nodes hold memory of the kernel before SRAT is read is not "
                "in the capture"
            )
        way.say("movable_node: the firmware marks no memory as hotpluggable")
        return {}
    kernelcore, movablecore = line.all("kernelcore"), line.all("movablecore")
    if any("mirror" in value for value in kernelcore):
        lost = re.compile(r"The system has no mirror memory")
        if not any(True for _ in snapshot.dmesg.matching(lost)):
            raise LayoutInputError("kernelcore=mirror: which memory is mirrored is not shown")
        return {}
    if not kernelcore and not movablecore:
        way.say("neither kernelcore= nor movablecore= is given: no ZONE_MOVABLE")
        return {}
    total = sum(piece.end - piece.start for piece in ranges)
    try:
        core = core_pages(kernelcore[-1], total, page) if kernelcore else 0
        movable = core_pages(movablecore[-1], total, page) if movablecore else 0
    except ValueError as error:
        raise LayoutUnknownError(str(error)) from None
    largest = 1 << (orders - 1)
    required = required_kernelcore(total, core, movable, largest)
    lowest = limits[highest_zone(limits)].start
    starts = movable_starts(ranges, required, lowest, largest)
    way.say(
        f"kernelcore {core} and movablecore {movable} of {total} pages: {required} for the "
        f"kernel, spread over the nodes from pfn {lowest:#x} on, up to whole {largest}-page blocks"
    )
    return starts


def orders_of(snapshot: Snapshot, era: LayoutEra) -> int:
    """Orders of the buddy: of the configuration, else as many as buddyinfo has columns."""
    if snapshot.has("config"):
        value = snapshot.config.number("ARCH_FORCE_MAX_ORDER")
        old = snapshot.config.number("FORCE_MAX_ZONEORDER")
        if value is None and old is not None:
            return buddy_orders(old, inclusive=False)
        return buddy_orders(value, inclusive=era.max_order_inclusive)
    return len(snapshot.buddyinfo[0].free_blocks)


@lru_cache(maxsize=8)
def placement(snapshot: Snapshot, era: LayoutEra) -> Placement:
    """Where the memory of a capture is, under the rules of an era.

    Raises:
        LayoutUnknownError: an input says that the rules here are not those in force, or none
            says which.
        MissingInputError, ParseError: an input is missing or cannot be read.
    """
    way = Way()
    if snapshot.arch in chunks.ARCHES:
        memory, pieces = chunks.chunk_memory(snapshot, way)
        return Placement(
            memory=memory,
            max_pfn=max(span.end for span in memory) // snapshot.page_size_bytes,
            ranges=in_pages(pieces, snapshot.page_size_bytes),
            fake=(),
            added=(),
            steps=tuple(way.steps),
        )
    if snapshot.arch in ("x86_64", "i386"):
        memory, max_pfn = x86_memory(snapshot, era, way)
    else:
        memory, max_pfn = iomem_memory(snapshot, way)
    if not memory:
        raise LayoutUnknownError("the map has no memory")
    added = added_memory(snapshot, memory)
    pieces, fake = node_pieces(snapshot, era, memory, max_pfn, way)
    return Placement(
        memory=tuple(memory),
        max_pfn=max_pfn,
        ranges=in_pages(pieces, snapshot.page_size_bytes),
        fake=fake,
        added=added,
        steps=tuple(way.steps),
    )


def device_zones(snapshot: Snapshot, place: Placement) -> dict[int, Span]:
    """Page frames of ZONE_DEVICE by node, of the namespaces in legacy persistent memory.

    Raises:
        LayoutUnknownError: something else maps device memory, and where is not in the capture.
    """
    page = snapshot.page_size_bytes
    extents = {
        node: Span(span.start * page, span.end * page)
        for node, span in node_extents(place.ranges).items()
    }
    mapped: dict[int, list[Span]] = {}
    outer = ""
    for resource in physical_tree(snapshot).resources:
        if resource.depth == 0:
            outer = resource.name
        if not resource.name.startswith(("namespace", "dax")):
            continue
        span = Span(resource.start, resource.end)
        node = node_of_range(span, extents)
        if outer != "Persistent Memory (legacy)" or node is None:
            raise LayoutUnknownError(
                f"how the driver maps {resource.name} in {outer} into ZONE_DEVICE is not modelled"
            )
        mapped.setdefault(node, []).append(span)
    return {node: device_zone_span(spans, page) for node, spans in mapped.items()}


def at_boot(place: Placement) -> Placement:
    """The placement, for rules that describe no other memory.

    Raises:
        LayoutUnknownError: some was added since.
    """
    if place.added:
        raise added_unknown(place.added)
    return place


@lru_cache(maxsize=8)
def layout_now(snapshot: Snapshot, era: LayoutEra) -> Layout:
    """The zones of a capture, with ZONE_MOVABLE of memory that was added since boot.

    Raises:
        LayoutUnknownError, MissingInputError, ParseError: as ``placement``; or the memory was
            added elsewhere than to the ZONE_MOVABLE of the only node, which had none.
    """
    plan = layout(snapshot, era)
    added = plan.placement.added
    if not added:
        return plan
    page = snapshot.page_size_bytes
    if not snapshot.has(f"{MEMORY_ROOT}block_size_bytes"):
        raise added_unknown(added)
    block_bytes = snapshot.number(f"{MEMORY_ROOT}block_size_bytes", 16)
    blocks = added_blocks(_blocks_of(added, block_bytes), block_bytes, plan.placement.memory)
    kinds = {_zone_of_block(snapshot, block) for block in blocks}
    nodes = list(node_extents(plan.placement.ranges))
    if len(nodes) != 1 or plan.movable or kinds != {MOVABLE}:
        raise added_unknown(added)
    zone = movable_zone(nodes[0], blocks, block_bytes, page)
    others = tuple(each for each in plan.zones if each.zone != MOVABLE)
    fresh = in_pages([NodeSpan(nodes[0], span.start, span.end) for span in added], page)
    numbers = " ".join(map(str, blocks))
    return replace(
        plan,
        placement=replace(
            plan.placement,
            ranges=(*plan.placement.ranges, *fresh),
            max_pfn=max(plan.placement.max_pfn, zone.start_pfn + zone.spanned_pages),
        ),
        zones=(*others, zone),
        steps=(*plan.steps, f"added since, as {MOVABLE}: {hexes(added)}, memory blocks {numbers}"),
    )


def _zone_of_block(snapshot: Snapshot, block: int) -> str:
    """The zone that a memory block was onlined to; empty where the capture does not say."""
    return (snapshot.source.text(f"{MEMORY_ROOT}memory{block}/valid_zones") or "").strip()


def _blocks_of(spans: Sequence[Span], block_bytes: int) -> list[int]:
    """The memory blocks that lie in these spans of bytes."""
    return [
        block
        for span in spans
        for block in range(span.start // block_bytes, -(-span.end // block_bytes))
    ]


@lru_cache(maxsize=8)
def layout(snapshot: Snapshot, era: LayoutEra) -> Layout:
    """The zones of a capture under the rules of an era.

    Raises:
        LayoutUnknownError, MissingInputError, ParseError: as ``placement``.
    """
    place = placement(snapshot, era)
    way = Way(steps=list(place.steps))
    if snapshot.has("config"):
        names = zone_names(options(snapshot))
    else:
        names = tuple(dict.fromkeys(zone.zone for zone in snapshot.zoneinfo.zones))
    ends = _zone_ends(snapshot, place.memory, place.max_pfn, way)
    limits = zone_ranges(names, ends, place.ranges[0].start)
    way.say(
        "zone limits, pfn: "
        + "; ".join(f"{n} {s.start:#x}-{s.end - 1:#x}" for n, s in limits.items() if s.size)
    )
    orders = orders_of(snapshot, era)
    movable = _movable(snapshot, place.ranges, limits, orders, way)
    return Layout(
        placement=place,
        names=names,
        limits=limits,
        movable=movable,
        zones=zone_layout(names, limits, place.ranges, movable, highest_zone(limits)),
        orders=orders,
        steps=tuple(way.steps),
    )
