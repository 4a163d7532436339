"""Struct pages and free lists by vmcoreinfo alone, in a memory that is made here."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from harness.errors import NotLinuxError
from harness.sampling.memory.physmap import PhysicalRange
from harness.sampling.memory.struct_pages import LINEAR, StructPages

RELEASE = "5.10.0-made"
SIZE = 1 << 20
UTS, ONLINE, PGDAT, MEM_MAP, TEXT = 0x1000, 0x2000, 0x3000, 0x8000, 0x70000
PGDAT_BYTES, ZONE_BYTES, PAGE_BYTES = 0x400, 0x100, 36
ZONES_AT, NR_ZONES_AT, START_AT, SPANNED_AT, MAP_AT = 0, 0x300, 0x304, 0x308, 0x30C
AREA_AT, AREA_BYTES, LRU_AT = 0x20, 20, 4


class MadeRam:
    """One stretch of bytes from physical address 0."""

    base = 0
    ranges: tuple[PhysicalRange, ...] = (PhysicalRange(start=0, size_bytes=SIZE, node=0, offset=0),)

    def __init__(self) -> None:
        self.array = np.zeros(SIZE, np.uint8)

    def put(self, address: int, content: bytes) -> None:
        self.array[address : address + len(content)] = np.frombuffer(content, np.uint8)

    def check(self) -> None: ...

    def refresh(self, spans: Iterable[tuple[int, int]]) -> None: ...

    def close(self) -> None: ...

    def used(self) -> Iterator[tuple[int, bytes]]:
        yield 0, self.array.tobytes()


def _machine(arch: str, order: str) -> MadeRam:
    """Two nodes of one zone with two orders and two lists each; node 1 has a block of order 1."""
    ram, offset = MadeRam(), LINEAR[arch]
    lines = [
        f"OSRELEASE={RELEASE}",
        "PAGESIZE=4096",
        "CONFIG_X86_PAE=y",
        *(f"SYMBOL({name})={at + offset:x}" for name, at in (
            ("init_uts_ns", UTS), ("node_online_map", ONLINE), ("swapper_pg_dir", 0),
            ("_stext", 0),
        )),
        *(f"SIZE({name})={size}" for name, size in (
            ("page", PAGE_BYTES), ("pglist_data", PGDAT_BYTES), ("zone", ZONE_BYTES),
            ("free_area", AREA_BYTES), ("list_head", 8), ("nodemask_t", 4),
        )),
        *(f"OFFSET({name})={at}" for name, at in (
            ("uts_namespace.name", 0), ("page.lru", LRU_AT), ("list_head.next", 0),
            ("pglist_data.node_zones", ZONES_AT), ("pglist_data.nr_zones", NR_ZONES_AT),
            ("pglist_data.node_start_pfn", START_AT), ("zone.free_area", AREA_AT),
            ("pglist_data.node_spanned_pages", SPANNED_AT), ("free_area.free_list", 0),
            ("pglist_data.node_mem_map", MAP_AT),
        )),
        "LENGTH(zone.free_area)=2",
        "LENGTH(free_area.free_list)=2",
    ]  # fmt: skip
    ram.put(TEXT, "\n".join(lines).encode() + b"\n\0")
    ram.put(UTS + 2 * 65, RELEASE.encode() + b"\0")

    def word(at: int, value: int) -> None:
        ram.put(at, struct.pack(f"{order}I", value))

    word(ONLINE, 0b11)
    for node in (0, 1):
        pgdat = PGDAT + node * PGDAT_BYTES
        word(pgdat + NR_ZONES_AT, 1)
        word(pgdat + START_AT, 64 * node)
        word(pgdat + SPANNED_AT, 32)
        word(pgdat + MAP_AT, MEM_MAP + offset + node * 32 * PAGE_BYTES)
        for slot in range(4):
            head = pgdat + ZONES_AT + AREA_AT + slot // 2 * AREA_BYTES + slot % 2 * 8
            word(head, head + offset)
    page = MEM_MAP + (32 + 6) * PAGE_BYTES
    head = PGDAT + PGDAT_BYTES + AREA_AT + AREA_BYTES + 8
    word(head, page + LRU_AT + offset)
    word(page + LRU_AT, head + offset)
    word(page + PAGE_BYTES - 4, 0x46000)
    return ram


@pytest.mark.parametrize(("arch", "order"), [("i386", "<"), ("m68k", ">")])
def test_a_free_block_is_found_in_its_list(arch: str, order: str) -> None:
    pages = StructPages(_machine(arch, order), arch)
    offset = LINEAR[arch]
    nodes = pages.nodes({"pg_data_map": PGDAT + offset})
    assert nodes == {0: PGDAT + offset, 1: PGDAT + PGDAT_BYTES + offset}
    assert list(pages.free_heads(0, nodes[0])) == []
    (head,) = pages.free_heads(1, nodes[1])
    assert (head.node, head.zone, head.order) == (1, 0, 1)
    assert head.address == MEM_MAP + offset + (32 + 6) * PAGE_BYTES
    assert head.content[-4:] == struct.pack(f"{order}I", 0x46000)
    told = pages.node_map(1, nodes[1])
    assert (told.start_pfn, told.spanned_pages) == (64, 32)
    assert told.mem_map == MEM_MAP + offset + 32 * PAGE_BYTES
    assert list(pages.sections()) == []


def test_a_description_that_memory_does_not_confirm_is_not_believed() -> None:
    ram = _machine("m68k", ">")
    ram.put(UTS + 2 * 65, b"4.19.0-older\0")
    with pytest.raises(NotLinuxError):
        StructPages(ram, "m68k")
