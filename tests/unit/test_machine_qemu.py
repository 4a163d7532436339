"""Which QEMU may run code that is no longer there."""

from __future__ import annotations

import pytest

from harness.machine.argv import Endpoints, qemu_argv
from harness.machine.qemu import may_keep_stale_code
from harness.machine.spec import NodeSpec
from tests.golden.test_argv import spec

ENDS = Endpoints(qmp=10, console=11, control=12, stream=13, trace=14, memory=(20,))
CPUS = (NodeSpec(size_bytes=512 << 20, cpus=(0, 1)),)


@pytest.mark.parametrize(
    ("version", "stale"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", True),
        ("QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11+deb11u3)", True),
        ("QEMU emulator version 8.0.5", True),
        ("QEMU emulator version 8.1.0", False),
        ("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", False),
        ("a QEMU of my own", False),
    ],
)
def test_versions(version: str, stale: bool) -> None:
    assert may_keep_stale_code(version) is stale


def accelerator(nodes: tuple[NodeSpec, ...], *, one_thread: bool, accel: str = "tcg") -> str:
    argv = qemu_argv(spec("x86_64", nodes, accel=accel), ENDS, one_thread=one_thread)
    return argv[argv.index("-accel") + 1]


def test_cpus_take_turns_where_translations_may_be_stale() -> None:
    one_cpu = (NodeSpec(size_bytes=512 << 20, cpus=(0,)),)
    assert accelerator(CPUS, one_thread=True) == "tcg,thread=single"
    assert accelerator(CPUS, one_thread=False) == "tcg"
    assert accelerator(one_cpu, one_thread=True) == "tcg"
    assert accelerator(CPUS, one_thread=True, accel="kvm") == "kvm"
