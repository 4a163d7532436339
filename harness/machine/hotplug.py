"""Memory added to a running machine: what QEMU is told, over QMP."""

from __future__ import annotations

import time
from typing import Any

from harness.deadline import Deadline
from harness.errors import GuestTimeoutError, QmpError
from harness.machine.argv import hot_backend, hot_device
from harness.machine.process import Machine
from harness.units import format_size

_GROW_S = 60.0
_POLL_S = 0.05


def add_memory(machine: Machine, index: int) -> str:
    """Adds ``spec.hot[index]`` to the guest; in words, what was done.

    Its memory is a file of the host's like that of the nodes (``machine.memory_fds``), so that
    the host reads it as it reads theirs. The guest decides what becomes of it: see
    ``harness.experiment.shaping``.

    Raises:
        QmpError: QEMU refused it.
        GuestTimeoutError: the guest did not take all that virtio-mem offers.
    """
    spec = machine.spec
    part = spec.hot[index]
    device = hot_device(index)
    size = format_size(part.size_bytes)
    if part.by == "pc-dimm":
        backend = hot_backend(spec, index)
        memory_fd = machine.memory_fds[len(spec.nodes) + index]
        machine.qmp.execute(
            "object-add",
            {
                "qom-type": "memory-backend-file",
                "id": backend,
                "size": part.size_bytes,
                "mem-path": f"/proc/self/fd/{memory_fd}",
                "share": True,
            },
        )
        machine.qmp.execute(
            "device_add",
            {"driver": "pc-dimm", "id": device, "memdev": backend, "node": part.node},
        )
        return f"plugged a DIMM of {size} into node {part.node} at {_address(machine, device):#x}"
    machine.qmp.execute(
        "qom-set", {"path": device, "property": "requested-size", "value": part.size_bytes}
    )
    deadline = Deadline(_GROW_S)
    while (have := _device(machine, device)["size"]) < part.size_bytes:
        if deadline.expired:
            raise GuestTimeoutError(
                f"virtio-mem of node {part.node}: the guest took {format_size(have)} of {size} "
                f"within {_GROW_S:g} s",
                fix="look into its dmesg for virtio_mem",
                details=machine.evidence(),
            )
        machine.check_alive("waiting for virtio-mem")
        time.sleep(_POLL_S)
    address = _address(machine, device)
    return f"virtio-mem of node {part.node} grew to {size} at {address:#x}"


def _device(machine: Machine, device: str) -> dict[str, Any]:
    for entry in machine.qmp.execute("query-memory-devices"):
        data: dict[str, Any] = entry["data"]
        if data.get("id") == device:
            return data
    raise QmpError(f"QEMU does not list the memory device {device}")


def _address(machine: Machine, device: str) -> int:
    data = _device(machine, device)
    return int(data["addr"] if "addr" in data else data["memaddr"])
