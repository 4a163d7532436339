"""Descriptions of machines are refused before anything starts when they cannot work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.machine.argv import platform_of
from harness.machine.spec import (
    KernelLimits,
    MachineSpec,
    NodeSpec,
    check_spec,
    kernel_node_numbers,
    parse_distances,
    spread_cpus,
    unseen_bytes,
)
from harness.units import format_size, parse_size_bytes

MIB = 1 << 20


def machine(*sizes_mib: int) -> MachineSpec:
    return MachineSpec(
        arch="x86_64",
        nodes=spread_cpus([size * MIB for size in sizes_mib], None),
        kernel=Path("k"),
        initramfs=Path("i"),
        root=Path("r"),
    )


def test_cpus_are_dealt_out_in_contiguous_blocks() -> None:
    nodes = spread_cpus([MIB, MIB], 5)
    assert [node.cpus for node in nodes] == [(0, 1, 2), (3, 4)]


def test_memoryless_nodes_get_cpus_first() -> None:
    nodes = spread_cpus([MIB, 0, MIB], 1)
    assert [node.cpus for node in nodes] == [(), (0,), ()]


def test_default_is_a_cpu_a_node_and_at_least_two() -> None:
    assert sum(len(node.cpus) for node in spread_cpus([MIB], None)) == 2
    assert sum(len(node.cpus) for node in spread_cpus([MIB] * 4, None)) == 4


@pytest.mark.parametrize("cpus", [0, -1, 256])
def test_cpu_numbers_out_of_range_are_refused(cpus: int) -> None:
    with pytest.raises(UsageError, match="--cpus"):
        spread_cpus([MIB], cpus)


def test_too_few_cpus_for_memoryless_nodes() -> None:
    with pytest.raises(UsageError, match="memory-less"):
        spread_cpus([MIB, 0, 0], 1)


def test_a_distance_holds_both_ways_unless_both_are_given() -> None:
    assert parse_distances(["0,1=20"], 2) == ((0, 1, 20), (1, 0, 20))
    assert parse_distances(["0,1=20", "1,0=30"], 2) == ((0, 1, 20), (1, 0, 30))


def test_nodes_without_cpus_are_numbered_last_on_x86() -> None:
    nodes = (
        NodeSpec(size_bytes=MIB, cpus=(0,)),
        NodeSpec(size_bytes=MIB),
        NodeSpec(size_bytes=0, cpus=(1,)),
    )
    spec = MachineSpec(arch="x86_64", nodes=nodes, kernel=Path("k"), initramfs=Path("i"))
    assert kernel_node_numbers(spec) == (0, 2, 1)
    assert kernel_node_numbers(dataclasses.replace(spec, arch="arm64")) == (0, 1, 2)


def test_pairs_that_are_not_named_get_the_default() -> None:
    distances = parse_distances(["0,2=31"], 3)
    assert {(s, t): d for s, t, d in distances} == {
        (0, 1): 20,
        (0, 2): 31,
        (1, 0): 20,
        (1, 2): 20,
        (2, 0): 31,
        (2, 1): 20,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0-1=20", "FROM,TO=DISTANCE"),
        ("0,1", "FROM,TO=DISTANCE"),
        ("0,1=x", "FROM,TO=DISTANCE"),
        ("0,2=20", "no node 2"),
        ("0,1=10", "out of range"),
        ("0,1=255", "out of range"),
        ("0,0=20", "out of range"),
    ],
)
def test_bad_distances_are_named(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        parse_distances([text], 2)
    assert text in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (machine(513), "node 0: 513M is not a multiple of 2M"),
        (machine(64, 32), "too little to boot"),
        (machine(2 << 20), "more than the emulated CPU"),
        (machine(*[128] * 5), "supports 4 nodes, 5 asked"),
    ],
)
def test_what_qemu_or_the_kernel_would_refuse(spec: MachineSpec, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        check_spec(spec, KernelLimits(max_nodes=4, release="6.1"))
    assert caught.value.fix


def test_an_i386_kernel_addresses_36_bits() -> None:
    spec = dataclasses.replace(machine(62 << 10), arch="i386")
    check_spec(spec, KernelLimits(max_nodes=1))
    more = dataclasses.replace(machine((62 << 10) + 2), arch="i386")
    with pytest.raises(UsageError, match="more than the emulated CPU") as caught:
        check_spec(more, KernelLimits(max_nodes=1))
    assert caught.value.fix == "give at most 62G"


@pytest.mark.parametrize(("mib", "unseen_mib"), [(2048, 0), (2814, 0), (2816, 768), (4096, 2048)])
def test_memory_above_4_gib_is_lost_on_a_kernel_without_pae(mib: int, unseen_mib: int) -> None:
    spec = dataclasses.replace(machine(mib), arch="i386")
    assert unseen_bytes(spec, KernelLimits(max_nodes=1, pae=False)) == unseen_mib * MIB
    assert unseen_bytes(spec, KernelLimits(max_nodes=1)) == 0


def test_numa_needs_a_numa_kernel() -> None:
    with pytest.raises(UsageError, match="CONFIG_NUMA"):
        check_spec(machine(128, 128), KernelLimits(max_nodes=1, numa=False))


def test_no_nodes_at_all() -> None:
    spec = MachineSpec(arch="x86_64", nodes=(), kernel=Path("k"), initramfs=Path("i"))
    with pytest.raises(UsageError, match="at least one node"):
        check_spec(spec, KernelLimits(max_nodes=4))


def test_unknown_architecture_names_the_known() -> None:
    with pytest.raises(UsageError, match="sparc") as caught:
        platform_of("sparc")
    assert "arm64" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 * MIB), ("1g", 1 << 30), ("4096", 4096), ("2 MiB", 2 * MIB)]
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1X", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size_bytes(text)


@pytest.mark.parametrize("size", [0, 1, 4096, 3 << 20, 1 << 30, 5 << 40, (1 << 30) + 1])
def test_format_size_keeps_every_byte(size: int) -> None:
    assert parse_size_bytes(format_size(size)) == size
    assert NodeSpec(size_bytes=size).cpus == ()


def test_a_swap_disk_is_whole_megabytes() -> None:
    limits = KernelLimits(max_nodes=1)
    check_spec(dataclasses.replace(machine(512), swap_bytes=64 * MIB), limits)
    with pytest.raises(UsageError, match="swap disk of 5K"):
        check_spec(dataclasses.replace(machine(512), swap_bytes=5 << 10), limits)
