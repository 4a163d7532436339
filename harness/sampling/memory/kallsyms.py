"""Kernel symbols by name, from the tables that the kernel itself carries in RAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError, MissingSymbolError
from harness.sampling.memory.paging import AddressSpace
from harness.sampling.memory.vmcoreinfo import VmcoreInfo

_MAX_SYMBOLS = 2_000_000
_MAX_NAME_BYTES = 64
"""Mean encoded length is about 10; this only bounds what is read."""
_TOKEN_TABLE_BYTES = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Kallsyms:
    """``names`` holds all symbols, each as NUL, type letter, name; ``starts`` where each begins."""

    names: bytes
    starts: NDArray[np.int64]
    addresses: NDArray[np.uint64]

    def addresses_of(self, name: str) -> list[int]:
        """All symbols of that name (static ones may share it)."""
        found: list[int] = []
        wanted = name.encode() + b"\0"
        at = self.names.find(wanted)
        while at >= 0:
            start = at - 2
            if start >= 0 and self.names[start] == 0:
                index = int(np.searchsorted(self.starts, start))
                found.append(int(self.addresses[index]))
            at = self.names.find(wanted, at + 1)
        return found


def read_kallsyms(space: AddressSpace, info: VmcoreInfo) -> Kallsyms:
    """All of the kernel's own symbols (a stock 6.1: 190,000 on x86_64, 45,000 on arm64).

    *Kernel:* kernel/kallsyms.c. Names are a length (two bytes from 0x80 on) and that many
    tokens. Addresses: up to 6.15 relative to kallsyms_relative_base, and with
    CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86_64) a positive offset is an absolute per-cpu one, a
    negative one counts down from base - 1; later relative to the table's entry itself.

    Raises:
        MissingSymbolError: the kernel does not say where its tables are (before 6.0).
        MemoryReadError: the tables contradict themselves.
    """
    count = space.u32(info.symbol("kallsyms_num_syms"))
    if not 0 < count <= _MAX_SYMBOLS:
        raise MemoryReadError(f"kernel {info.release} claims to have {count} symbols")
    index = np.frombuffer(space.read(info.symbol("kallsyms_token_index"), 512), "<u2")
    table = np.frombuffer(_readable(space, info, "kallsyms_token_table", _TOKEN_TABLE_BYTES), "u1")
    coded = np.frombuffer(_readable(space, info, "kallsyms_names", count * _MAX_NAME_BYTES), "u1")
    size_bytes = _expanded_bytes(coded, count, index, table)
    if size_bytes < 0:
        raise MemoryReadError(f"kernel {info.release}: its symbol names are damaged")
    names = np.zeros(size_bytes + 1, np.uint8)
    starts = np.zeros(count, np.int64)
    _expand(coded, count, index, table, names, starts)
    table_address = info.symbol("kallsyms_offsets")
    offsets = np.frombuffer(space.read(table_address, 4 * count), "<i4").astype(np.int64)
    return Kallsyms(
        names=names.tobytes(),
        starts=starts,
        addresses=_addresses(space, info, table_address, offsets),
    )


def _addresses(
    space: AddressSpace, info: VmcoreInfo, table_address: int, offsets: NDArray[np.int64]
) -> NDArray[np.uint64]:
    if "kallsyms_relative_base" not in info.symbols:
        entries = np.uint64(table_address) + np.arange(len(offsets), dtype=np.uint64) * np.uint64(4)
        return entries + offsets.astype(np.uint64)
    base = space.u64(info.symbol("kallsyms_relative_base"))
    if (offsets < 0).any():
        relative = (np.int64(-1) - offsets).astype(np.uint64) + np.uint64(base)
        return np.where(offsets < 0, relative, offsets.astype(np.uint64))
    return (offsets & 0xFFFF_FFFF).astype(np.uint64) + np.uint64(base)


def _readable(space: AddressSpace, info: VmcoreInfo, symbol: str, limit_bytes: int) -> bytes:
    """Up to the limit, ending early where the kernel's image ends."""
    address = info.symbol(symbol)
    parts: list[bytes] = []
    done = 0
    while done < limit_bytes:
        try:
            _, room = space.translate(address + done)
        except MemoryReadError:
            if not parts:
                raise
            break
        size_bytes = min(room, limit_bytes - done)
        parts.append(space.read(address + done, size_bytes))
        done += size_bytes
    return b"".join(parts)


@numba.njit(cache=True)
def _expanded_bytes(
    coded: NDArray[np.uint8],
    count: int,
    index: NDArray[np.uint16],
    table: NDArray[np.uint8],
) -> int:
    """Bytes of all names with a NUL before each; -1 where the tables end too early."""
    token_bytes = np.zeros(256, np.int64)
    for token in range(256):
        at = np.int64(index[token])
        while at < len(table) and table[at] != 0:
            token_bytes[token] += 1
            at += 1
        if at >= len(table):
            return -1
    at = np.int64(0)
    total = np.int64(0)
    for _ in range(count):
        if at + 2 > len(coded):
            return -1
        length = np.int64(coded[at])
        at += 1
        if length & 0x80:
            length = (length & 0x7F) | (np.int64(coded[at]) << 7)
            at += 1
        if length == 0 or at + length > len(coded):
            return -1
        total += 1
        for _ in range(length):
            total += token_bytes[coded[at]]
            at += 1
    return int(total)


@numba.njit(cache=True)
def _expand(
    coded: NDArray[np.uint8],
    count: int,
    index: NDArray[np.uint16],
    table: NDArray[np.uint8],
    names: NDArray[np.uint8],
    starts: NDArray[np.int64],
) -> None:
    at = np.int64(0)
    to = np.int64(0)
    for number in range(count):
        length = np.int64(coded[at])
        at += 1
        if length & 0x80:
            length = (length & 0x7F) | (np.int64(coded[at]) << 7)
            at += 1
        starts[number] = to
        to += 1
        for _ in range(length):
            byte = np.int64(index[coded[at]])
            at += 1
            while table[byte] != 0:
                names[to] = table[byte]
                to += 1
                byte += 1


def exported_symbols(
    image: bytes, address: int, names: Iterable[str], anchor: tuple[str, int]
) -> Mapping[str, int]:
    """Symbols that the kernel exports to modules, from the export table in its image.

    ``image`` is the kernel from virtual ``address`` on. ``anchor`` is an exported symbol whose
    address is known otherwise: a table that gets it wrong is not believed, so that a chance
    match in data cannot pass for an entry.

    *Kernel:* struct kernel_symbol in kernel/module (place-relative, CONFIG_HAVE_ARCH_PREL32_\
RELOCATIONS, 64-bit x86 and arm64): three 32-bit words, value, name and namespace, each counted
    from its own address; sorted by name.

    Raises:
        MissingSymbolError: the anchor is not found, so there is no export table to read.
    """
    words = np.frombuffer(image, "<i4", count=len(image) // 4)
    targets = np.arange(len(words), dtype=np.int64) * 4 + words
    anchor_name, anchor_address = anchor
    anchors = [
        entry
        for entry, value in _entries(image, targets, anchor_name)
        if value + address == anchor_address
    ]
    if not anchors:
        raise MissingSymbolError(
            f"the kernel's export table was not found: no entry gives {anchor_name} its address"
        )
    phase = anchors[0] % 3
    found: dict[str, int] = {}
    for name in names:
        for entry, value in _entries(image, targets, name):
            if entry % 3 == phase:
                found[name] = value + address
    return found


def _entries(image: bytes, targets: NDArray[np.int64], name: str) -> list[tuple[int, int]]:
    """(word index of an entry, offset in the image of its value) for each entry of that name."""
    found: list[tuple[int, int]] = []
    at = image.find(b"\0" + name.encode() + b"\0")
    while at >= 0:
        found += [
            (int(index) - 1, int(targets[index - 1]))
            for index in np.flatnonzero(targets == at + 1)
            if index
        ]
        at = image.find(b"\0" + name.encode() + b"\0", at + 1)
    return found


def read_exported(
    space: AddressSpace, info: VmcoreInfo, start: int, end: int, names: Iterable[str]
) -> Mapping[str, int]:
    """``exported_symbols`` of the guest's image, from ``start`` to ``end``; see there."""
    anchor = ("init_uts_ns", info.symbol("init_uts_ns"))
    return exported_symbols(space.read(start, end - start), start, names, anchor)
