"""The memory layout that the model computes for a capture, with the way to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from analysis.capture.snapshot import Snapshot
from analysis.errors import MissingInputError
from analysis.model.layout import memory_map
from analysis.model.layout.eras_layout import LayoutEra, layout_eras_of
from analysis.model.layout.memory_map import MapEntry
from analysis.model.layout.movable import highest_zone, movable_starts, required_kernelcore
from analysis.model.layout.nodes import NodeSpan, OverlapError, assigned, cleaned, in_pages
from analysis.model.layout.numa_fake import NotEmulatedError, fake_nodes
from analysis.model.layout.orders import buddy_orders
from analysis.model.layout.pfn import Span, merged
from analysis.model.layout.sizes import core_pages
from analysis.model.layout.zone_limits import (
    arm64_zone_ends,
    riscv_zone_ends,
    x86_zone_ends,
    zone_names,
    zone_ranges,
)
from analysis.model.layout.zones import ZoneLayout, zone_layout
from analysis.procfs import boot_layout, iomem
from analysis.procfs.boot_layout import BootLayout
from analysis.procfs.dmesg import parse as parse_dmesg
from analysis.procfs.iomem import Iomem

MEMMAP_ROOT = "sys/firmware/memmap/"
MEMORY_ROOT = "sys/devices/system/memory/"

_FIRMWARE_MAP = "BIOS-provided"
_USER_MAP = "user-defined"
_TYPES = {
    "usable": memory_map.RAM,
    "System RAM": memory_map.RAM,
    "reserved": memory_map.RESERVED,
    "device reserved": memory_map.RESERVED,
    "Reserved": memory_map.RESERVED,
    "ACPI data": memory_map.ACPI,
    "ACPI Tables": memory_map.ACPI,
    "ACPI NVS": memory_map.NVS,
    "ACPI Non-volatile Storage": memory_map.NVS,
    "unusable": memory_map.UNUSABLE,
    "Unusable memory": memory_map.UNUSABLE,
    "soft reserved": memory_map.SOFT_RESERVED,
    "Soft Reserved": memory_map.SOFT_RESERVED,
    "Persistent Memory": memory_map.PMEM,
    "Persistent Memory (legacy)": memory_map.PRAM,
}
_NUMBERED = re.compile(r".*\(?type (\d+)\)?")
_MODEL = re.compile(r"Machine model: (.*)")
_HAS_ACPI = re.compile(r"ACPI: RSDP |ACPI: Early table")
_NARROW_DMA = ("Raspberry Pi 4", "Raspberry Pi 400", "Raspberry Pi Compute Module 4")
_FOUR_GIB = 1 << 32


class LayoutUnknownError(Exception):
    """The layout cannot be computed from what the capture has; the text says why."""


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


@dataclass(slots=True)
class _Way:
    steps: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.steps.append(text)


def eras(snapshot: Snapshot) -> tuple[LayoutEra, ...]:
    """The layout rules that may be in force in the kernel of a capture, each once."""
    found: dict[LayoutEra, None] = {}
    for release in snapshot.releases:
        found.update(dict.fromkeys(layout_eras_of(release)))
    return tuple(found)


def boot(snapshot: Snapshot) -> BootLayout:
    """What the kernel said while it booted.

    Raises:
        MissingInputError: the capture has no messages.
    """
    return snapshot.parsed("dmesg", _read_boot)


def _read_boot(text: str, *, source: str) -> BootLayout:
    return boot_layout.read(parse_dmesg(text, source=source))


def options(snapshot: Snapshot) -> frozenset[str]:
    """The options that are built in.

    Raises:
        MissingInputError: the capture has no configuration.
    """
    return frozenset(name for name, value in snapshot.config.values.items() if value == "y")


def hexes(spans: Sequence[Span]) -> str:
    """Ranges of bytes as a reader knows them from dmesg."""
    return ", ".join(f"{span.start:#x}-{span.end - 1:#x}" for span in spans)


def map_type(text: str) -> int | None:
    """The number of a type that the kernel prints by name."""
    if text in _TYPES:
        return _TYPES[text]
    match = _NUMBERED.match(text)
    return int(match[1]) if match else None


def firmware_map(snapshot: Snapshot) -> tuple[str, tuple[MapEntry, ...]]:
    """The map as the firmware gave it (x86), and where it was read.

    Raises:
        LayoutUnknownError: no file has it.
    """
    rows: list[tuple[int, int, str]] = []
    place = "dmesg, BIOS-provided physical RAM map"
    if snapshot.has("dmesg"):
        found = boot(snapshot).maps.get(_FIRMWARE_MAP, ())
        rows = [(row.start, row.end, row.type) for row in found]
    if not rows:
        place = "sys/firmware/memmap"
        numbers = {
            name[len(MEMMAP_ROOT) :].split("/")[0]
            for name in snapshot.source.files
            if name.startswith(MEMMAP_ROOT)
        }
        for number in sorted(numbers):
            start, end, kind = (
                snapshot.text(f"{MEMMAP_ROOT}{number}/{part}").strip()
                for part in ("start", "end", "type")
            )
            rows.append((int(start, 16), int(end, 16) + 1, kind))
    if not rows:
        raise LayoutUnknownError(
            "no firmware memory map: dmesg has lost its begin, and sys/firmware/memmap is not "
            "in the capture"
        )
    entries = []
    for first, last, name in sorted(rows):
        known = map_type(name)
        if known is None:
            raise LayoutUnknownError(f"the memory map has a type that is not known: {name!r}")
        entries.append(MapEntry(start=first, end=last, type=known))
    return place, tuple(entries)


def parameter_map(snapshot: Snapshot) -> tuple[tuple[MapEntry, ...], list[str]]:
    """The map after ``mem=`` and ``memmap=``, and the way to it.

    Raises:
        LayoutUnknownError, MissingInputError: an input is not there.
    """
    place, entries = firmware_map(snapshot)
    ram = [Span(e.start, e.end) for e in entries if e.type == memory_map.RAM]
    steps = [f"RAM of the firmware's map ({place}): {hexes(ram)}"]
    words = [(name, value) for name, value in snapshot.cmdline.words if name in ("mem", "memmap")]
    if not words:
        return memory_map.resolved(entries), steps
    try:
        entries = memory_map.with_parameters(entries, words)
    except ValueError as error:
        raise LayoutUnknownError(f"a parameter of the memory map: {error}") from None
    ram = [Span(e.start, e.end) for e in entries if e.type == memory_map.RAM]
    given = " ".join(f"{name}={value}" for name, value in words)
    steps.append(f"RAM after {given}: {hexes(ram)}")
    return entries, steps


def settled_map(
    snapshot: Snapshot, entries: tuple[MapEntry, ...], *, final: bool
) -> tuple[tuple[MapEntry, ...], list[str]]:
    """The map after the changes that the kernel makes itself, and the way to it.

    The first page and the BIOS area are the model's; what else it changes, for reasons that are
    not in a capture (a trimmed MTRR, a table of EFI), is taken from its messages: those before
    the end of memory is settled, or with ``final`` all.
    """
    steps: list[str] = []
    asked = {"mem", "memmap"} & {name for name, _ in snapshot.cmdline.words}
    for change in boot(snapshot).changes if snapshot.has("dmesg") else ():
        old, new = map_type(change.old), map_type(change.new or "")
        low = change.start < 1 << 20 and old == memory_map.RAM
        if old == new or low or (asked and change.new is None) or (change.final and not final):
            continue
        span = Span(change.start, change.end)
        entries = memory_map.retyped(entries, span, old, new)
        steps.append(f"changed at boot: {hexes([span])} {change.old} to {change.new or 'nothing'}")
    return memory_map.trimmed(entries), steps


def _x86_memory(snapshot: Snapshot, era: LayoutEra, way: _Way) -> tuple[tuple[Span, ...], int]:
    entries, steps = parameter_map(snapshot)
    way.steps += steps
    entries, steps = settled_map(snapshot, entries, final=False)
    way.steps += steps
    max_pfn = memory_map.end_of_ram_pfn(entries, acpi_counts=era.acpi_counts_as_ram)
    memory = memory_map.memblock_memory(entries, 4096)
    if snapshot.arch == "i386" and not snapshot.config.on("X86_PAE"):
        memory = tuple(span for span in memory if span.end < _FOUR_GIB)
        max_pfn = min(max_pfn, _FOUR_GIB // 4096)
    way.say(f"without the first page, the BIOS area and broken pages: {hexes(memory)}")
    way.say(f"max_pfn {max_pfn:#x}")
    return memory, max_pfn


def physical_tree(snapshot: Snapshot) -> Iomem:
    """The ranges of proc/iomem.

    Raises:
        LayoutUnknownError: its reader was not shown the addresses.
    """
    tree = snapshot.parsed("proc/iomem", iomem.parse)
    if tree.hidden:
        raise LayoutUnknownError("proc/iomem was read without privilege: it shows no addresses")
    return tree


def _iomem_memory(snapshot: Snapshot, way: _Way) -> tuple[tuple[Span, ...], int]:
    page = snapshot.page_size_bytes
    spans = merged(
        Span(resource.start, resource.end)
        for resource in physical_tree(snapshot).resources
        if resource.depth == 0 and resource.name in ("System RAM", "reserved", "Reserved")
    )
    if not spans:
        raise LayoutUnknownError("proc/iomem names no System RAM")
    way.say(f"System RAM, and what is mapped for nobody, of proc/iomem: {hexes(spans)}")
    return spans, spans[-1].end // page


def _check_hotplug(snapshot: Snapshot, memory: Sequence[Span]) -> None:
    states = [
        name
        for name in snapshot.source.files
        if name.startswith(MEMORY_ROOT) and name.endswith("/state")
    ]
    offline = [name for name in states if snapshot.text(name).strip() != "online"]
    if offline:
        raise LayoutUnknownError(f"memory is offline: {offline[0]}")
    if not snapshot.has("proc/iomem"):
        return
    tree = snapshot.parsed("proc/iomem", iomem.parse)
    boot_memory = memory
    if snapshot.arch not in ("x86_64", "i386") and snapshot.has("dmesg"):
        said = boot(snapshot).node_ranges
        if said:
            boot_memory = merged(Span(block.start, block.end) for block in said)
    for resource in tree.resources:
        if tree.hidden or not resource.name.startswith("System RAM"):
            continue
        inside = any(
            span.start <= resource.start + 4096 and resource.end <= span.end + 4096
            for span in merged(boot_memory)
        )
        if not inside and resource.end > 1 << 20:
            raise LayoutUnknownError(
                f"memory was added after boot: {resource.start:#x}-{resource.end - 1:#x}"
            )


def _nodes(
    snapshot: Snapshot, era: LayoutEra, memory: Sequence[Span], max_pfn: int, way: _Way
) -> tuple[tuple[NodeSpan, ...], tuple[NodeSpan, ...]]:
    """Pieces of memory in bytes with their nodes, and the fake nodes."""
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
        raise LayoutUnknownError(
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
    way: _Way,
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
            dma32_end=_FOUR_GIB if x86 else memory[0].start + _FOUR_GIB,
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


def _zone_ends(
    snapshot: Snapshot, memory: Sequence[Span], max_pfn: int, way: _Way
) -> dict[str, int]:
    page = snapshot.page_size_bytes
    arch = snapshot.arch
    if arch == "x86_64":
        return x86_zone_ends(max_pfn, max_pfn)
    if arch == "i386":
        low = boot(snapshot).low_ram_end
        if low is None:
            raise LayoutUnknownError("how much memory is mapped directly (dmesg, low ram) is lost")
        way.say(f"mapped directly (dmesg, low ram): to {low:#x}")
        return x86_zone_ends(min(low // page, max_pfn), max_pfn)
    if arch == "arm64":
        limit = _dma_limit(snapshot, memory)
        way.say(f"every bus master reaches {limit:#x}")
        return arm64_zone_ends(memory, limit, page)
    if arch == "riscv64":
        return riscv_zone_ends(memory, page)
    raise LayoutUnknownError(f"zone limits are not modelled for {arch}")


def _dma_limit(snapshot: Snapshot, memory: Sequence[Span]) -> int:
    if memory[0].start >= _FOUR_GIB:
        return _FOUR_GIB
    model = next((m[1] for m in snapshot.dmesg.matching(_MODEL)), None)
    if model is not None and model.startswith(_NARROW_DMA):
        return 1 << 30
    if model == "linux,dummy-virt" or any(True for _ in snapshot.dmesg.matching(_HAS_ACPI)):
        return _FOUR_GIB
    raise LayoutUnknownError(
        f"the dma-ranges of the device tree are not in the capture (machine model: {model})"
    )


def _movable(
    snapshot: Snapshot,
    ranges: Sequence[NodeSpan],
    limits: Mapping[str, Span],
    orders: int,
    way: _Way,
) -> dict[int, int]:
    line = snapshot.cmdline
    page = snapshot.page_size_bytes
    if line.has("movable_node"):
        hot = [b for b in boot(snapshot).srat if "hotplug" in b.flags]
        if hot:
            raise LayoutUnknownError(
                "movable_node: which nodes hold memory of the kernel before SRAT is read is not "
                "in the capture"
            )
        way.say("movable_node: the firmware marks no memory as hotpluggable")
        return {}
    kernelcore, movablecore = line.all("kernelcore"), line.all("movablecore")
    if any("mirror" in value for value in kernelcore):
        lost = re.compile(r"The system has no mirror memory")
        if not any(True for _ in snapshot.dmesg.matching(lost)):
            raise LayoutUnknownError("kernelcore=mirror: which memory is mirrored is not shown")
        return {}
    if not kernelcore and not movablecore:
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


@lru_cache(maxsize=16)
def placement(snapshot: Snapshot, era: LayoutEra) -> Placement:
    """Where the memory of a capture is, under the rules of an era.

    Raises:
        LayoutUnknownError: an input says that the rules here are not those in force, or none
            says which.
        MissingInputError, ParseError: an input is missing or cannot be read.
    """
    way = _Way()
    if snapshot.arch in ("x86_64", "i386"):
        memory, max_pfn = _x86_memory(snapshot, era, way)
    else:
        memory, max_pfn = _iomem_memory(snapshot, way)
    if not memory:
        raise LayoutUnknownError("the map has no memory")
    _check_hotplug(snapshot, memory)
    pieces, fake = _nodes(snapshot, era, memory, max_pfn, way)
    return Placement(
        memory=tuple(memory),
        max_pfn=max_pfn,
        ranges=in_pages(pieces, snapshot.page_size_bytes),
        fake=fake,
        steps=tuple(way.steps),
    )


@lru_cache(maxsize=16)
def layout(snapshot: Snapshot, era: LayoutEra) -> Layout:
    """The zones of a capture under the rules of an era.

    Raises:
        LayoutUnknownError, MissingInputError, ParseError: as ``placement``.
    """
    place = placement(snapshot, era)
    way = _Way(steps=list(place.steps))
    if snapshot.has("config"):
        names = zone_names(options(snapshot))
    else:
        names = tuple(dict.fromkeys(zone.zone for zone in snapshot.zoneinfo.zones))
    ends = _zone_ends(snapshot, place.memory, place.max_pfn, way)
    limits = zone_ranges(names, ends, place.ranges[0].start)
    way.say(
        "zone limits: "
        + "; ".join(f"{n} {s.start:#x}-{s.end:#x}" for n, s in limits.items() if s.size)
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


def user_map(snapshot: Snapshot) -> tuple[MapEntry, ...]:
    """The map that the kernel printed after the parameters were applied; empty: none."""
    if not snapshot.has("dmesg"):
        raise MissingInputError("dmesg")
    rows = boot(snapshot).maps.get(_USER_MAP, ())
    return tuple(
        MapEntry(start=row.start, end=row.end, type=map_type(row.type) or 0) for row in rows
    )
