"""The memory of an m68k machine in pieces, as its kernel is told of it.

QEMU's Macintosh has one piece of memory from 0 up, and says so in the list of records that it
leaves behind the kernel. A machine of several nodes is that piece with holes cut into it: the
record is replaced, in the memory of a guest that has not started, by one for each node.

Kernel: Documentation/m68k/kernel-options.rst and arch/m68k/kernel/setup_mm.c,
``m68k_parse_bootinfo``: a record is a tag and a size of two bytes each, then data, big-endian; the
last tag is 0. arch/m68k/mm/motorola.c, ``paging_init``: each piece becomes a node.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import LaunchError

MAX_CHUNKS = 4
"""Pieces that an m68k kernel keeps.

Kernel: arch/m68k/include/asm/setup.h, NUM_MEMINFO."""

GRAIN_BYTES = 32 << 20
"""Pieces begin at multiples of this, with a hole of at least as much before them.

Kernel: arch/m68k/mm/motorola.c of 5.10. ``map_node`` fills a new table of the second level, which
maps 32 MiB on a 68040, from its first entry on, whichever a piece's first address belongs into:
one that begins elsewhere is not mapped where it is. And a table of 64 entries tells which node an
address is in, so that no entry may have two: on the largest machine it has one for each 16 MiB."""

MAX_SPAN_BYTES = 1 << 30
"""QEMU's machine takes no more."""

RECORDS_BYTES = 64 << 10
"""More than the list ever takes."""

_RECORD = struct.Struct(">HH")
_CHUNK = struct.Struct(">II")
_BI_LAST = 0
_BI_MEMCHUNK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of memory, by physical address."""

    start: int
    size_bytes: int

    @property
    def end(self) -> int:
        """One behind it."""
        return self.start + self.size_bytes


def place_chunks(sizes_bytes: Sequence[int]) -> tuple[Chunk, ...]:
    """Pieces of these sizes, one after the other with a hole between any two."""
    chunks: list[Chunk] = []
    start = 0
    for size_bytes in sizes_bytes:
        chunks.append(Chunk(start=start, size_bytes=size_bytes))
        start = -(-(chunks[-1].end + GRAIN_BYTES) // GRAIN_BYTES) * GRAIN_BYTES
    return tuple(chunks)


def with_chunks(records: bytes, chunks: Sequence[Chunk]) -> bytes:
    """The list of records with one for each piece in place of that for the whole memory.

    ``records`` begins with the list; what follows it is not looked at.

    Raises:
        LaunchError: it is no such list, or names other than one piece.
    """
    kept: list[bytes] = []
    seen = 0
    offset = 0
    while True:
        if offset + _RECORD.size > min(len(records), RECORDS_BYTES):
            raise LaunchError("QEMU left no list of boot records behind the kernel")
        tag, size = _RECORD.unpack_from(records, offset)
        if tag == _BI_LAST:
            break
        if size < _RECORD.size or size % 2 or offset + size > len(records):
            raise LaunchError(f"boot record {tag:#x} at byte {offset} has the size {size}")
        if tag == _BI_MEMCHUNK:
            seen += 1
            whole = _RECORD.size + _CHUNK.size
            kept += [
                _RECORD.pack(tag, whole) + _CHUNK.pack(chunk.start, chunk.size_bytes)
                for chunk in chunks
            ]
        else:
            kept.append(records[offset : offset + size])
        offset += size
    if seen != 1:
        raise LaunchError(f"QEMU's boot records name {seen} pieces of memory, expected one")
    return b"".join([*kept, _RECORD.pack(_BI_LAST, _RECORD.size)])
