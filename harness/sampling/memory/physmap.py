"""Which guest-physical addresses are RAM, and where in which node's memory they lie."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import MemoryReadError

_VIEW = re.compile(r"^FlatView #\d+$", re.MULTILINE)
_SPACE = re.compile(r'^ AS "memory", root: \S+', re.MULTILINE)
_RANGE = re.compile(
    r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (\S+)\): (\S+)(?: @([0-9a-f]{16}))?",
    re.MULTILINE,
)
_HOST_ADDRESS = re.compile(r"^Host virtual address for .* is (0x[0-9a-f]+)", re.MULTILINE)
_BACKEND = re.compile(r"ram(\d+)$")
_RAM_KINDS = ("ram", "rom")  # x86 shows RAM under the BIOS as rom where it is write-protected


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PhysicalRange:
    """``size_bytes`` bytes of node ``node``'s memory, from ``offset`` in it, at ``start``."""

    start: int
    """Guest-physical address."""
    size_bytes: int
    node: int
    """Index in ``Machine.memory_fds``, which is not always the kernel's number of the node."""
    offset: int

    @property
    def end(self) -> int:
        return self.start + self.size_bytes


def parse_mtree(text: str, source: str = "info mtree -f") -> tuple[PhysicalRange, ...]:
    """RAM ranges in the order of their addresses, from QEMU's flat view of system memory.

    The answer lists a view a address space; views that are equal are listed once, under all
    their names, and the one named ``memory`` is what CPUs see.

    Raises:
        MemoryReadError: there is no such view, or no memory backend of ours in it.
    """
    text = text.replace("\r\n", "\n")
    starts = [match.start() for match in _VIEW.finditer(text)]
    views = [text[a:b] for a, b in itertools.pairwise([*starts, len(text)])]
    memory = [view for view in views if _SPACE.search(view)]
    if not memory:
        raise MemoryReadError(
            f"{source}: QEMU shows no address space named memory",
            details={"its answer begins": text[:200]},
        )
    ranges: list[PhysicalRange] = []
    for match in _RANGE.finditer(memory[0]):
        start, last, kind, name, offset = match.groups()
        backend = _BACKEND.match(name)
        if backend is None or kind not in _RAM_KINDS:
            continue
        ranges.append(
            PhysicalRange(
                start=int(start, 16),
                size_bytes=int(last, 16) + 1 - int(start, 16),
                node=int(backend[1]),
                offset=int(offset or "0", 16),
            )
        )
    if not ranges:
        raise MemoryReadError(
            f"{source}: none of the guest's memory is backed by files of ours",
            fix="boot the machine with mmscope; its memory backends are named ram0, ram1 …",
        )
    return merge_ranges(ranges)


def parse_host_address(text: str) -> int:
    """Where in its own address space QEMU says that a guest-physical address is (``gpa2hva``).

    Raises:
        MemoryReadError: it does not say.
    """
    match = _HOST_ADDRESS.search(text)
    if match is None:
        raise MemoryReadError(f"QEMU does not say where it keeps the guest's RAM: {text.strip()}")
    return int(match[1], 16)


def merge_ranges(ranges: Sequence[PhysicalRange]) -> tuple[PhysicalRange, ...]:
    """Sorted, with neighbours joined that continue each other in both address spaces."""
    merged: list[PhysicalRange] = []
    for part in sorted(ranges):
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.end == part.start
            and last.node == part.node
            and last.offset + last.size_bytes == part.offset
        ):
            merged[-1] = PhysicalRange(
                start=last.start,
                size_bytes=last.size_bytes + part.size_bytes,
                node=last.node,
                offset=last.offset,
            )
        else:
            merged.append(part)
    return tuple(merged)
