"""QEMU's argument list for typical machines, word by word.

After a deliberate change run ``pytest tests/golden --update-golden`` and read the diff.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.machine.argv import Endpoints, qemu_argv
from harness.machine.spec import MachineSpec, NodeSpec

HERE = Path(__file__).parent
MIB = 1 << 20


def spec(arch: str, nodes: tuple[NodeSpec, ...], **more: object) -> MachineSpec:
    values: dict[str, object] = {
        "arch": arch,
        "nodes": nodes,
        "kernel": Path("/cache/kernel"),
        "initramfs": Path("/cache/initramfs"),
        "root": Path("/cache/root.erofs"),
    }
    return MachineSpec(**(values | more))  # type: ignore[arg-type]


CASES = {
    "uma-x86_64": spec("x86_64", (NodeSpec(size_bytes=1024 * MIB, cpus=(0, 1)),)),
    "numa-arm64": spec(
        "arm64",
        (
            NodeSpec(size_bytes=512 * MIB, cpus=(0,)),
            NodeSpec(size_bytes=1024 * MIB, cpus=(1,)),
        ),
        distances=((0, 1, 20), (1, 0, 20)),
        network=True,
        append=("movablecore=256M",),
    ),
    "four-nodes-x86_64": spec(
        "x86_64",
        (
            NodeSpec(size_bytes=512 * MIB, cpus=(0,)),
            NodeSpec(size_bytes=256 * MIB, cpus=()),
            NodeSpec(size_bytes=0, cpus=(1, 2)),
            NodeSpec(size_bytes=384 * MIB, cpus=(3,)),
        ),
    ),
    "disks-arm64": spec(
        "arm64",
        (NodeSpec(size_bytes=512 * MIB, cpus=(0,)),),
        swap_bytes=256 * MIB,
        dma_disk=True,
    ),
    "pieces-m68k": spec(
        "m68k",
        (NodeSpec(size_bytes=96 * MIB, cpus=(0,)), NodeSpec(size_bytes=40 * MIB)),
        root=None,
    ),
    "uma-i386": spec(
        "i386",
        (NodeSpec(size_bytes=3072 * MIB, cpus=(0, 1)),),
        append=("movablecore=256M",),
    ),
    "bare-kvm-x86_64": spec(
        "x86_64", (NodeSpec(size_bytes=256 * MIB, cpus=(0,)),), root=None, accel="kvm"
    ),
    "bare-kvm-arm64": spec(
        "arm64", (NodeSpec(size_bytes=256 * MIB, cpus=(0,)),), root=None, accel="kvm"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_argv_is_as_recorded(name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    memory = tuple(20 + n if part.size_bytes else None for n, part in enumerate(case.nodes))
    endpoints = Endpoints(
        qmp=10,
        console=11,
        control=12,
        stream=13,
        trace=14,
        memory=memory,
        swap=30 if case.swap_bytes else None,
    )
    text = "\n".join(qemu_argv(case, endpoints)) + "\n"
    path = HERE / f"argv-{name}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()


def test_a_restored_machine_waits_for_its_state_on_private_memory() -> None:
    """It differs from the one that was booted in nothing else: QEMU wants the same devices."""
    case = CASES["uma-x86_64"]
    ends = Endpoints(qmp=10, console=11, control=12, stream=13, trace=14, memory=(20,))
    private = dataclasses.replace(ends, restored=True, private_memory=True)
    booted, restored = qemu_argv(case, ends), qemu_argv(case, private)
    assert restored[-2:] == ["-incoming", "defer"]
    changed = [(old, new) for old, new in zip(booted, restored, strict=False) if old != new]
    assert changed == [(old, old.replace("share=on", "share=off")) for old, _ in changed]
    assert len(changed) == 1
