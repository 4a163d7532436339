"""A guest's kernel may patch its code while all its CPUs run it.

Where translations of the old code stay behind (``harness.machine.qemu``), a CPU of this guest
stands still, or the event silent, in about a quarter of all runs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.prepare import bare_spec, prepare
from harness.deadline import StallClock
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from tests.vm.conftest import ARCHES, MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

ROUNDS = 10
EVENT = "events/kmem/mm_page_alloc/enable"
LOAD = "while :; do dd if=/dev/zero of=/tmp/x bs=64k count=800; rm /tmp/x; done"


@pytest.mark.parametrize("arch", ARCHES)
def test_an_event_is_switched_under_load(arch: str, tmp_path: Path) -> None:
    prepared = prepare(arch, "bookworm", lambda _: None)
    spec = bare_spec(prepared, (NodeSpec(size_bytes=512 * MIB, cpus=(0, 1)),))
    switch = (
        "cd /sys/kernel/tracing && echo 1 > tracing_on && "
        f"for round in $(seq {ROUNDS}); do echo > trace; echo 1 > {EVENT}; /bin/true; "
        f"echo 0 > {EVENT}; grep -c mm_page_alloc: trace; done"
    )
    with Guest(spec, RunDirectory.create(tmp_path, "patched")) as guest:
        load = f"mount -t tracefs t /sys/kernel/tracing; ({LOAD}) >/dev/null 2>&1 & echo"
        begun = guest.agent.run(["sh", "-c", load])
        assert begun.status == 0, begun.stderr
        done = guest.agent.run(["sh", "-c", switch], clock=StallClock(60, 120))
    assert done.status == 0, done.stderr
    traced = [int(line) for line in done.stdout.split()]
    assert len(traced) == ROUNDS
    assert min(traced) > 0
