"""The little of ELF that is needed: sections by name, and notes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.errors import BuildError

MAGIC = b"\x7fELF"
MACHINE = {"x86_64": 62, "arm64": 183, "i386": 3, "m68k": 4}
"""``e_machine`` of each architecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """How the fields of one ELF class and byte order lie."""

    header: struct.Struct
    program: struct.Struct
    section: struct.Struct
    note: struct.Struct
    program_file_offset: int
    """Which field of a program header is ``p_offset``."""
    program_file_bytes: int
    """Which one is ``p_filesz``."""


def _class(byte_order: str, bits: int) -> _Class:
    narrow = bits == 32
    header, program, section = (
        ("16sHHIIIIIHHHHHH", "IIIIIIII", "IIIIIIIIII")
        if narrow
        else ("16sHHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ")
    )
    return _Class(
        header=struct.Struct(byte_order + header),
        program=struct.Struct(byte_order + program),
        section=struct.Struct(byte_order + section),
        note=struct.Struct(byte_order + "III"),
        program_file_offset=1 if narrow else 2,
        program_file_bytes=4 if narrow else 5,
    )


_CLASSES: Mapping[tuple[int, int], _Class] = {
    (width, order): _class("<>"[order - 1], 32 * width) for width in (1, 2) for order in (1, 2)
}
"""``e_ident[EI_CLASS]`` (1: 32 bits, 2: 64) and ``e_ident[EI_DATA]`` (1: little-endian, 2: big)."""

_PT_LOAD = 1
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
    layout: _Class
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
        entry = self.layout.section
        headers = [
            self._unpack(entry, self.section_offset + number * entry.size)
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
        entry = self.layout.program
        for number in range(self.program_count):
            header = self._unpack(entry, self.program_offset + number * entry.size)
            if header[0] == _PT_NOTE:
                start = header[self.layout.program_file_offset]
                yield from self._notes(start, start + header[self.layout.program_file_bytes])

    def load_end(self) -> int:
        """One behind the highest physical address that the file fills when it is loaded; 0 when
        nothing is."""
        entry = self.layout.program
        first = self.layout.program_file_offset
        ends = [0]
        for number in range(self.program_count):
            header = self._unpack(entry, self.program_offset + number * entry.size)
            if header[0] == _PT_LOAD:
                # after p_offset: p_vaddr, p_paddr, p_filesz, p_memsz
                ends.append(header[first + 2] + header[first + 4])
        return max(ends)

    def _notes(self, start: int, end: int) -> Iterator[Note]:
        note = self.layout.note
        while start + note.size <= end:
            name_bytes, description_bytes, kind = self._unpack(note, start)
            name_start = start + note.size
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
        BuildError: not an ELF file, or a truncated one.
    """
    known = data[:4] == MAGIC and len(data) > 5
    layout = _CLASSES.get((data[4], data[5])) if known else None
    if layout is None or len(data) < layout.header.size:
        raise BuildError(f"{source}: not an ELF file, or a truncated one")
    fields = layout.header.unpack_from(data)
    program_bytes, section_bytes = layout.program.size, layout.section.size
    if (fields[10] and fields[9] != program_bytes) or (fields[12] and fields[11] != section_bytes):
        raise BuildError(f"{source}: damaged ELF file: table entries of unknown size")
    return Elf(
        data=data,
        source=source,
        layout=layout,
        machine=fields[2],
        program_offset=fields[5],
        program_count=fields[10],
        section_offset=fields[6],
        section_count=fields[12],
        names_index=fields[13],
    )


def _align4(size_bytes: int) -> int:
    return (size_bytes + 3) & ~3
