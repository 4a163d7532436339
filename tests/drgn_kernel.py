"""A second reader of guest RAM: drgn, with its own page-table walk and our own types.

Only what drgn cannot get without debug information is made here: the types, converted from BTF
(read anew, by code that shares nothing with the sampler's), and the addresses of two variables.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import drgn
from drgn.helpers.linux.list import list_for_each_entry

_KINDS = {
    drgn.TypeKind.INT: (1,),
    drgn.TypeKind.BOOL: (1,),
    drgn.TypeKind.STRUCT: (4,),
    drgn.TypeKind.UNION: (5,),
    drgn.TypeKind.ENUM: (6, 19),
    drgn.TypeKind.TYPEDEF: (8,),
}
MemoryRange = tuple[int, int, Callable[[int, int], bytes]]
"""Guest-physical start, size in bytes, read(offset, count)."""
_WORDS_AFTER = {1: 1, 3: 3, 14: 1, 17: 1}
_WORDS_EACH = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}


@dataclass(frozen=True, slots=True)
class _Record:
    kind: int
    name: str
    count: int
    flag: bool
    size: int
    rest: tuple[int, ...]


class BtfTypes:
    """drgn types of a kernel, made when asked for."""

    def __init__(self, prog: drgn.Program, data: bytes) -> None:
        self._prog = prog
        header = struct.unpack_from("<HBBIIIII", data)
        assert header[0] == 0xEB9F
        types = data[header[3] + header[4] :][: header[5]]
        strings = data[header[3] + header[6] :][: header[7]]
        self._records: list[_Record] = [_Record(0, "", 0, False, 0, ())]
        self._by_name: dict[str, list[int]] = {}
        at = 0
        while at < len(types):
            name_at, info, size = struct.unpack_from("<III", types, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            words = _WORDS_AFTER.get(kind, 0) + _WORDS_EACH.get(kind, 0) * count
            rest = struct.unpack_from(f"<{words}I", types, at + 12)
            name = _text(strings, name_at)
            self._by_name.setdefault(name, []).append(len(self._records))
            self._records.append(_Record(kind, name, count, bool(info >> 31), size, rest))
            at += 12 + 4 * words
        self._strings = strings
        self._made: dict[int, drgn.Type] = {}

    def find(self, _: drgn.Program, kinds: Any, name: str, __: str | None) -> drgn.Type | None:
        """What drgn asks for by name; see ``drgn.Program.register_type_finder``."""
        wanted = {number for kind, numbers in _KINDS.items() if kind in kinds for number in numbers}
        for type_id in self._by_name.get(name, []):
            if self._records[type_id].kind in wanted:
                return self.type(type_id)
        return None

    def type(self, type_id: int) -> drgn.Type:
        if type_id not in self._made:
            self._made[type_id] = self._make(type_id)
        return self._made[type_id]

    def _make(self, type_id: int) -> drgn.Type:
        prog, record = self._prog, self._records[type_id]
        match record.kind:
            case 0:
                return prog.void_type()
            case 1 if record.rest[0] >> 24 & 4:
                return prog.bool_type(record.name, record.size)
            case 1:
                return prog.int_type(record.name, record.size, bool(record.rest[0] >> 24 & 1))
            case 2:
                return prog.pointer_type(self.type(record.size))
            case 3:
                return prog.array_type(self.type(record.rest[0]), record.rest[2])
            case 4 | 5:
                make = prog.struct_type if record.kind == 4 else prog.union_type
                return make(record.name or None, record.size, list(self._members(record)))
            case 6 | 19:
                return self._enum(record)
            case 7:
                return prog.struct_type(record.name)
            case 8:
                return prog.typedef_type(record.name, self.type(record.size))
            case 9:
                return self.type(record.size).qualified(drgn.Qualifiers.VOLATILE)
            case 10:
                return self.type(record.size).qualified(drgn.Qualifiers.CONST)
            case 11 | 18:
                return self.type(record.size)
            case 13:
                return prog.function_type(prog.void_type(), [], False)
        return prog.void_type()

    def _enum(self, record: _Record) -> drgn.Type:
        step = 2 if record.kind == 6 else 3
        bits = 32 * (step - 1)
        values = []
        for number in range(record.count):
            words = record.rest[step * number : step * (number + 1)]
            value = words[1] | (words[2] << 32 if step == 3 else 0)
            if record.flag and value >> (bits - 1):
                value -= 1 << bits
            values.append(drgn.TypeEnumerator(_text(self._strings, words[0]), value))
        base = self._prog.int_type("int" if record.flag else "unsigned int", 4, record.flag)
        return self._prog.enum_type(record.name or None, base, values)

    def _members(self, record: _Record) -> Iterator[drgn.TypeMember]:
        for number in range(record.count):
            name_at, type_id, place = record.rest[3 * number : 3 * number + 3]
            bits, offset = (place >> 24, place & 0xFF_FFFF) if record.flag else (0, place)
            name = _text(self._strings, name_at) or None
            yield drgn.TypeMember(self._later(type_id, bits), name, offset)

    def _later(self, type_id: int, bits: int) -> Callable[[], drgn.Type | drgn.Object]:
        if bits:
            return lambda: drgn.Object(self._prog, self.type(type_id), bit_field_size=bits)
        return lambda: self.type(type_id)


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


def open_kernel(
    arch: str,
    vmcoreinfo: bytes,
    memory: Sequence[MemoryRange],
    btf: bytes,
) -> drgn.Program:
    """A program over physical memory."""
    prog = drgn.Program()
    with tempfile.NamedTemporaryFile() as core:
        core.write(_core_file(62 if arch == "x86_64" else 183, vmcoreinfo))
        core.flush()
        prog.set_core_dump(core.name)
    for start, size, read in memory:
        prog.add_memory_segment(
            start, size, lambda _, count, offset, __, read=read: read(offset, count), True
        )
    prog.register_type_finder("btf", BtfTypes(prog, btf).find, enable_index=0)
    return prog


def _core_file(machine: int, vmcoreinfo: bytes) -> bytes:
    """A crash dump with the kernel's own note and no memory: that is added piece by piece."""
    owner = b"VMCOREINFO\0\0"
    note = struct.pack("<III", 11, len(vmcoreinfo), 0) + owner
    note += vmcoreinfo + b"\0" * (-len(vmcoreinfo) % 4)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\2\1\1", 4, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0),
    )
    program = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), len(note), 4)
    return header + program + note


def zones(prog: drgn.Program, node_data: int, nodes: Sequence[int]) -> Iterator[drgn.Object]:
    """Every zone that has pages."""
    pointers = drgn.Object(prog, "struct pglist_data *[64]", address=node_data)
    for node in nodes:
        yield from (zone for zone in pointers[node].node_zones if zone.present_pages)


def free_list_pages(zone: drgn.Object) -> dict[tuple[int, int], list[int]]:
    """(order, migratetype) → addresses of struct pages, in list order."""
    return {
        (order, migratetype): _pages(head, "buddy_list")
        for order, area in enumerate(zone.free_area)
        for migratetype, head in enumerate(area.free_list)
    }


def pcp_list_pages(zone: drgn.Object, offset: int) -> list[list[int]]:
    """Addresses of struct pages on each list of the CPU with this per-cpu offset."""
    address = (zone.per_cpu_pageset.value_() + offset) & (1 << 64) - 1
    pcp = drgn.Object(zone.prog_, "struct per_cpu_pages", address=address)
    return [_pages(head, "pcp_list") for head in pcp.lists]


def _pages(head: drgn.Object, member: str) -> list[int]:
    pages = list_for_each_entry("struct page", head.address_of_(), member)
    return [page.value_() for page in pages]
