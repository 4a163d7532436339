"""Guest RAM made by hand: page tables, symbol tables, a memmap with free lists."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.sampling.memory.physmap import PhysicalRange
from harness.sampling.memory.ram import FileRam

X86_TABLE, X86_LARGE = 0x67, 0xE7
ARM64_TABLE, ARM64_BLOCK, ARM64_PAGE = 3, 0x701, 0x703


@dataclass(slots=True)
class MadeRam:
    """RAM of one or more nodes in memory files; hand ``ram`` to what is tested."""

    ranges: Sequence[PhysicalRange]
    files: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for node in range(max(part.node for part in self.ranges) + 1):
            parts = [part for part in self.ranges if part.node == node]
            file_fd = os.memfd_create(f"made{node}")
            os.truncate(file_fd, max(part.offset + part.size_bytes for part in parts))
            self.files.append(file_fd)

    @classmethod
    def plain(cls, size_bytes: int, start: int = 0) -> MadeRam:
        return cls([PhysicalRange(start=start, size_bytes=size_bytes, node=0, offset=0)])

    def write(self, address: int, data: bytes) -> None:
        for part in self.ranges:
            if part.start <= address < part.end:
                assert address + len(data) <= part.end
                os.pwrite(self.files[part.node], data, part.offset + address - part.start)
                return
        raise AssertionError(f"{address:#x} is not RAM")

    def used_bytes(self) -> int:
        return sum(os.fstat(file_fd).st_blocks * 512 for file_fd in self.files)

    def ram(self) -> FileRam:
        return FileRam(self.files, tuple(self.ranges))

    def close(self) -> None:
        for file_fd in self.files:
            os.close(file_fd)


@dataclass(slots=True)
class MadeTables:
    """Page tables of either architecture, made as mappings are added."""

    made: MadeRam
    arch: str
    shifts: tuple[int, ...]
    page_shift: int
    next_table: int
    root: int = 0
    tables: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.take()

    def take(self) -> int:
        table = self.next_table
        self.next_table += 1 << self.page_shift
        return table

    def map(self, virtual: int, physical: int, level: int | None = None) -> None:
        """Maps one page, or a larger piece that ends the walk at ``level``."""
        last = len(self.shifts) - 1
        leaf = last if level is None else level
        table = self.root
        for depth in range(leaf):
            index = self.index(virtual, depth)
            if (table, index) not in self.tables:
                self.tables[table, index] = self.take()
                self.put(table, index, self.tables[table, index] | self.table_bits())
            table = self.tables[table, index]
        self.put(table, self.index(virtual, leaf), physical | self.leaf_bits(leaf == last))

    def index(self, virtual: int, depth: int) -> int:
        width = self.page_shift - 3
        return virtual >> self.shifts[depth] & (1 << width) - 1

    def put(self, table: int, index: int, entry: int) -> None:
        self.made.write(table + 8 * index, struct.pack("<Q", entry))

    def table_bits(self) -> int:
        return X86_TABLE if self.arch == "x86_64" else ARM64_TABLE

    def leaf_bits(self, last: bool) -> int:
        if self.arch == "x86_64":
            return (X86_TABLE if last else X86_LARGE) | 1 << 63
        return (ARM64_PAGE if last else ARM64_BLOCK) | 0x78 << 48


def vmcoreinfo_text(
    *, release: str = "6.1.0-made", page_size: int = 4096, **more: Mapping[str, int]
) -> bytes:
    """The text; ``more`` maps the kinds (symbols, numbers, sizes, offsets, lengths) to values."""
    symbols = {
        "init_uts_ns": 0xFFFF_8000_0000_1000,
        "_stext": 0xFFFF_8000_0000_0000,
        "swapper_pg_dir": 0xFFFF_8000_0000_2000,
        **more.get("symbols", {}),
    }
    lines = [f"OSRELEASE={release}", "BUILD-ID=" + "ab" * 20, f"PAGESIZE={page_size}"]
    lines += [f"SYMBOL({name})={value:x}" for name, value in symbols.items()]
    for kind in ("numbers", "sizes", "offsets", "lengths"):
        label = kind.upper().removesuffix("S")
        lines += [f"{label}({name})={value}" for name, value in more.get(kind, {}).items()]
    return ("\n".join(lines) + "\n").encode()
