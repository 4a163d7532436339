"""The firmware's memory map on x86, and the memory that the kernel takes from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.model.layout.pfn import Span, align_down, align_up, merged
from analysis.model.layout.sizes import leading_size

RAM = 1
RESERVED = 2
ACPI = 3
NVS = 4
UNUSABLE = 5
PMEM = 7
PRAM = 12
SOFT_RESERVED = 0xEFFFFFFF

_LAST_BYTE = (1 << 64) - 1
_BIOS_BEGIN = 0xA0000
_BIOS_END = 0x100000
_FIRST_PAGE = Span(0, 4096)
TRIMS = (_FIRST_PAGE, Span(_BIOS_BEGIN, _BIOS_END))
"""What the kernel takes from every map, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEntry:
    """A range of the map: bytes, and the type that e820 gives it."""

    start: int
    end: int
    type: int


def resolved(entries: Iterable[MapEntry]) -> tuple[MapEntry, ...]:
    """A map without overlaps: where entries overlap the highest type number counts.

    Kernel: arch/x86/kernel/e820.c, ``e820__update_table``; 5.10 to 7.3.
    Ignores: maps of more entries than the kernel's table holds.
    """
    listed = [entry for entry in entries if entry.start < entry.end]
    edges = sorted({edge for entry in listed for edge in (entry.start, entry.end)})
    pieces: list[MapEntry] = []
    for start, end in itertools.pairwise(edges):
        kinds = [entry.type for entry in listed if entry.start <= start and end <= entry.end]
        if not kinds:
            continue
        last = pieces[-1] if pieces else None
        if last is not None and last.end == start and last.type == max(kinds):
            pieces[-1] = MapEntry(start=last.start, end=end, type=last.type)
        else:
            pieces.append(MapEntry(start=start, end=end, type=max(kinds)))
    return tuple(pieces)


def retyped(
    entries: Iterable[MapEntry], span: Span, old: int | None, new: int | None
) -> tuple[MapEntry, ...]:
    """The map with one type changed within a span; ``new`` None takes it out, ``old`` None is any.

    Kernel: arch/x86/kernel/e820.c, ``e820__range_update`` and ``e820__range_remove``; 5.10 to
        7.3.
    Ignores: nothing known.
    """
    changed: list[MapEntry] = []
    for entry in entries:
        if old is not None and entry.type != old:
            changed.append(entry)
            continue
        start, end = max(entry.start, span.start), min(entry.end, span.end)
        if start >= end:
            changed.append(entry)
            continue
        changed.append(MapEntry(start=entry.start, end=start, type=entry.type))
        if new is not None:
            changed.append(MapEntry(start=start, end=end, type=new))
        changed.append(MapEntry(start=end, end=entry.end, type=entry.type))
    return tuple(entry for entry in changed if entry.start < entry.end)


def with_parameters(
    entries: Sequence[MapEntry], words: Iterable[tuple[str, str | None]]
) -> tuple[MapEntry, ...]:
    """The map after ``mem=`` and ``memmap=``, taken in the order of the command line.

    Raises:
        ValueError: a value that is no size.

    Kernel: arch/x86/kernel/e820.c, ``parse_memopt``, ``parse_memmap_one`` and
        ``e820__finish_early_params``; 5.10 to 7.3 (7.x prints the types with other words).
    Ignores: ``memmap=exactmap`` of a crash kernel after parameters that it does not see.
    """
    table = list(entries)
    for name, value in words:
        if name == "mem" and value and value != "nopentium":
            limit, _ = leading_size(value)
            if limit:
                table = list(retyped(table, Span(limit, _LAST_BYTE), RAM, None))
        elif name == "memmap":
            for part in (value or "").split(","):
                table = _memmap(table, part)
    return resolved(table)


def _memmap(table: list[MapEntry], part: str) -> list[MapEntry]:
    if not part:
        return table
    if part.startswith("exactmap"):
        return []
    size, rest = leading_size(part)
    if not rest or rest[0] not in "@#$!%":
        return list(retyped(table, Span(size, _LAST_BYTE), RAM, None))
    start, tail = leading_size(rest[1:])
    span = Span(start, start + size)
    if rest[0] != "%":
        kind = {"@": RAM, "#": ACPI, "$": RESERVED, "!": PRAM}[rest[0]]
        return [*table, MapEntry(start=span.start, end=span.end, type=kind)]
    old = new = None
    if tail.startswith("-"):
        old, tail = leading_size(tail[1:])
    if tail.startswith("+"):
        new, _ = leading_size(tail[1:])
    if new and not old:
        return [*table, MapEntry(start=span.start, end=span.end, type=new)]
    return list(retyped(table, span, old, new))


def trimmed(entries: Iterable[MapEntry]) -> tuple[MapEntry, ...]:
    """The map without the first page and the BIOS area from 640 KiB to 1 MiB.

    Kernel: arch/x86/kernel/setup.c, ``trim_bios_range``; 5.10 to 7.3. The first 64 KiB (from
        5.13 the first MiB) are reserved besides: that makes them unmanaged, not absent.
    Ignores: the bad pages of Sandy Bridge graphics, which are reserved too.
    """
    without_page = retyped(entries, _FIRST_PAGE, RAM, RESERVED)
    return resolved(retyped(without_page, Span(_BIOS_BEGIN, _BIOS_END), RAM, None))


def end_of_ram_pfn(entries: Iterable[MapEntry], *, acpi_counts: bool) -> int:
    """``max_pfn``: one behind the last page of RAM.

    Kernel: arch/x86/kernel/e820.c, ``e820__end_of_ram_pfn``; 5.10 to 7.3. Newer kernels count
        ACPI data as if it were RAM (``acpi_counts``; not 6.1, but 6.12).
    Ignores: memory beyond the bits that the page tables can address.
    """
    kinds = (RAM, ACPI) if acpi_counts else (RAM,)
    return max((entry.end // 4096 for entry in entries if entry.type in kinds), default=0)


def memblock_memory(entries: Iterable[MapEntry], page_bytes: int) -> tuple[Span, ...]:
    """The bytes that memblock takes as memory: RAM, joined, without pages it shares.

    Kernel: arch/x86/kernel/e820.c, ``e820__memblock_setup``; mm/memblock.c,
        ``memblock_trim_memory``; 5.10 to 7.3.
    Ignores: entries above 4 GiB on 32-bit kernels without PAE, which are passed over.
    """
    ram = merged(Span(entry.start, entry.end) for entry in entries if entry.type == RAM)
    whole = (Span(align_up(s.start, page_bytes), align_down(s.end, page_bytes)) for s in ram)
    return tuple(span for span in whole if span.start < span.end)
