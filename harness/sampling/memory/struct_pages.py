"""Where a kernel keeps its struct pages, read from outside by its own vmcoreinfo alone.

vmcoreinfo is what a kernel tells crash tools of the way from a page frame to its struct page, and
of the free lists: enough to read both on every architecture, with no type information. The free
lists hold addresses of struct pages that the kernel itself has worked out, under whatever memory
model it is built with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from harness.errors import MemoryReadError, NotLinuxError
from harness.sampling.memory.kernel import confirmed_space, known_symbols
from harness.sampling.memory.ram import Ram, read
from harness.sampling.memory.vmcoreinfo import VmcoreInfo, find_vmcoreinfo

LINEAR: Mapping[str, int] = {"i386": 0xC000_0000, "m68k": 0}
"""Where the kernel sees physical address 0, on architectures whose low memory is mapped in one go.

Kernel: PAGE_OFFSET; arch/x86/include/asm/page_32_types.h (CONFIG_VMSPLIT_3G),
arch/m68k/include/asm/page_offset.h."""

_BIG_ENDIAN = frozenset({"m68k"})
_NARROW = frozenset(LINEAR)
_UTS_FIELD_BYTES = 65
_NAME_OFFSETS = (0, 4)
"""Where the names stand in struct uts_namespace, if the kernel does not say (before 5.12): behind
a counter of references in 5.10."""
_LIST_MAX = 1 << 20
_NODES_MAX = 64
_HAS_MEM_MAP = 1 << 1
"""Kernel: include/linux/mmzone.h, SECTION_HAS_MEM_MAP."""


class Space(Protocol):
    """The kernel's addresses."""

    def read(self, address: int, size_bytes: int) -> bytes: ...


class LinearSpace:
    """Low memory, which lies at a fixed distance from its physical address."""

    def __init__(self, ram: Ram, offset: int) -> None:
        self._ram = ram
        self._offset = offset

    def read(self, address: int, size_bytes: int) -> bytes:
        """Raises MemoryReadError where it is not RAM."""
        return read(self._ram, address - self._offset, size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeHead:
    """The first page of a free block, as a free list names it."""

    node: int
    zone: int
    order: int
    address: int
    """Of its struct page."""
    content: bytes
    """Of its struct page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMap:
    """What a node's pglist_data says."""

    node: int
    start_pfn: int
    spanned_pages: int
    mem_map: int | None
    """``node_mem_map``; None where the kernel has no such member."""


class StructPages:
    """Reads one guest's; it should stand still meanwhile."""

    def __init__(self, ram: Ram, arch: str) -> None:
        """Raises NotLinuxError, MemoryReadError."""
        self.arch = arch
        self.word_bytes = 4 if arch in _NARROW else 8
        self.byte_order: str = "big" if arch in _BIG_ENDIAN else "little"
        self.space: Space
        self._known: Mapping[str, int] = {}
        if arch in LINEAR:
            self.space, self.info = _confirmed_linear(ram, LINEAR[arch])
        else:
            space, self.info = confirmed_space(ram)
            self.space = space
            self._known = known_symbols(space, self.info)

    def number(self, address: int, size_bytes: int | None = None) -> int:
        """An unsigned number, a word where no size is given."""
        content = self.space.read(address, size_bytes or self.word_bytes)
        return int.from_bytes(content, "big" if self.byte_order == "big" else "little")

    def nodes(self, symbols: Mapping[str, int]) -> dict[int, int]:
        """Nodes and the addresses of their pglist_data.

        ``symbols`` are kallsyms' addresses of those of ``pg_data_map``, ``node_data`` and
        ``contig_page_data`` that the kernel has.
        """
        size = self.info.sizes["pglist_data"]
        online = self._online()
        symbols = {**self._known, **symbols}
        if "pg_data_map" in symbols:
            return {node: symbols["pg_data_map"] + node * size for node in online}
        if "node_data" in symbols:
            return {
                node: self.number(symbols["node_data"] + node * self.word_bytes) for node in online
            }
        return {0: symbols.get("contig_page_data") or self.info.symbol("contig_page_data")}

    def _online(self) -> list[int]:
        """Numbers of the online nodes: a bitmap of words."""
        start = self.info.symbol("node_online_map")
        words = -(-self.info.sizes["nodemask_t"] // self.word_bytes)
        bits = 8 * self.word_bytes
        return [
            word * bits + bit
            for word in range(words)
            for bit in range(bits)
            if self.number(start + word * self.word_bytes) >> bit & 1
        ][:_NODES_MAX]

    def node_map(self, node: int, pgdat: int) -> NodeMap:
        """What a node's pglist_data says of its memmap."""
        offsets = self.info.offsets
        at = offsets.get("pglist_data.node_mem_map")
        return NodeMap(
            node=node,
            start_pfn=self.number(pgdat + offsets["pglist_data.node_start_pfn"]),
            spanned_pages=self.number(pgdat + offsets["pglist_data.node_spanned_pages"]),
            mem_map=None if at is None else self.number(pgdat + at),
        )

    def free_heads(self, node: int, pgdat: int) -> Iterator[FreeHead]:
        """The first page of every free block of a node, in the order of its lists.

        Raises:
            MemoryReadError: a list leads nowhere.
        """
        offsets, sizes = self.info.offsets, self.info.sizes
        zones = self.number(pgdat + offsets["pglist_data.nr_zones"], 4)
        for zone in range(zones):
            base = pgdat + offsets["pglist_data.node_zones"] + zone * sizes["zone"]
            for order in range(self.info.length("zone.free_area")):
                area = base + offsets["zone.free_area"] + order * sizes["free_area"]
                first = area + offsets["free_area.free_list"]
                for kind in range(self.info.length("free_area.free_list")):
                    for address in self._list(first + kind * sizes["list_head"]):
                        yield FreeHead(
                            node=node,
                            zone=zone,
                            order=order,
                            address=address,
                            content=self.space.read(address, sizes["page"]),
                        )

    def _list(self, head: int) -> Iterator[int]:
        to_next, lru = self.info.offsets["list_head.next"], self.info.offsets["page.lru"]
        entry = self.number(head + to_next)
        for _ in range(_LIST_MAX):
            # a list that was never made, in a zone that is not populated, is all zero
            if entry in (head, 0):
                return
            yield entry - lru
            entry = self.number(entry + to_next)
        raise MemoryReadError(f"the free list at {head:#x} does not end")

    def sections(self) -> Iterator[tuple[int, int]]:
        """(number, ``section_mem_map`` with its flags) of every section that has a memmap.

        Kernel: include/linux/mmzone.h, ``__nr_to_section``, with CONFIG_SPARSEMEM_EXTREME.
        """
        roots = self.info.lengths.get("mem_section", 0)
        size = self.info.sizes.get("mem_section", 0)
        if not roots or not size:
            return
        table = self.info.symbol("mem_section")
        each = self.info.page_size_bytes // size
        at = self.info.offsets["mem_section.section_mem_map"]
        for root in range(roots):
            start = self.number(table + root * self.word_bytes)
            for slot in range(each if start else 0):
                value = self.number(start + slot * size + at)
                if value & _HAS_MEM_MAP:
                    yield root * each + slot, value


def _confirmed_linear(ram: Ram, offset: int) -> tuple[LinearSpace, VmcoreInfo]:
    space = LinearSpace(ram, offset)
    reasons: list[str] = []
    for info in find_vmcoreinfo(ram.used()):
        said = info.offsets.get("uts_namespace.name")
        found = ""
        for at in (said,) if said is not None else _NAME_OFFSETS:
            name = info.symbol("init_uts_ns") + at + 2 * _UTS_FIELD_BYTES
            try:
                release = space.read(name, _UTS_FIELD_BYTES)
            except MemoryReadError as error:
                found = error.message
                continue
            found = release.split(b"\0", 1)[0].decode("ascii", "replace")
            if found == info.release:
                return space, info
        reasons.append(f"{info.release}: init_uts_ns says {found!r}")
    raise NotLinuxError(
        "a kernel left its description in the guest's memory, but does not run there",
        details={"why": "\n".join(reasons)},
    )
