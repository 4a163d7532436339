"""Memory in pieces: where they lie, and the boot records that name them."""

from __future__ import annotations

import itertools
import struct

import pytest

from harness.errors import LaunchError, UsageError
from harness.machine.chunks import GRAIN_BYTES, Chunk, place_chunks, with_chunks
from harness.machine.spec import KernelLimits, MachineSpec, NodeSpec, check_spec
from tests.golden.test_argv import spec

MIB = 1 << 20


def _record(tag: int, data: bytes) -> bytes:
    return struct.pack(">HH", tag, 4 + len(data)) + data


def _list(*records: bytes) -> bytes:
    return b"".join(records) + _record(0, b"")


MACHINE = _record(1, struct.pack(">I", 3))
WHOLE = _record(5, struct.pack(">II", 0, 256 * MIB))
COMMAND_LINE = _record(7, b"console=ttyS0\0")


@pytest.mark.parametrize("sizes", [(64,), (64, 32), (2, 2, 2, 2), (100, 30, 16)])
def test_pieces_are_apart_and_no_table_entry_has_two(sizes: tuple[int, ...]) -> None:
    chunks = place_chunks([size * MIB for size in sizes])
    assert [chunk.size_bytes for chunk in chunks] == [size * MIB for size in sizes]
    assert chunks[0].start == 0
    for before, after in itertools.pairwise(chunks):
        assert after.start % GRAIN_BYTES == 0
        assert after.start - before.end >= GRAIN_BYTES
    # m68k_virt_to_node_shift: fls(span - 1) - 6
    shift = (chunks[-1].end - 1).bit_length() - 6
    entries = [{address >> shift for address in (chunk.start, chunk.end - 1)} for chunk in chunks]
    assert sum(map(len, entries)) == len(set().union(*entries))


def test_one_record_becomes_several() -> None:
    chunks = (Chunk(start=0, size_bytes=64 * MIB), Chunk(start=96 * MIB, size_bytes=32 * MIB))
    made = with_chunks(_list(MACHINE, WHOLE, COMMAND_LINE) + b"whatever follows", chunks)
    assert made == _list(
        MACHINE,
        _record(5, struct.pack(">II", 0, 64 * MIB)),
        _record(5, struct.pack(">II", 96 * MIB, 32 * MIB)),
        COMMAND_LINE,
    )


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (b"", "no list of boot records"),
        (MACHINE + WHOLE, "no list of boot records"),
        (_list(MACHINE), "0 pieces of memory"),
        (_list(WHOLE, WHOLE), "2 pieces of memory"),
        (struct.pack(">HH", 9, 2) + bytes(8), "has the size 2"),
        (struct.pack(">HH", 9, 4000) + bytes(8), "has the size 4000"),
        (struct.pack(">HHB", 9, 5, 0) + bytes(8), "has the size 5"),
    ],
)
def test_what_is_no_list_is_refused(records: bytes, text: str) -> None:
    with pytest.raises(LaunchError, match=text):
        with_chunks(records, place_chunks([64 * MIB]))


def _machine(*sizes: int, cpus: tuple[int, ...] = (0,), **more: object) -> MachineSpec:
    nodes = tuple(
        NodeSpec(size_bytes=size * MIB, cpus=() if number else cpus)
        for number, size in enumerate(sizes)
    )
    return spec("m68k", nodes, root=None, **more)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (_machine(512, cpus=(0, 1)), "one CPU"),
        (_machine(64, 64, 64, 64, 64), "keep 4 pieces"),
        (_machine(256, 0), "no nodes without memory"),
        (_machine(512, 512), "more than the machine takes"),
        (_machine(256, swap_bytes=64 * MIB), "no disks and no network"),
    ],
)
def test_what_the_machine_cannot_be(machine: MachineSpec, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check_spec(machine, KernelLimits(max_nodes=8, numa=False))


def test_nodes_are_pieces_even_without_numa() -> None:
    machine = _machine(96, 40)
    check_spec(machine, KernelLimits(max_nodes=8, numa=False))
    assert machine.memory_bytes == 136 * MIB
    assert machine.span_bytes == 168 * MIB
