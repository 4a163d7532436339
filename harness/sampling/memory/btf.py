"""The kernel's own type information (BTF): sizes, member offsets, array lengths, enumerators.

Format: Documentation/bpf/btf.rst. A header, then type records of varying length one after the
other, numbered from 1, then the strings they refer to.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError, MissingSymbolError

MAGIC = b"\x9f\xeb\x01"
HEADER_BYTES = 24
_HEADER = struct.Struct("<HBBIIIII")
_MAX_BYTES = 64 << 20
_MAX_DEPTH = 64

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 9, 10, 11, 12, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19
_PASSED_THROUGH = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where a member lies within the struct it was asked of, and of what type it is."""

    bit_offset: int
    bits: int
    """Width of a bit-field, 0 for an ordinary member."""
    type_id: int

    @property
    def offset(self) -> int:
        """Bytes; only of members that begin at a byte."""
        assert self.bit_offset % 8 == 0
        return self.bit_offset // 8


class Btf:
    """Types by name. ``source`` says in errors whose they are."""

    def __init__(self, data: bytes, source: str) -> None:
        """Raises MemoryReadError when the data is damaged or cut short."""
        size_bytes = btf_bytes(data)
        if size_bytes is None or size_bytes > len(data):
            raise MemoryReadError(f"{source}: not BTF, or cut short")
        self.source = source
        self.data = data[:size_bytes]
        _, _, _, header, type_start, type_bytes, string_start, string_bytes = _HEADER.unpack_from(
            data
        )
        self._strings = data[header + string_start : header + string_start + string_bytes]
        types = data[header + type_start : header + type_start + type_bytes]
        self._words = np.frombuffer(types, "<u4", count=type_bytes // 4)
        count = _count_types(self._words)
        if count < 0:
            raise MemoryReadError(f"{source}: its BTF holds a type of unknown kind, or is damaged")
        self._starts = np.zeros(count + 1, np.int64)
        _index_types(self._words, self._starts)

    def type_id(self, name: str, kinds: tuple[int, ...] = (_STRUCT, _UNION)) -> int:
        """Number of the type of that name.

        Raises:
            MissingSymbolError: the kernel has none.
        """
        for type_id in self._named(name):
            if self._kind(type_id) in kinds:
                return type_id
        raise MissingSymbolError(f"{self.source} knows no type named {name}")

    def has(self, name: str) -> bool:
        """Whether there is a struct or union of that name."""
        return any(self._kind(t) in (_STRUCT, _UNION) for t in self._named(name))

    def size(self, name: str) -> int:
        """Bytes of a struct or union."""
        return self.size_of(self.type_id(name))

    def size_of(self, type_id: int, depth: int = 0) -> int:
        """Bytes of any type that has a size."""
        type_id = self.strip(type_id)
        kind = self._kind(type_id)
        if kind in (_INT, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64, _DATASEC):
            return int(self._word(type_id, 2))
        if kind == _PTR:
            return 8
        if kind == _ARRAY and depth < _MAX_DEPTH:
            return self.length_of(type_id) * self.size_of(int(self._word(type_id, 3)), depth + 1)
        raise MissingSymbolError(f"{self.source}: type {type_id} has no size")

    def member(self, name: str, path: str) -> Member:
        """A member of struct ``name``: ``"zone.free_area"`` is ``("zone", "free_area")``.

        ``path`` may go deeper, ``lock.rlock``; members of unnamed structs and unions count as
        members of what encloses them, as in C.

        Raises:
            MissingSymbolError: there is no such struct or member.
        """
        found = self.find(name, path)
        if found is None:
            raise MissingSymbolError(f"{self.source}: struct {name} has no member {path}")
        return found

    def find(self, name: str, path: str) -> Member | None:
        """``member``, or None where the struct has no such member."""
        return self.find_in(self.type_id(name), path)

    def find_in(self, type_id: int, path: str) -> Member | None:
        bit_offset = 0
        found: Member | None = None
        for part in path.split("."):
            found = self._direct(self.strip(type_id), part, ())
            if found is None:
                return None
            bit_offset += found.bit_offset
            type_id = found.type_id
        assert found is not None
        return Member(bit_offset=bit_offset, bits=found.bits, type_id=type_id)

    def offset(self, name: str, path: str) -> int:
        """Byte offset of a member; see ``member``."""
        return self.member(name, path).offset

    def strip(self, type_id: int) -> int:
        """Behind typedefs and qualifiers."""
        for _ in range(_MAX_DEPTH):
            if self._kind(type_id) not in _PASSED_THROUGH:
                return type_id
            type_id = int(self._word(type_id, 2))
        raise MemoryReadError(f"{self.source}: its BTF has a loop of typedefs")

    def is_signed(self, type_id: int) -> bool:
        """Whether an integer type is signed."""
        type_id = self.strip(type_id)
        return self._kind(type_id) == _INT and bool(self._word(type_id, 3) >> 24 & 1)

    def length_of(self, type_id: int) -> int:
        """Elements of an array type."""
        type_id = self.strip(type_id)
        if self._kind(type_id) != _ARRAY:
            raise MissingSymbolError(f"{self.source}: type {type_id} is no array")
        return int(self._word(type_id, 5))

    def element_of(self, type_id: int) -> int:
        """Type of an array's elements."""
        return int(self._word(self.strip(type_id), 3))

    def enumerators(self, name: str) -> Mapping[str, int]:
        """Names and values of an enum, in their order."""
        type_id = self.type_id(name, (_ENUM, _ENUM64))
        kind = self._kind(type_id)
        step = 2 if kind == _ENUM else 3
        signed = bool(self._word(type_id, 1) >> 31)
        values: dict[str, int] = {}
        for number in range(self._count(type_id)):
            at = 3 + step * number
            value = int(self._word(type_id, at + 1))
            if kind == _ENUM64:
                value |= int(self._word(type_id, at + 2)) << 32
            bits = 32 * (step - 1)
            if signed and value >> (bits - 1):
                value -= 1 << bits
            values[self._name(int(self._word(type_id, at)))] = value
        return values

    def enumerator(self, enum: str, name: str) -> int:
        """Raises MissingSymbolError when the enum has no such name."""
        try:
            return self.enumerators(enum)[name]
        except KeyError:
            raise MissingSymbolError(f"{self.source}: enum {enum} has no {name}") from None

    def parameters(self, function: str) -> tuple[str, ...]:
        """Names of a function's parameters, in their order.

        Raises:
            MissingSymbolError: the kernel has no such function.
        """
        prototype = int(self._word(self.type_id(function, (_FUNC,)), 2))
        return tuple(
            self._name(self._word(prototype, 3 + 2 * number))
            for number in range(self._count(prototype))
        )

    def kind_name(self, type_id: int) -> tuple[int, str]:
        """Kind number of the format, and the type's name (empty where it has none)."""
        return self._kind(type_id), self._name(int(self._word(type_id, 0)))

    def _direct(self, type_id: int, name: str, within: tuple[int, ...]) -> Member | None:
        if self._kind(type_id) not in (_STRUCT, _UNION) or type_id in within:
            return None
        with_bits = bool(self._word(type_id, 1) >> 31)
        for number in range(self._count(type_id)):
            name_at, member_type, position = (
                int(self._word(type_id, 3 + 3 * number + word)) for word in range(3)
            )
            bits, bit_offset = (
                (position >> 24, position & 0xFF_FFFF) if with_bits else (0, position)
            )
            own = self._name(name_at)
            if own == name:
                return Member(bit_offset=bit_offset, bits=bits, type_id=member_type)
            if not own:
                inner = self._direct(self.strip(member_type), name, (*within, type_id))
                if inner is not None:
                    return Member(
                        bit_offset=bit_offset + inner.bit_offset,
                        bits=inner.bits,
                        type_id=inner.type_id,
                    )
        return None

    def _named(self, name: str) -> list[int]:
        """Types of that name; strings are unique, so that one number stands for each name."""
        at = self._strings.find(b"\0" + name.encode() + b"\0")
        if at < 0:
            return []
        return [int(index) + 1 for index in np.flatnonzero(self._name_words == at + 1)]

    @cached_property
    def _name_words(self) -> NDArray[np.uint32]:
        words: NDArray[np.uint32] = self._words[self._starts[1:]]
        return words

    def _word(self, type_id: int, word: int) -> int:
        if not 0 < type_id < len(self._starts):
            raise MemoryReadError(
                f"{self.source}: its BTF refers to type {type_id}, which is not there"
            )
        return int(self._words[self._starts[type_id] + word])

    def _kind(self, type_id: int) -> int:
        return (self._word(type_id, 1) >> 24) & 0x1F if type_id else 0

    def _count(self, type_id: int) -> int:
        return self._word(type_id, 1) & 0xFFFF

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset:end].decode("ascii", "replace")


def btf_bytes(header: bytes) -> int | None:
    """Length of the BTF that begins with this header; None when it is not one."""
    if len(header) < HEADER_BYTES or header[:3] != MAGIC:
        return None
    fields = _HEADER.unpack_from(header)
    flags, header_bytes, type_start, type_bytes, string_start, string_bytes = fields[2:]
    size_bytes = int(header_bytes + string_start + string_bytes)
    whole = (
        flags == 0
        and header_bytes >= HEADER_BYTES
        and type_start == 0
        and type_bytes > 0
        and type_bytes % 4 == 0
        and type_bytes <= string_start
        and string_bytes > 1
        and size_bytes <= _MAX_BYTES
    )
    return size_bytes if whole else None


@numba.njit(cache=True)
def _record_words(info: int) -> int:
    """32-bit words of a type record, from its second word; -1 for a kind that is not known."""
    kind = (info >> 24) & 0x1F
    count = info & 0xFFFF
    if kind in (_PTR, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC, _FLOAT, _TYPE_TAG):
        return 3
    if kind in (_INT, _VAR, _DECL_TAG):
        return 4
    if kind == _ARRAY:
        return 6
    if kind in (_STRUCT, _UNION, _DATASEC, _ENUM64):
        return 3 + 3 * count
    if kind in (_ENUM, _FUNC_PROTO):
        return 3 + 2 * count
    return -1


@numba.njit(cache=True)
def _count_types(words: NDArray[np.uint32]) -> int:
    at = 0
    count = 0
    while at < len(words):
        if at + 3 > len(words):
            return -1
        size = _record_words(int(words[at + 1]))
        if size < 0 or at + size > len(words):
            return -1
        at += size
        count += 1
    return count


@numba.njit(cache=True)
def _index_types(words: NDArray[np.uint32], starts: NDArray[np.int64]) -> None:
    at = 0
    for type_id in range(1, len(starts)):
        starts[type_id] = at
        at += _record_words(int(words[at + 1]))
