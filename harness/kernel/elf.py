"""The little of ELF that is needed: sections by name, and notes. 64-bit little-endian only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import BuildError

MAGIC = b"\x7fELF"
MACHINE = {"x86_64": 62, "arm64": 183}
"""``e_machine`` of each architecture."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_PT_NOTE = 4
_SHT_NOBITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One entry of a PT_NOTE segment."""

    owner: bytes
    kind: int
    description: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """The tables of an ELF file in memory; ``source`` names it in errors."""

    data: bytes
    source: str
    machine: int
    program_offset: int
    program_count: int
    section_offset: int
    section_count: int
    names_index: int

    def section(self, name: str) -> bytes | None:
        """The content of a section, None when there is none of that name."""
        if not self.section_count:
            return None
        headers = [
            self._unpack(_SECTION, self.section_offset + number * _SECTION.size)
            for number in range(self.section_count)
        ]
        if self.names_index >= len(headers):
            raise self._fault("the section name table is out of range")
        names = self._content(headers[self.names_index])
        for header in headers:
            end = names.find(b"\0", header[0])
            if header[1] != _SHT_NOBITS and names[header[0] : end] == name.encode():
                return self._content(header)
        return None

    def notes(self) -> Iterator[Note]:
        """Every note of every PT_NOTE segment."""
        for number in range(self.program_count):
            header = self._unpack(_PROGRAM, self.program_offset + number * _PROGRAM.size)
            if header[0] == _PT_NOTE:
                yield from self._notes(header[2], header[2] + header[5])

    def _notes(self, start: int, end: int) -> Iterator[Note]:
        while start + _NOTE.size <= end:
            name_bytes, description_bytes, kind = self._unpack(_NOTE, start)
            name_start = start + _NOTE.size
            description_start = name_start + _align4(name_bytes)
            start = description_start + _align4(description_bytes)
            if start > len(self.data):
                raise self._fault("a note reaches beyond the end")
            yield Note(
                owner=self.data[name_start : name_start + name_bytes].rstrip(b"\0"),
                kind=kind,
                description=self.data[description_start : description_start + description_bytes],
            )

    def _content(self, header: tuple[int, ...]) -> bytes:
        offset, size_bytes = header[4], header[5]
        if offset + size_bytes > len(self.data):
            raise self._fault("a section reaches beyond the end")
        return self.data[offset : offset + size_bytes]

    def _unpack(self, layout: struct.Struct, offset: int) -> tuple[int, ...]:
        if offset + layout.size > len(self.data):
            raise self._fault("a header reaches beyond the end")
        return layout.unpack_from(self.data, offset)

    def _fault(self, why: str) -> BuildError:
        return BuildError(f"{self.source}: damaged ELF file: {why}")


def parse_elf(data: bytes, source: str) -> Elf:
    """Read the header.

    Raises:
        BuildError: not a 64-bit little-endian ELF file, or a truncated one.
    """
    if data[:6] != MAGIC + b"\x02\x01" or len(data) < _HEADER.size:
        raise BuildError(f"{source}: not a 64-bit little-endian ELF file")
    fields = _HEADER.unpack_from(data)
    if (fields[10] and fields[9] != _PROGRAM.size) or (fields[12] and fields[11] != _SECTION.size):
        raise BuildError(f"{source}: damaged ELF file: table entries of unknown size")
    return Elf(
        data=data,
        source=source,
        machine=fields[2],
        program_offset=fields[5],
        program_count=fields[10],
        section_offset=fields[6],
        section_count=fields[12],
        names_index=fields[13],
    )


def _align4(size_bytes: int) -> int:
    return (size_bytes + 3) & ~3
