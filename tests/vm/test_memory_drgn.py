"""drgn, which walks the page tables and the lists itself, finds the same pages in the same order.

Its types are those that the guest serves in /sys/kernel/btf, converted by other code than ours.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.cli.prepare import prepare
from harness.machine.process import Machine
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.physmap import PhysicalRange, parse_mtree
from harness.session.guest import Guest
from tests.drgn_kernel import MemoryRange, free_list_pages, open_kernel, pcp_list_pages, zones
from tests.vm.conftest import ARCHES
from tests.vm.test_memory_sampling import two_nodes

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

KERNELS = ("bookworm", "sid")
BTF = "/sys/kernel/btf/vmlinux"
SCRIPT = (
    "dd if=/dev/zero of=/tmp/x bs=64k count=800; rm /tmp/x; for i in 1 2 3 4; do true|cat; done"
)


def vmcoreinfo(machine: Machine) -> bytes:
    """The text as it stands in RAM, found without the sampler."""
    for memory_fd in machine.memory_fds:
        assert memory_fd is not None
        at = 0
        while True:
            try:
                at = os.lseek(memory_fd, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(memory_fd, at, os.SEEK_HOLE)
            match = re.search(rb"OSRELEASE=[0-9][^\0]+", os.pread(memory_fd, end - at, at))
            if match is not None:
                return match[0]
            at = end
    raise AssertionError("no vmcoreinfo in the guest's RAM")


def memory_range(machine: Machine, part: PhysicalRange) -> MemoryRange:
    """For drgn: start, size, and how to read at an offset."""
    memory_fd = machine.memory_fds[part.node]
    assert memory_fd is not None
    return (
        part.start,
        part.size_bytes,
        lambda offset, count: os.pread(memory_fd, count, part.offset + offset),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("arch", ARCHES)
def test_drgn_finds_the_same_lists(arch: str, kernel: str, tmp_path: Path) -> None:
    prepared = prepare(arch, kernel, lambda _: None)
    with Guest(two_nodes(prepared), RunDirectory.create(tmp_path, "drgn")) as guest:
        btf = guest.agent.read([BTF]).files[BTF]
        guest.agent.run(["sh", "-c", f"({SCRIPT}) >/dev/null 2>&1"])
        machine = guest.machine
        machine.qmp.execute("stop")
        mtree = machine.qmp.human("info mtree -f")
        with MemorySampler(machine, prepared.kernel) as sampler:
            sample = sampler.sample("drgn/now")
            symbols = sampler.kernel.symbols
        assert sample.sound, sample.meta["problems"]
        ranges = [memory_range(machine, part) for part in parse_mtree(mtree)]
        prog = open_kernel(arch, vmcoreinfo(machine), ranges, btf)
        base, size = sample.meta["vmemmap"], sample.meta["struct_page_bytes"]

        def pfns(pages: list[int]) -> list[int]:
            return [(page - base) % (1 << 64) // size for page in pages]

        seen = 0
        for number, zone in enumerate(zones(prog, symbols["node_data"], (0, 1))):
            mine = sample.blocks[sample.blocks["zone"] == number]
            for (order, migratetype), pages in free_list_pages(zone).items():
                listed = mine[(mine["order"] == order) & (mine["migratetype"] == migratetype)]
                listed = listed[listed["position"].argsort()]
                assert listed["pfn"].tolist() == pfns(pages)
                seen += len(pages)
            for cpu in (0, 1):
                offset = prog.read_u64(symbols["__per_cpu_offset"] + 8 * cpu)
                kept = sample.pcp_pages[
                    (sample.pcp_pages["zone"] == number) & (sample.pcp_pages["cpu"] == cpu)
                ]
                for pindex, pages in enumerate(pcp_list_pages(zone, offset)):
                    assert kept[kept["pindex"] == pindex]["pfn"].tolist() == pfns(pages)
        assert seen == len(sample.blocks) > 100
        assert len(sample.pcp_pages) > 100
        machine.qmp.execute("cont")
