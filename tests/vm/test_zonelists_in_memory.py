"""The zonelists in the RAM of a running kernel are those that the model builds from distances."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.model.eras_zonelist import zonelist_era_of
from analysis.model.release import parse_release
from analysis.model.zonelist import fallback_lists, zonelist
from analysis.procfs import cpulist, zoneinfo
from harness.cli.prepare import bare_spec, prepare
from harness.machine.spec import NodeSpec, parse_distances
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.session.guest import Guest
from tests.vm.conftest import MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

NODES = "/sys/devices/system/node"
RING = ("0,1=15", "1,2=15", "2,3=15", "0,3=15", "0,2=30", "1,3=30")
"""Neighbours are near, and the node without memory is as far from all (QEMU's 20): its list is
decided by the load alone, and comes out otherwise if that is counted as before 5.16."""


class Case(NamedTuple):
    arch: str
    kernel: str

    def __str__(self) -> str:
        return f"{self.arch}-{self.kernel}"


CASES = [  # the sampler finds no symbols in 5.10
    Case("x86_64", "bookworm"),
    Case("x86_64", "sid"),
    Case("arm64", "bookworm-backports"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zonelists_are_those_of_the_model(case: Case, tmp_path: Path) -> None:
    prepared = prepare(case.arch, case.kernel, lambda _: None)
    with_memory = [NodeSpec(size_bytes=128 * MIB, cpus=(0,))]
    with_memory += [NodeSpec(size_bytes=128 * MIB) for _ in range(3)]
    nodes = (*with_memory, NodeSpec(size_bytes=0, cpus=(1,)))
    spec = bare_spec(prepared, nodes, distances=parse_distances(RING, len(nodes)))
    run = RunDirectory.create(tmp_path / "runs", "zonelists")
    with (
        Guest(spec, run) as guest,
        MemorySampler(guest.machine, prepared.kernel) as sampler,
    ):
        sample = sampler.sample("zonelists")
        paths = [f"{NODES}/online", f"{NODES}/has_memory", "/proc/zoneinfo"]
        paths += [f"{NODES}/node{node}/distance" for node in range(len(nodes))]
        texts = {p: data.decode() for p, data in guest.agent.read(paths).files.items()}
    assert sample.sound, sample.meta["problems"]

    online = cpulist.parse(texts[f"{NODES}/online"])
    distances = {
        node: dict(
            zip(online, map(int, texts[f"{NODES}/node{node}/distance"].split()), strict=True)
        )
        for node in online
    }
    present = {
        (zone.node, zone.zone): zone.pages["present"]
        for zone in zoneinfo.parse(texts["/proc/zoneinfo"]).zones
    }
    lists = fallback_lists(
        distances,
        with_memory=cpulist.parse(texts[f"{NODES}/has_memory"]),
        era=zonelist_era_of(parse_release(prepared.kernel.release)),
    )

    names = {int(zone["zone"]): (int(zone["node"]), zone["name"].decode()) for zone in sample.zones}
    for node in online:
        rows = sample.zonelists[sample.zonelists["node"] == node]
        in_ram = [names[int(row["zone"])] for row in rows if row["fallback"] == 1]
        order = [choice.node for choice in lists[node]]
        assert tuple(in_ram) == zonelist(order, present), f"node {node}: {order}"
        alone = [names[int(row["zone"])] for row in rows if row["fallback"] == 0]
        assert tuple(alone) == zonelist((node,), present)
    assert len(online) == len(nodes)
