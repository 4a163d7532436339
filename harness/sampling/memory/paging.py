"""Kernel-virtual to guest-physical addresses, by walking the guest kernel's own page tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import MemoryReadError
from harness.sampling.memory.ram import Ram, Span, read
from harness.sampling.memory.vmcoreinfo import VmcoreInfo

_ENTRY_BYTES = 8
_X86_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_X86_PRESENT = 1 << 0
_X86_LARGE = 1 << 7
_X86_GLOBAL_PROTNONE = 1 << 8
_X86_ADDRESS = 0x000F_FFFF_FFFF_F000
_ARM64_VALID = 1 << 0
_ARM64_TABLE = 1 << 1
_ARM64_ADDRESS = 0x0000_FFFF_FFFF_F000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How an architecture lays out its tables.

    *Kernel:* arch/x86/include/asm/pgtable_64_types.h, arch/arm64/include/asm/pgtable-hwdef.h.
    *Ignores:* physical addresses beyond 48 bits (arm64 LPA and LPA2): no such guest has RAM there.
    """

    arch: str
    root: int
    """Guest-physical address of the top table."""
    shifts: tuple[int, ...]
    """Address bit at which each level's index begins, top level first."""
    root_entries: int
    page_shift: int

    @property
    def entries(self) -> int:
        return 1 << (self.page_shift - 3)

    def decode(self, entry: int, level: int) -> tuple[int, bool] | None:
        """(physical address, whether it maps memory rather than a table); None: not mapped."""
        last = level == len(self.shifts) - 1
        if self.arch == "x86_64":
            if not entry & (_X86_PRESENT | _X86_GLOBAL_PROTNONE):
                return None
            leaf = last or bool(entry & _X86_LARGE)
            address = entry & _X86_ADDRESS
        else:
            if not entry & _ARM64_VALID or (last and not entry & _ARM64_TABLE):
                return None
            leaf = last or not entry & _ARM64_TABLE
            address = entry & _ARM64_ADDRESS & -(1 << self.page_shift)
        return address & -(1 << self.shifts[level]) if leaf else address, leaf


def schemes(info: VmcoreInfo) -> list[Scheme]:
    """Ways to read this kernel's tables, best first; one of them translates what it should.

    A 52-bit arm64 kernel on a CPU without that folds its tables; which way depends on the page
    size, so both are offered.

    Raises:
        MissingSymbolError: the vmcoreinfo lacks what locates the tables.
    """
    page_shift = info.page_size_bytes.bit_length() - 1
    root = info.symbol("swapper_pg_dir")
    if "phys_base" in info.numbers:
        levels = 5 if info.numbers.get("pgtable_l5_enabled") else 4
        return [
            Scheme(
                arch="x86_64",
                root=root - _X86_KERNEL_MAP + info.number("phys_base"),
                shifts=tuple(12 + 9 * level for level in reversed(range(levels))),
                root_entries=512,
                page_shift=12,
            )
        ]
    compiled_bits = info.number("VA_BITS")
    actual_bits = 64 - info.numbers.get("TCR_EL1_T1SZ", 64 - compiled_bits)
    found: list[Scheme] = []
    for bits in dict.fromkeys((actual_bits, compiled_bits)):
        step = page_shift - 3
        levels = -(-(bits - page_shift) // step)
        shifts = tuple(page_shift + step * level for level in reversed(range(levels)))
        found.append(
            Scheme(
                arch="arm64",
                root=root - info.number("kimage_voffset"),
                shifts=shifts,
                root_entries=1 << (bits - shifts[0]),
                page_shift=page_shift,
            )
        )
    return found


class AddressSpace:
    """The kernel's half of the guest's address space."""

    def __init__(self, ram: Ram, scheme: Scheme) -> None:
        self.ram = ram
        self.scheme = scheme
        self.tables: set[Span] = set()
        """Entries that translations so far went through; while they stay, the answers do."""

    def translate(self, address: int) -> tuple[int, int]:
        """(guest-physical address, bytes from there to the end of the mapping).

        Raises:
            MemoryReadError: the address is not mapped, or a table lies outside RAM.
        """
        scheme = self.scheme
        table = scheme.root
        for level, shift in enumerate(scheme.shifts):
            entries = scheme.entries if level else scheme.root_entries
            slot = table + ((address >> shift) & (entries - 1)) * _ENTRY_BYTES
            self.tables.add((slot, _ENTRY_BYTES))
            (entry,) = struct.unpack("<Q", read(self.ram, slot, _ENTRY_BYTES))
            decoded = scheme.decode(entry, level)
            if decoded is None:
                raise MemoryReadError(
                    f"the guest's kernel has nothing mapped at {address:#x} "
                    f"(level {level} of its page tables)"
                )
            table, leaf = decoded
            if leaf:
                inside = address & ((1 << shift) - 1)
                return table + inside, (1 << shift) - inside
        raise AssertionError("the last level always maps")

    def spans(self, address: int, size_bytes: int) -> Iterator[Span]:
        """Guest-physical spans behind a virtual one, joined where they touch."""
        open_start, open_bytes = -1, 0
        while size_bytes > 0:
            start, room = self.translate(address)
            part = min(room, size_bytes)
            if open_start + open_bytes == start:
                open_bytes += part
            else:
                if open_bytes:
                    yield open_start, open_bytes
                open_start, open_bytes = start, part
            address, size_bytes = address + part, size_bytes - part
        if open_bytes:
            yield open_start, open_bytes

    def read(self, address: int, size_bytes: int) -> bytes:
        """Raises MemoryReadError when a part is not mapped, or not RAM."""
        return b"".join(read(self.ram, *span) for span in self.spans(address, size_bytes))

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def text(self, address: int, limit_bytes: int = 256) -> str:
        """A NUL-terminated string, cut at ``limit_bytes``."""
        found = b""
        while len(found) < limit_bytes:
            start, room = self.translate(address + len(found))
            found += read(self.ram, start, min(room, limit_bytes - len(found), 64))
            if b"\0" in found:
                break
        return found.split(b"\0", 1)[0].decode("ascii", "replace")
