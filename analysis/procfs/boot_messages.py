"""What the kernel's messages say of memory while it boots.

Kernel: mm/page_alloc.c and mm/mm_init.c (``Memory:``, ``Total pages``, memory node ranges, holes,
the lines of a zone in 5.10), mm/cma.c (``cma: Reserved``), arch/x86/kernel/setup.c (``RAMDISK``),
and ``Freeing … memory`` of all who give boot memory back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.errors import ParseError
from analysis.procfs import dmesg
from analysis.procfs.dmesg import Dmesg

_HEX = "0x([0-9a-f]{1,16})"
_MEMORY = re.compile(
    r"Memory: (\d+)K/(\d+)K available \(.* (\d+)K reserved(?:, (\d+)K cma-reserved)?"
    r"(?:, (\d+)K highmem)?[,)]"
)
_TOTAL = re.compile(r"Built (\d+) zonelists, mobility grouping (on|off)\.\s+Total pages: (\d+)$")
_RANGE = re.compile(rf"\s*node\s+(\d+): \[mem {_HEX}-{_HEX}\]$")
_RANGES_HEAD = "Early memory node ranges"
_UNAVAILABLE = re.compile(r"On node (\d+), zone (\S+): (\d+) pages in unavailable ranges$")
_ZONE = re.compile(r"\s*(\S+) zone: (\d+) pages(?: (used for memmap|reserved)|, LIFO batch:(\d+))$")
_FREEING = re.compile(r"Freeing (.+) memory: (\d+)K")
_CMA = re.compile(rf"cma: Reserved (\d+) MiB (?:at {_HEX}|in \d+ range)")
_RAMDISK = re.compile(rf"(?:Allocated new )?RAMDISK: \[mem {_HEX}-{_HEX}\]$")
_EFI = re.compile(r"efi: EFI v\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLine:
    """``Memory: 995000K/1048000K available (… 64000K reserved, 0K cma-reserved)``; KiB."""

    at: int
    """Index of the message in the log."""
    available_kib: int
    total_kib: int
    reserved_kib: int
    cma_kib: int
    highmem_kib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalPages:
    at: int
    zonelists: int
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRange:
    """A line of the early memory node ranges; bytes, ``end`` is the first address after it."""

    node: int
    base: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneLine:
    """``  DMA zone: 64 pages used for memmap``, ``… pages reserved`` or ``… LIFO batch:0``."""

    zone: str
    pages: int
    kind: str
    """``memmap``, ``reserved`` or ``present``."""
    batch: int | None
    """Only of a line about what is present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnavailableLine:
    node: int
    zone: str
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeing:
    """Boot memory given back."""

    at: int
    name: str
    kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CmaArea:
    base: int | None
    """None where it has several ranges, which are not told."""
    mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramdisk:
    base: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMessages:
    log: Dmesg
    memory: MemoryLine | None
    total_pages: TotalPages | None
    node_ranges: tuple[NodeRange, ...]
    zone_lines: tuple[ZoneLine, ...]
    unavailable: tuple[UnavailableLine, ...]
    freeing: tuple[Freeing, ...]
    cma: tuple[CmaArea, ...]
    ramdisk: Ramdisk | None
    """Where the initial RAM disk lies in the end: x86 may move it. None where nothing is said."""
    efi: bool
    """Booted by an EFI firmware."""


def parse(text: str, *, source: str = "dmesg") -> BootMessages:
    """What is said; fields are None or empty where the log lacks the lines.

    Raises:
        ParseError: a line that begins like one of these and goes on otherwise.
    """
    log = dmesg.parse(text, source=source)
    numbered = [(at, message.text) for at, message in enumerate(log.messages)]
    memory: MemoryLine | None = None
    total: TotalPages | None = None
    ramdisk: Ramdisk | None = None
    for at, line in numbered:
        if line.startswith("Memory: ") and memory is None:
            match = _expect(_MEMORY, line, at, source, "'Memory: …K/…K available (… reserved …)'")
            memory = MemoryLine(
                at=at,
                available_kib=int(match[1]),
                total_kib=int(match[2]),
                reserved_kib=int(match[3]),
                cma_kib=int(match[4] or 0),
                highmem_kib=None if match[5] is None else int(match[5]),
            )
        elif (found := _TOTAL.match(line)) and total is None:
            total = TotalPages(at=at, zonelists=int(found[1]), pages=int(found[3]))
        elif found := _RAMDISK.match(line):
            ramdisk = Ramdisk(base=int(found[1], 16), end=int(found[2], 16) + 1)
    return BootMessages(
        log=log,
        memory=memory,
        total_pages=total,
        node_ranges=tuple(_node_ranges(numbered)),
        zone_lines=tuple(_zone_lines(numbered)),
        unavailable=tuple(
            UnavailableLine(node=int(m[1]), zone=m[2], pages=int(m[3]))
            for _, line in numbered
            if (m := _UNAVAILABLE.match(line))
        ),
        freeing=tuple(
            Freeing(at=at, name=m[1], kib=int(m[2]))
            for at, line in numbered
            if (m := _FREEING.match(line))
        ),
        cma=tuple(
            CmaArea(base=None if m[2] is None else int(m[2], 16), mib=int(m[1]))
            for _, line in numbered
            if (m := _CMA.match(line))
        ),
        ramdisk=ramdisk,
        efi=any(_EFI.match(line) for _, line in numbered),
    )


def _expect(
    pattern: re.Pattern[str], line: str, at: int, source: str, expected: str
) -> re.Match[str]:
    match = pattern.match(line)
    if match is None:
        raise ParseError(source, at + 1, line, expected)
    return match


def _node_ranges(numbered: list[tuple[int, str]]) -> Iterator[NodeRange]:
    inside = False
    for _, line in numbered:
        if line.strip() == _RANGES_HEAD:
            inside = True
        elif inside and (match := _RANGE.match(line)):
            yield NodeRange(node=int(match[1]), base=int(match[2], 16), end=int(match[3], 16) + 1)
        elif inside:
            return


def _zone_lines(numbered: list[tuple[int, str]]) -> Iterator[ZoneLine]:
    for _, line in numbered:
        if match := _ZONE.match(line):
            kind = {"used for memmap": "memmap", "reserved": "reserved", None: "present"}[match[3]]
            yield ZoneLine(
                zone=match[1],
                pages=int(match[2]),
                kind=kind,
                batch=None if match[4] is None else int(match[4]),
            )
