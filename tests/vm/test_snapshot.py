"""Real guests saved once and gone on from: the same state, and lives of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from harness.cli.prepare import Prepared, bare_spec
from harness.errors import KernelCrashError, LaunchError
from harness.experiment.preparation import swap_on
from harness.machine.snapshot import Clone, Template
from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.memory import MemorySample
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.session.guest import Guest
from harness.workload.mechanism import BUSYBOX, PROGRAMS
from tests.conftest import qemu_pids
from tests.vm.conftest import ARCHES, MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

UMA = (NodeSpec(size_bytes=384 * MIB, cpus=(0,)),)
NUMA = (
    NodeSpec(size_bytes=192 * MIB, cpus=(0,)),
    NodeSpec(size_bytes=256 * MIB, cpus=(1,)),
)
CASES = [(arch, nodes) for arch in ARCHES for nodes in (UMA, NUMA)]
MARKER = "saved with this in it"


class Saved(NamedTuple):
    prepared: Prepared
    template: Template
    sample: MemorySample
    """Of the guest that was saved, stopped for good."""
    run: RunDirectory


def spec_of(prepared: Prepared, nodes: tuple[NodeSpec, ...]) -> MachineSpec:
    return dataclasses.replace(bare_spec(prepared, nodes), swap_bytes=32 * MIB)


def shell(guest: Guest, line: str) -> str:
    done = guest.agent.run([BUSYBOX, "sh", "-c", line])
    assert done.status == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}-{len(c[1])}node")
def saved(
    request: pytest.FixtureRequest,
    prepared: Callable[[str], Prepared],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Saved]:
    arch, nodes = request.param
    parts = prepared(arch)
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "saved")
    with Guest(spec_of(parts, nodes), run) as guest:
        swap_on(guest)
        shell(guest, f"echo {MARKER} > /tmp/marker")
        template = guest.save()
        with MemorySampler(guest.machine, parts.kernel) as sampler:
            sample = sampler.sample("saved", full=True)
    with template:
        yield Saved(parts, template, sample, run)


def clone_directory(saved: Saved, name: str) -> RunDirectory:
    return RunDirectory(saved.run.path / "clones" / name)


def ram_digest(template: Template) -> str:
    digest = hashlib.sha256()
    for memory_fd in template.memory_fds:
        if memory_fd is not None:
            with Path(f"/proc/self/fd/{memory_fd}").open("rb") as memory:
                while chunk := memory.read(16 * MIB):
                    digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.parametrize("private", [True, False])
def test_a_clone_begins_in_the_state_that_was_saved(saved: Saved, private: bool) -> None:
    run = clone_directory(saved, f"paused-{private}")
    with (
        Clone(saved.template, run, private=private, paused=True) as machine,
        MemorySampler(machine, saved.prepared.kernel) as sampler,
    ):
        sample = sampler.sample("clone", full=True)
    assert sample.sound
    assert len(sample.blocks) > 50
    for field in dataclasses.fields(MemorySample):
        if field.name != "meta":
            ours, theirs = getattr(sample, field.name), getattr(saved.sample, field.name)
            assert np.array_equal(ours, theirs), field.name


def test_clones_go_on_where_the_guest_stood(saved: Saved) -> None:
    with Guest.restored(saved.template, clone_directory(saved, "on")) as guest:
        assert guest.agent.hello == saved.template.hello
        assert shell(guest, "cat /tmp/marker").strip() == MARKER
        swaps = shell(guest, "cat /proc/swaps").splitlines()
        assert len(swaps) == 2
        shell(guest, f"{BUSYBOX} swapoff {swaps[1].split()[0]}")
        nodes = len(saved.template.spec.nodes)
        found = shell(guest, "ls -d /sys/devices/system/node/node*").split()
        assert len(found) == nodes
        # Its disks work: the programs lie on one, the page cache fills from the other.
        shell(guest, f"{PROGRAMS}/pagecache --bytes 8M --ops 50 && numactl -H")


def test_clones_are_independent_of_each_other(saved: Saved) -> None:
    before = ram_digest(saved.template)
    with (
        Guest.restored(saved.template, clone_directory(saved, "one")) as one,
        Guest.restored(saved.template, clone_directory(saved, "two"), private=False) as two,
    ):
        shell(one, "rm /tmp/marker; echo one > /tmp/one")
        assert shell(two, "ls /tmp").split() == ["marker"]
        shell(two, f"echo two > /tmp/two; {PROGRAMS}/fragment --bytes 100M --pattern stride:2")
        assert shell(one, "ls /tmp").split() == ["one"]
        shell(one, f"{PROGRAMS}/thrash --bytes 100M --touches 1000")
    assert ram_digest(saved.template) == before
    with Guest.restored(saved.template, clone_directory(saved, "three")) as three:
        assert shell(three, "ls /tmp").split() == ["marker"]


def test_nothing_is_left_of_a_clone(saved: Saved) -> None:
    """In order, interrupted, or with a guest that crashes."""
    processes, files = qemu_pids(), open_files()
    with Guest.restored(saved.template, clone_directory(saved, "a")):
        assert len(qemu_pids() - processes) == 1
    with (
        pytest.raises(KeyboardInterrupt),
        Guest.restored(saved.template, clone_directory(saved, "b"), private=False),
    ):
        raise KeyboardInterrupt
    with (
        pytest.raises(KernelCrashError),
        Guest.restored(saved.template, clone_directory(saved, "c")) as guest,
    ):
        shell(guest, "echo c > /proc/sysrq-trigger; sleep 60")
    assert qemu_pids() == processes
    assert open_files() == files


def test_a_state_that_is_damaged_is_no_machine(saved: Saved) -> None:
    processes, files = qemu_pids(), open_files()
    damaged_fd = os.memfd_create("damaged")
    try:
        with Path(f"/proc/self/fd/{saved.template.state_fd}").open("rb") as state:
            content = state.read()
        os.write(damaged_fd, content[: len(content) // 2])
        template = dataclasses.replace(saved.template, state_fd=damaged_fd)
        with (
            pytest.raises(LaunchError, match="did not restore the machine") as caught,
            Guest.restored(template, clone_directory(saved, "damaged")),
        ):
            pass
        assert "QEMU said" in caught.value.details
    finally:
        os.close(damaged_fd)
    assert qemu_pids() == processes
    assert open_files() == files


def test_a_guest_goes_on_after_it_was_saved(
    prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    parts = prepared("x86_64")
    run = RunDirectory.create(tmp_path, "goes-on")
    with Guest(spec_of(parts, UMA), run) as guest:
        shell(guest, "echo before > /tmp/when")
        with guest.save(go_on=True) as template:
            shell(guest, "echo after > /tmp/when")
            with Guest.restored(template, RunDirectory(run.path / "clone")) as clone:
                assert shell(clone, "cat /tmp/when").strip() == "before"
            assert shell(guest, "cat /tmp/when").strip() == "after"
            again = guest.save(go_on=True)
        with again, Guest.restored(again, RunDirectory(run.path / "second")) as clone:
            assert shell(clone, "cat /tmp/when").strip() == "after"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
