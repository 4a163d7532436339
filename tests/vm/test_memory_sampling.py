"""What the host reads in the guest's RAM is what the guest's kernel says in /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from analysis.procfs import buddyinfo, pagetypeinfo, zoneinfo
from harness.cli.prepare import Prepared, bare_spec, prepare
from harness.errors import NotLinuxError, WrongTypesError
from harness.machine.process import Machine
from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.memory import MemorySample, load_memory_sample, save_memory_sample
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.session.guest import Guest
from tests.vm.bzimage import bzimage
from tests.vm.conftest import ARCHES, MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

TRIES = 20
"""Reading /proc takes memory too: the two views are equal when nothing moved in between."""
TRACING = "/sys/kernel/tracing"


class Case(NamedTuple):
    arch: str
    kernel: str
    kaslr: bool

    def __str__(self) -> str:
        return f"{self.arch}-{self.kernel}{'-kaslr' if self.kaslr else ''}"


CASES = [
    Case("x86_64", "bookworm", False),
    Case("x86_64", "bookworm", True),
    Case("x86_64", "bookworm-backports", False),
    Case("x86_64", "sid", False),
    Case("arm64", "bookworm", False),
    Case("arm64", "bookworm-backports", True),
    Case("arm64", "bookworm-backports/arm64-16k", False),
    Case("arm64", "sid", True),
]


class Sampled(NamedTuple):
    guest: Guest
    sampler: MemorySampler


@pytest.fixture(scope="module", params=CASES, ids=str)
def sampled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sampled]:
    case: Case = request.param
    prepared = prepare(case.arch, case.kernel, lambda _: None)
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "memory")
    with (
        Guest(two_nodes(prepared, kaslr=case.kaslr), run) as guest,
        MemorySampler(guest.machine, prepared.kernel) as sampler,
    ):
        yield Sampled(guest, sampler)


def two_nodes(prepared: Prepared, *, kaslr: bool = False) -> MachineSpec:
    nodes = (
        NodeSpec(size_bytes=256 * MIB, cpus=(0,)),
        NodeSpec(size_bytes=384 * MIB, cpus=(1,)),
    )
    spec = dataclasses.replace(bare_spec(prepared, nodes), kaslr=kaslr)
    if kaslr and prepared.kernel.arch == "x86_64":
        return dataclasses.replace(spec, kernel=bzimage(prepared.kernel))
    return spec


def agreeing(sampled: Sampled, path: str, same: Callable[[MemorySample, str], str]) -> None:
    """Reads the file and samples, until ``same`` finds no difference; fails with the last one."""
    difference = ""
    for _ in range(TRIES):
        text = sampled.guest.agent.read([path]).files[path].decode()
        sample = sampled.sampler.sample("quiet/now")
        assert sample.sound, sample.meta["problems"]
        difference = same(sample, text)
        if not difference:
            return
        time.sleep(0.1)
    pytest.fail(f"{path}: {difference}")


def zone_names(sample: MemorySample) -> dict[tuple[int, str], int]:
    return {(int(zone["node"]), zone["name"].decode()): int(zone["zone"]) for zone in sample.zones}


def counts(sample: MemorySample, zone: int, migratetype: int | None = None) -> tuple[int, ...]:
    blocks = sample.blocks[sample.blocks["zone"] == zone]
    if migratetype is not None:
        blocks = blocks[blocks["migratetype"] == migratetype]
    return tuple(np.bincount(blocks["order"], minlength=sample.meta["max_order"] + 1).tolist())


def test_free_blocks_are_those_of_buddyinfo(sampled: Sampled) -> None:
    def same(sample: MemorySample, text: str) -> str:
        rows = {(row.node, row.zone): row.free_blocks for row in buddyinfo.parse(text)}
        ours = {key: counts(sample, zone) for key, zone in zone_names(sample).items()}
        return "" if rows == ours else f"{rows} != {ours}"

    agreeing(sampled, "/proc/buddyinfo", same)


def test_lists_and_pageblocks_are_those_of_pagetypeinfo(sampled: Sampled) -> None:
    def same(sample: MemorySample, text: str) -> str:
        info = pagetypeinfo.parse(text)
        assert info.pageblock_order == sample.meta["pageblock_order"]
        zones, names = zone_names(sample), sample.meta["migratetypes"]
        assert {row.migratetype for row in info.free} == set(names)
        for row in info.free:
            ours = counts(sample, zones[row.node, row.zone], names.index(row.migratetype))
            if ours != row.free_blocks:
                return f"{row} != {ours}"
        for blocks in info.blocks:
            mine = sample.pageblocks[sample.pageblocks["zone"] == zones[blocks.node, blocks.zone]]
            types = np.where(mine["isolated"] == 1, names.index("Isolate"), mine["migratetype"])
            found = dict(zip(names, np.bincount(types, minlength=len(names)).tolist(), strict=True))
            if found != blocks.blocks:
                return f"{blocks} != {found}"
        return ""

    agreeing(sampled, "/proc/pagetypeinfo", same)


def test_zones_and_per_cpu_lists_are_those_of_zoneinfo(sampled: Sampled) -> None:
    def same(sample: MemorySample, text: str) -> str:
        info = zoneinfo.parse(text)
        shown = {(zone.node, zone.zone): zone for zone in info.zones}
        for key, number in zone_names(sample).items():
            ours, theirs = sample.zones[number], shown[key]
            boost = int(ours["watermark_boost"])
            pairs = {
                "free": int(ours["nr_free_pages"]),
                "boost": boost,
                **{name: int(ours[f"watermark_{name}"]) + boost for name in ("min", "low", "high")},
                **{name: int(ours[f"{name}_pages"]) for name in ("spanned", "present", "managed")},
                "cma": max(0, int(ours["cma_pages"])),
            }
            if "promo" in theirs.pages:
                pairs["promo"] = int(ours["watermark_promo"]) + boost
            for name, value in pairs.items():
                if theirs.pages[name] != value:
                    return f"{key} {name}: {theirs.pages[name]} != {value}"
            tail = {
                "start_pfn": "start_pfn",
                "reserved_highatomic": "nr_reserved_highatomic",
                "free_highatomic": "nr_free_highatomic",
            }
            for name, column in tail.items():
                if name in theirs.tail and theirs.tail[name] != ours[column]:
                    return f"{key} {name}: {theirs.tail[name]} != {ours[column]}"
            assert theirs.protection == tuple(ours["lowmem_reserve"][: len(theirs.protection)])
            pcps = sample.pcps[sample.pcps["zone"] == number]
            assert [cpu.cpu for cpu in theirs.cpus] == pcps["cpu"].tolist()
            for cpu, pcp in zip(theirs.cpus, pcps, strict=True):
                for name, value in cpu.fields.items():
                    column = "stat_threshold" if "threshold" in name else name
                    if pcp[column] != value:
                        return f"{key} cpu {cpu.cpu} {name}: {value} != {pcp[column]}"
        return ""

    agreeing(sampled, "/proc/zoneinfo", same)


def test_cpus_are_on_their_nodes(sampled: Sampled) -> None:
    sample = sampled.sampler.sample("quiet/cpus")
    for node in (0, 1):
        path = f"/sys/devices/system/node/node{node}/cpulist"
        listed = sampled.guest.agent.read([path]).files[path].decode().strip()
        assert ",".join(str(row["cpu"]) for row in sample.cpus if row["node"] == node) == listed


def test_zonelists_begin_at_home(sampled: Sampled) -> None:
    sample = sampled.sampler.sample("quiet/zonelists")
    node_of = {int(zone["zone"]): int(zone["node"]) for zone in sample.zones}
    for node in (0, 1):
        mine = sample.zonelists[sample.zonelists["node"] == node]
        fallback = [node_of[int(row["zone"])] for row in mine if row["fallback"] == 1]
        own = [node_of[int(row["zone"])] for row in mine if row["fallback"] == 0]
        assert set(fallback) == {0, 1}
        assert fallback == sorted(fallback, key=lambda other: other != node)
        assert own == [node] * len(own)
        assert own


def test_frames_show_the_same_free_blocks(sampled: Sampled, tmp_path: Path) -> None:
    sample = sampled.sampler.sample("quiet/full", full=True)
    assert sample.sound, sample.meta["problems"]
    path = tmp_path / "full.npz"
    save_memory_sample(sample, path)
    loaded = load_memory_sample(path)
    assert loaded.meta == sample.meta
    pfns = np.concatenate(
        [np.arange(r["start_pfn"], r["start_pfn"] + r["pages"]) for r in loaded.frame_ranges]
    )
    assert len(pfns) == len(loaded.frame_flags) == len(loaded.frame_type)
    # a free block's first page is neither on an LRU nor reserved, and no page of it is
    bits = loaded.meta["page_flag_bits"]
    busy = np.uint32(1 << bits["lru"] | 1 << bits["reserved"])
    flags = dict(zip(pfns.tolist(), (loaded.frame_flags & busy).tolist(), strict=True))
    for block in loaded.blocks:
        for pfn in range(block["pfn"], block["pfn"] + (1 << block["order"])):
            assert flags[pfn] == 0
    types = dict(zip(pfns.tolist(), loaded.frame_type.tolist(), strict=True))
    assert len({types[int(pfn)] for pfn in loaded.blocks["pfn"]}) == 1
    assert not {types[int(pfn)] for pfn in loaded.pcp_pages["pfn"]} & {
        types[int(loaded.blocks["pfn"][0])]
    }
    anonymous = loaded.frame_mapping[(loaded.frame_flags >> bits["swapbacked"] & 1) == 1]
    assert (anonymous & 1).any()


def test_samples_are_sound_under_load(sampled: Sampled) -> None:
    script = (
        "for i in 1 2 3; do dd if=/dev/zero of=/tmp/x bs=64k count=1600 2>/dev/null; "
        "echo 1 >/proc/sys/vm/compact_memory; rm /tmp/x; done"
    )
    command = ["sh", "-c", f"({script}) >/dev/null 2>&1 & echo"]
    assert sampled.guest.agent.run(command).status == 0
    seen: set[tuple[int, ...]] = set()
    for number in range(60):
        sample = sampled.sampler.sample(f"load/{number}", full=number % 10 == 0)
        assert sample.sound, sample.meta["problems"]
        seen.add(tuple(sample.zones["nr_free_pages"].tolist()))
        time.sleep(0.02)
    assert len(seen) > 5


def test_the_trace_counter_counts(sampled: Sampled) -> None:
    before = sampled.sampler.sample("trace/begin").meta["trace_counter"]
    assert before is not None
    last = trace_some_allocations(sampled.guest)
    after = sampled.sampler.sample("trace/end").meta["trace_counter"]
    assert after > before + 100
    # "cat-123 [000] ..... 4711: mm_page_alloc: …": the number is the event's time
    assert 0 <= after - int(last.split(":")[0].split()[-1]) < 20


def trace_some_allocations(guest: Guest) -> str:
    """The last line of a trace of page allocations, stamped by the trace counter."""
    event = "events/kmem/mm_page_alloc/enable"
    mount = f"[ -d {TRACING}/events ] || mount -t tracefs t {TRACING}"
    script = (
        f"{mount} && cd {TRACING} && echo 0 > {event} && echo counter > trace_clock && "
        f"echo 1 > {event} && echo 1 > tracing_on && "
        "for i in 1 2 3 4 5 6 7 8; do /bin/true; done; "
        f"echo 0 > tracing_on && cat {event} && tail -n 1 trace"
    )
    done = guest.agent.run(["sh", "-c", script])
    assert done.status == 0, done.stderr
    enabled, last = done.stdout.decode().splitlines()
    assert enabled == "1"
    assert "mm_page_alloc:" in last
    return last


@pytest.mark.parametrize("arch", ARCHES)
def test_a_clone_is_read_as_its_template_was(arch: str, tmp_path: Path) -> None:
    prepared = prepare(arch, "bookworm", lambda _: None)
    with contextlib.ExitStack() as stack:
        with Guest(two_nodes(prepared), RunDirectory.create(tmp_path, "template")) as guest:
            guest.machine.qmp.execute("stop")
            with MemorySampler(guest.machine) as sampler:
                template = sampler.sample("template/saved", full=True)
            assert guest.machine.qmp.execute("query-status")["running"] is False
            saved = stack.enter_context(guest.save())
        for private in (True, False):
            run = RunDirectory.create(tmp_path, "clone")
            clone = Guest.restored(saved, run, private=private)
            with clone, MemorySampler(clone.machine) as sampler:
                sample = sampler.sample("clone/now", full=True)
                assert sample.sound, sample.meta["problems"]
                assert np.array_equal(sample.zones["start_pfn"], template.zones["start_pfn"])
                # what lies beyond the reach of a few allocations is as it was
                assert np.mean(sample.frame_flags == template.frame_flags) > 0.99
                filled = clone.agent.run(["dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=64"])
                assert filled.status == 0, filled.stderr
                later = sampler.sample("clone/later")
                assert later.sound, later.meta["problems"]
                free = [int(taken.zones["nr_free_pages"].sum()) for taken in (sample, later)]
                # the rest of it came from per-cpu lists
                assert free[0] - free[1] > 48 * MIB // sample.meta["page_size_bytes"]


def test_another_kernels_types_are_refused(tmp_path: Path) -> None:
    prepared = prepare("arm64", "bookworm", lambda _: None)
    other = prepare("arm64", "sid", lambda _: None)
    said = r"the guest runs kernel 6\.1.* holds 7\."
    with (
        Guest(two_nodes(prepared), RunDirectory.create(tmp_path, "wrong")) as guest,
        pytest.raises(WrongTypesError, match=said),
    ):
        MemorySampler(guest.machine, other.kernel)


def test_a_guest_that_is_not_linux(tmp_path: Path) -> None:
    """Four bytes of program, jumping to themselves, behind the header of an arm64 Image."""
    image = tmp_path / "Image"
    image.write_bytes(struct.pack("<II6Q4sI", 0x14000000, 0, 0, 1 << 16, 0, 0, 0, 0, b"ARM\x64", 0))
    spec = MachineSpec(
        arch="arm64",
        nodes=(NodeSpec(size_bytes=128 * MIB, cpus=(0,)),),
        kernel=image,
        initramfs=image,
    )
    kernel = prepare("arm64", "bookworm", lambda _: None).kernel
    with (
        Machine(spec, RunDirectory.create(tmp_path, "void")) as machine,
        pytest.raises(NotLinuxError, match="no Linux kernel was found"),
    ):
        MemorySampler(machine, kernel)
