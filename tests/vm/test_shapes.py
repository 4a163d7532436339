"""Shaped machines: what was asked for is there in the guest, and the host sees it too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from analysis.procfs import buddyinfo, zoneinfo
from harness.cli.prepare import Prepared, asked_machine, asked_spec, prepare
from harness.experiment.shaping import BLOCKS, apply_shape
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.session.guest import Guest
from harness.workload.mechanism import BUSYBOX
from tests.vm.conftest import MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

PAGE = 4096
TRIES = 20


@contextmanager
def shaped(path: Path, *shapes: str, nodes: tuple[str, ...]) -> Iterator[tuple[Guest, Prepared]]:
    asked = asked_machine(nodes, None, 2, None, shape=shapes)
    prepared = prepare("x86_64", "bookworm", lambda _: None, asked)
    spec = asked_spec(asked, prepared, None, lambda _: None)
    with Guest(spec, RunDirectory.create(path, "shaped")) as guest:
        apply_shape(guest, asked)
        yield guest, prepared


def zones_of(guest: Guest) -> dict[tuple[int, str], zoneinfo.Zone]:
    text = guest.agent.read(["/proc/zoneinfo"]).files["/proc/zoneinfo"].decode()
    return {(zone.node, zone.zone): zone for zone in zoneinfo.parse(text).zones}


def test_hot_added_memory_is_movable_read_by_the_host_and_cloned(tmp_path: Path) -> None:
    with shaped(tmp_path, "hot-dimm", "virtio-mem", nodes=("256M", "256M")) as (guest, prepared):
        movable = zones_of(guest)[0, "Movable"]
        assert movable.pages["present"] == 2 * 256 * MIB // PAGE
        state = guest.agent.read([f"{BLOCKS}/memory*/state"]).files
        assert {content.strip() for content in state.values()} == {b"online"}
        assert len(guest.shaped.steps) == 4
        same_free_blocks(guest, prepared)
        template = guest.save()
    with template, Guest.restored(template, RunDirectory(tmp_path / "clone")) as clone:
        before = zones_of(clone)[0, "Movable"].pages
        assert before["present"] == movable.pages["present"]
        done = clone.agent.run(
            # on a CPU of node 0, whose memory was added
            [
                BUSYBOX,
                "taskset",
                "1",
                BUSYBOX,
                "dd",
                "if=/dev/zero",
                "of=/dev/shm/x",
                "bs=1M",
                "count=96",
            ]
        )
        assert done.status == 0, done.stderr
        taken_pages = before["free"] - zones_of(clone)[0, "Movable"].pages["free"]
        assert taken_pages > 64 * MIB // PAGE, "the clone does not take from its added memory"


def same_free_blocks(guest: Guest, prepared: Prepared) -> None:
    """The host's reading of all free lists, those of added memory too, is buddyinfo's."""
    with MemorySampler(guest.machine, prepared.kernel) as sampler:
        for _ in range(TRIES):
            text = guest.agent.read(["/proc/buddyinfo"]).files["/proc/buddyinfo"].decode()
            sample = sampler.sample("quiet/now")
            assert sample.sound, sample.meta["problems"]
            rows = {(row.node, row.zone): row.free_blocks for row in buddyinfo.parse(text)}
            ours = {}
            for zone in sample.zones:
                blocks = sample.blocks[sample.blocks["zone"] == zone["zone"]]
                count = np.bincount(blocks["order"], minlength=sample.meta["max_order"] + 1)
                ours[int(zone["node"]), zone["name"].decode()] = tuple(count.tolist())
            if rows == ours:
                assert sum(rows[0, "Movable"]), "nothing of the added memory is free"
                return
            time.sleep(0.1)
    pytest.fail(f"{rows} != {ours}")


def test_persistent_memory_populates_the_zone_device(tmp_path: Path) -> None:
    with shaped(tmp_path, "pmem", "zram", nodes=("640M",)) as (guest, _):
        zones = zones_of(guest)
        device = zones[0, "Device"]
        assert device.pages["spanned"] == 128 * MIB // PAGE
        assert device.pages["managed"] == 0
        swaps = guest.agent.read(["/proc/swaps"]).files["/proc/swaps"].decode().splitlines()
        assert [line.split()[0] for line in swaps[1:]] == ["/dev/zram0"]
