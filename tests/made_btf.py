"""Type information (BTF) made by hand, as a kernel would carry it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
FUNC, FUNC_PROTO = 12, 13
ENUM64 = 19


@dataclass(slots=True)
class MadeBtf:
    """Adds types, in the order of their numbers (from 1); ``bytes`` is the whole."""

    records: list[bytes] = field(default_factory=list)
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    known: dict[str, int] = field(default_factory=lambda: {"": 0})

    def name(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self.known[text]

    def add(
        self, kind: int, name: str, size: int, *words: int, count: int = 0, flag: bool = False
    ) -> int:
        info = kind << 24 | count | flag << 31
        self.records.append(struct.pack("<III", self.name(name), info, size))
        self.records[-1] += struct.pack(f"<{len(words)}I", *words)
        return len(self.records)

    def integer(self, name: str, size: int, *, signed: bool = False) -> int:
        return self.add(INT, name, size, int(signed) << 24 | size * 8)

    def pointer(self, to: int = 0) -> int:
        return self.add(PTR, "", to)

    def array(self, element: int, length: int) -> int:
        return self.add(ARRAY, "", 0, element, element, length)

    def struct(
        self, name: str, size: int, members: Sequence[tuple[str, int, int]], *, kind: int = STRUCT
    ) -> int:
        """Members: name, type, bit offset."""
        words = [w for n, t, bits in members for w in (self.name(n), t, bits)]
        return self.add(kind, name, size, *words, count=len(members))

    def bitfields(self, name: str, size: int, members: Sequence[tuple[str, int, int, int]]) -> int:
        """Members: name, type, bit offset, bits."""
        words = [w for n, t, at, bits in members for w in (self.name(n), t, bits << 24 | at)]
        return self.add(STRUCT, name, size, *words, count=len(members), flag=True)

    def enum(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        words = [w for n, value in values.items() for w in (self.name(n), value & 0xFFFF_FFFF)]
        return self.add(ENUM, name, 4, *words, count=len(values), flag=signed)

    def enum64(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        words = [
            w
            for n, value in values.items()
            for w in (self.name(n), value & 0xFFFF_FFFF, value >> 32 & 0xFFFF_FFFF)
        ]
        return self.add(ENUM64, name, 8, *words, count=len(values), flag=signed)

    @property
    def bytes(self) -> bytes:
        types = b"".join(self.records)
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings)
        )
        return header + types + bytes(self.strings)
