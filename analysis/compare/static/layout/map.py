"""The memory of a capture: the firmware's map, and what the kernel takes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.layout.capture import (
    FOUR_GIB,
    MEMORY_ROOT,
    LayoutInputError,
    LayoutUnknownError,
    Way,
    boot,
    hexes,
)
from analysis.errors import MissingInputError
from analysis.model.layout import memory_map
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.memory_map import MapEntry
from analysis.model.layout.pfn import Span, clip, merged
from analysis.procfs import iomem
from analysis.procfs.iomem import Iomem

MEMMAP_ROOT = "sys/firmware/memmap/"

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
_SMALLEST_HOTPLUG_BYTES = 64 << 20
"""Memory comes and goes by whole memory blocks; the smallest is a section of 64 MiB."""
_NUMBERED = re.compile(r".*\(?type (\d+)\)?")


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
        raise LayoutInputError(
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
        own = (change.start, change.end) in memory_map.TRIMS
        if old == new or own or (asked and change.new is None) or (change.final and not final):
            continue
        span = Span(change.start, change.end)
        entries = memory_map.retyped(entries, span, old, new)
        steps.append(f"changed at boot: {hexes([span])} {change.old} to {change.new or 'nothing'}")
    return memory_map.trimmed(entries), steps


def x86_memory(snapshot: Snapshot, era: LayoutEra, way: Way) -> tuple[tuple[Span, ...], int]:
    """Memory in bytes and max_pfn on x86.

    Raises:
        LayoutUnknownError, MissingInputError: an input is not there.
    """
    entries, steps = parameter_map(snapshot)
    way.steps += steps
    entries, steps = settled_map(snapshot, entries, final=False)
    way.steps += steps
    max_pfn = memory_map.end_of_ram_pfn(entries, acpi_counts=era.acpi_counts_as_ram)
    memory = memory_map.memblock_memory(entries, 4096)
    if snapshot.arch == "i386" and not snapshot.config.on("X86_PAE"):
        memory = tuple(span for span in memory if span.end < FOUR_GIB)
        max_pfn = min(max_pfn, FOUR_GIB // 4096)
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
        raise LayoutInputError("proc/iomem was read without privilege: it shows no addresses")
    return tree


def iomem_memory(snapshot: Snapshot, way: Way) -> tuple[tuple[Span, ...], int]:
    """Memory in bytes and max_pfn where the firmware's map is not shown: of proc/iomem.

    Raises:
        LayoutUnknownError, MissingInputError: the tree is not there or shows nothing.
    """
    page = snapshot.page_size_bytes
    spans = merged(
        Span(resource.start, resource.end)
        for resource in physical_tree(snapshot).resources
        if resource.depth == 0 and resource.name in ("System RAM", "reserved", "Reserved")
    )
    if not spans:
        raise LayoutInputError("proc/iomem names no System RAM")
    way.say(f"System RAM, and what is mapped for nobody, of proc/iomem: {hexes(spans)}")
    return spans, spans[-1].end // page


def added_memory(snapshot: Snapshot, memory: Sequence[Span]) -> tuple[Span, ...]:
    """Memory of now that was not there at boot, in bytes.

    Raises:
        LayoutUnknownError: memory is offline; or some was added, and what was there at boot is
            known from nothing else.
    """
    states = [
        name
        for name in snapshot.source.files
        if name.startswith(MEMORY_ROOT) and name.endswith("/state")
    ]
    offline = [name for name in states if snapshot.text(name).strip() != "online"]
    if offline:
        raise LayoutUnknownError(f"memory is offline: {offline[0]}")
    if not snapshot.has("proc/iomem"):
        return ()
    tree = snapshot.parsed("proc/iomem", iomem.parse)
    boot_memory = memory
    shown = snapshot.arch in ("x86_64", "i386")
    if not shown and snapshot.has("dmesg"):
        said = boot(snapshot).node_ranges
        if said:
            boot_memory = merged(Span(block.start, block.end) for block in said)
    known = merged(boot_memory)
    added: list[Span] = []
    for resource in tree.resources:
        if tree.hidden or not resource.name.startswith("System RAM"):
            continue
        size = resource.end - resource.start
        there = sum(max(0, clip(span, resource.start, resource.end).size) for span in known)
        if size - there < _SMALLEST_HOTPLUG_BYTES:
            continue
        if there or not shown:
            raise added_unknown([Span(resource.start, resource.end)])
        added.append(Span(resource.start, resource.end))
    return merged(added)


def added_unknown(added: Sequence[Span]) -> LayoutUnknownError:
    """What a rule says that describes memory as it was at boot, or other memory."""
    return LayoutUnknownError(f"memory was added after boot: {hexes(added)}")


def user_map(snapshot: Snapshot) -> tuple[MapEntry, ...]:
    """The map that the kernel printed after the parameters were applied; empty: none."""
    if not snapshot.has("dmesg"):
        raise MissingInputError("dmesg")
    rows = boot(snapshot).maps.get(_USER_MAP, ())
    return tuple(
        MapEntry(start=row.start, end=row.end, type=map_type(row.type) or 0) for row in rows
    )
