"""Guest RAM as an array, and where its ranges come from."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest

from harness.errors import MemoryReadError
from harness.sampling.memory.physmap import (
    PhysicalRange,
    merge_ranges,
    parse_host_address,
    parse_mtree,
)
from harness.sampling.memory.ram import FileRam, ProcessRam, read
from tests.made_kernel import MadeRam

MTREE = """FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "virtio-blk-pci", root: bus master container
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-00000000000c2fff (prio 0, ram): ram0
  00000000000c3000-00000000000e7fff (prio 0, rom): ram0 @00000000000c3000
  00000000000e8000-00000000000effff (prio 0, ram): ram0 @00000000000e8000
  00000000000f0000-000000007fffffff (prio 0, ram): ram0 @00000000000f0000
  00000000febfc000-00000000febfc01f (prio 0, i/o): msix-table
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000013fffffff (prio 0, ram): ram0 @0000000080000000
  0000000140000000-000000017fffffff (prio 0, ram): ram1

"""
GIB = 1 << 30


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_ranges_of_a_machine_with_a_hole(newline: str) -> None:
    ranges = parse_mtree(MTREE.replace("\n", newline))
    assert ranges == (
        PhysicalRange(start=0, size_bytes=2 * GIB, node=0, offset=0),
        PhysicalRange(start=4 * GIB, size_bytes=GIB, node=0, offset=2 * GIB),
        PhysicalRange(start=5 * GIB, size_bytes=GIB, node=1, offset=0),
    )


def test_no_memory_and_no_memory_of_ours() -> None:
    with pytest.raises(MemoryReadError, match="no address space named memory"):
        parse_mtree(MTREE.replace('AS "memory"', 'AS "other"'))
    with pytest.raises(MemoryReadError, match="no address space"):
        parse_mtree("")
    with pytest.raises(MemoryReadError, match="none of the guest's memory"):
        parse_mtree(MTREE.replace("ram0", "pc.ram").replace("ram1", "pc.ram"))


def test_ranges_that_do_not_continue_each_other_stay_apart() -> None:
    parts = [
        PhysicalRange(start=0, size_bytes=4096, node=0, offset=0),
        PhysicalRange(start=4096, size_bytes=4096, node=0, offset=8192),
        PhysicalRange(start=8192, size_bytes=4096, node=1, offset=12288),
    ]
    assert merge_ranges(reversed(parts)) == tuple(parts)  # type: ignore[arg-type]


def test_host_addresses() -> None:
    text = "Host virtual address for 0x40000000 (ram0) is 0x7f2b40000000\r\n"
    assert parse_host_address(text) == 0x7F2B40000000
    with pytest.raises(MemoryReadError, match="No memory is mapped"):
        parse_host_address("No memory is mapped at address 0x40000000\r\n")


@pytest.fixture
def made() -> Iterator[MadeRam]:
    made = MadeRam(
        [
            PhysicalRange(start=1 << 20, size_bytes=1 << 20, node=0, offset=0),
            PhysicalRange(start=8 << 20, size_bytes=1 << 20, node=0, offset=1 << 20),
            PhysicalRange(start=9 << 20, size_bytes=1 << 20, node=1, offset=0),
        ]
    )
    yield made
    made.close()


def test_the_array_is_the_ram_and_holes_are_zero(made: MadeRam) -> None:
    made.write((1 << 20) + 10, b"node zero")
    made.write((9 << 20) - 4, b"high")
    made.write(9 << 20, b"next")
    with made.ram() as ram:
        assert ram.base == 1 << 20
        assert read(ram, (1 << 20) + 10, 9) == b"node zero"
        assert read(ram, (9 << 20) - 4, 8) == b"highnext"
        assert not ram.array[1 << 20 : 7 << 20].any()
        made.write((1 << 20) + 10, b"NODE")
        assert bytes(ram.array[10:14]) == b"NODE"
        for start, size in ((0, 1), (2 << 20, 1), ((2 << 20) - 1, 2), ((10 << 20) - 1, 2)):
            with pytest.raises(MemoryReadError, match="is not RAM of this guest"):
                read(ram, start, size)


def test_looking_for_what_is_used_takes_no_memory(made: MadeRam) -> None:
    made.write(9 << 20, b"x" * 4096)
    before = made.used_bytes()
    with made.ram() as ram:
        chunks = list(ram.used())
    assert [(address, len(chunk)) for address, chunk in chunks] == [(9 << 20, 4096)]
    assert made.used_bytes() == before


def test_truncated_and_missing_files_are_refused(made: MadeRam) -> None:
    with made.ram() as ram:
        os.truncate(made.files[1], 4096)
        with pytest.raises(MemoryReadError, match="memory of node 1 is truncated: 4096 bytes"):
            ram.check()
    with pytest.raises(MemoryReadError, match="truncated"):
        made.ram()
    with pytest.raises(MemoryReadError, match="node 1, of which we have no file"):
        FileRam([made.files[0], None], tuple(made.ranges))
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(MemoryReadError, match="truncated"):
            FileRam([made.files[0], read_end], tuple(made.ranges))
    finally:
        os.close(read_end)
        os.close(write_end)


def test_unreadable_files_are_refused(made: MadeRam) -> None:
    path = f"/proc/self/fd/{made.files[0]}"
    blind = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(MemoryReadError, match=r"cannot be mapped.*Permission denied"):
            FileRam([blind, made.files[1]], tuple(made.ranges))
    finally:
        os.close(blind)
    closed = os.dup(made.files[0])
    os.close(closed)
    with pytest.raises(MemoryReadError, match="cannot be read: Bad file descriptor"):
        FileRam([closed, made.files[1]], tuple(made.ranges))


def test_a_process_s_memory_is_copied_when_asked_for(made: MadeRam) -> None:
    made.write(9 << 20, b"snapshot")
    with (
        mmap.mmap(made.files[0], 0, mmap.MAP_PRIVATE) as low,
        mmap.mmap(made.files[1], 0, mmap.MAP_PRIVATE) as high,
    ):
        views = [np.frombuffer(low, np.uint8), np.frombuffer(high, np.uint8)]
        addresses = {node: view.ctypes.data for node, view in enumerate(views)}
        ram = ProcessRam(os.getpid(), addresses, made.files, tuple(made.ranges))
        try:
            assert read(ram, 9 << 20, 8) == b"snapshot"
            high[:8] = b"private!"
            low[(1 << 20) : (1 << 20) + 4] = b"here"
            assert bytes(ram.array[8 << 20 : (8 << 20) + 8]) == b"snapshot"
            ram.refresh([(9 << 20, 8), (8 << 20, 4)])
            assert bytes(ram.array[8 << 20 : (8 << 20) + 8]) == b"private!"
            assert bytes(ram.array[7 << 20 : (7 << 20) + 4]) == b"here"
            assert b"snapshot" in b"".join(chunk for _, chunk in ram.used())
        finally:
            ram.close()
            del views


def test_a_process_that_is_gone_or_elsewhere(made: MadeRam) -> None:
    with pytest.raises(MemoryReadError, match=r"pid 0\) cannot be read"):
        ProcessRam(0, {0: 0, 1: 0}, made.files, tuple(made.ranges))
    with pytest.raises(MemoryReadError, match="memory of node 0"):
        ProcessRam(os.getpid(), {0: 1 << 12, 1: 1 << 12}, made.files, tuple(made.ranges))
