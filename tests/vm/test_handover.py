"""The free lists at the very moment of the hand-over are those that the model makes of memblock's
own log: every block, in list order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Read, Source
from analysis.compare.static.handover.inputs import (
    boot_memory,
    given,
    reserved_at_handover,
    zones,
)
from analysis.compare.static.handover.memory_line import deferred_pages
from analysis.model.eras import era_of
from analysis.model.freelist import Migratetype
from analysis.model.handover.first_lists import first_lists
from harness.cli.prepare import bare_spec, prepare
from harness.machine.restart import restart_behind
from harness.machine.spec import NodeSpec
from harness.record.memory import MemorySample
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.kallsyms import read_kallsyms
from harness.session.guest import Guest
from tests.vm.conftest import MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

CASES = [
    ("x86_64", "bookworm"),
    ("x86_64", "bookworm-backports"),
    ("x86_64", "sid"),
    ("arm64", "bookworm"),
    ("arm64", "bookworm-backports/arm64-16k"),
    ("arm64", "sid"),
]


class Handover(NamedTuple):
    snapshot: Snapshot
    sample: MemorySample


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def handover(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Handover]:
    """A guest that booted, told of its memory, and was reset to stop where memblock returns."""
    arch, kernel = request.param
    prepared = prepare(arch, kernel, lambda _: None)
    spec = bare_spec(
        prepared,
        (
            NodeSpec(size_bytes=256 * MIB, cpus=(0,)),
            NodeSpec(size_bytes=1024 * MIB, cpus=(1,)),
        ),
        append=("memblock=debug", "log_buf_len=4M"),
    )
    where = tmp_path_factory.mktemp("runs")
    with Guest(spec, RunDirectory.create(where, "handover")) as guest:
        snapshot = told(guest, where, prepared.kernel.config_path)
        with MemorySampler(guest.machine, prepared.kernel) as sampler:
            kallsyms = read_kallsyms(sampler.kernel.space, sampler.kernel.info)
            (function,) = kallsyms.addresses_of("memblock_free_all")
            restart_behind(guest.machine, function)
            yield Handover(snapshot, sampler.sample("handover/now"))


def told(guest: Guest, where: Path, config: Path) -> Snapshot:
    log = guest.agent.run(["dmesg"]).stdout
    names = [f"/proc/{name}" for name in ("zoneinfo", "meminfo", "vmstat", "cmdline", "version")]
    files: dict[str, Read] = {
        name.lstrip("/"): data.__bytes__ for name, data in guest.agent.read(names).files.items()
    }
    files["dmesg"] = log.__bytes__
    files["config"] = config.read_bytes
    return Snapshot(Source(path=where, kind="capture", files=files))


def test_free_lists_are_those_that_memblock_makes(handover: Handover) -> None:
    snapshot, sample = handover
    assert sample.sound, sample.meta["problems"]
    reserved = reserved_at_handover(snapshot)
    memory = boot_memory(snapshot)
    ranges = given(snapshot, reserved)
    deferred = deferred_pages(snapshot)
    assert deferred, "node 1 is larger than a section and what brings it to the next"
    layouts = {(zone.node, zone.zone): zone for zone in zones(snapshot)}
    compared = 0
    for row in sample.zones:
        zone = layouts[int(row["node"]), row["name"].decode()]
        model = first_lists(
            zone,
            memory,
            ranges,
            deferred,
            max_order=sample.meta["max_order"],
            pageblock_order=sample.meta["pageblock_order"],
            era=era_of(snapshot.release),
        )
        model.check()
        mine = sample.blocks[sample.blocks["zone"] == row["zone"]]
        assert int(row["nr_free_pages"]) == model.free_pages, zone
        for order in range(sample.meta["max_order"] + 1):
            for name, migratetype in ((m.name, m) for m in Migratetype):
                listed = mine[(mine["order"] == order) & (mine["migratetype"] == migratetype)]
                pfns = tuple(listed["pfn"][listed["position"].argsort()].tolist())
                assert pfns == model.pfns(order, migratetype), f"{zone}, order {order}, {name}"
                compared += len(pfns)
    assert compared == len(sample.blocks) > 0
