"""Stops about pages and page frame numbers."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from harness.errors import WorkloadFailedError
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.frames import FrameReader
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import PROGRAMS

_SCRATCH = "/tmp"  # noqa: S108 - in the guest
_WALK, _GO = f"{_SCRATCH}/pagewalk.txt", f"{_SCRATCH}/pagewalk.go"
_START_S = 60
_QUIET = "for on in /sys/module/damon*/parameters/enabled; do [ ! -e $on ] || echo N >$on; done"
"""Kernels that run DAMON on their own would mark pages as idle at any time."""
_DRAIN = "echo 1 >/proc/sys/vm/compact_memory; sleep 1"
"""Every CPU first puts the pages on the LRU lists that it has set aside. It may move pages too:
their addresses stay."""


def _gather(*areas: str) -> Callable[[Evidence], None]:
    """A process maps these areas, prints what it knows of each page, and holds still while the
    host follows its addresses through guest memory; then it prints all again."""

    def gather(evidence: Evidence) -> None:
        evidence.capture()
        seed = secrets.randbits(63)
        options = " ".join(f"--area {area}" for area in areas)
        evidence.shell("quiet", _QUIET)
        started = evidence.shell("start", _start(seed, options))
        header = next(line for line in started.splitlines() if line.startswith("# pid"))
        pages = list(_pages(started))
        if not pages:
            raise WorkloadFailedError("pagewalk saw no page frame", details={"it said": started})
        evidence.shell("drain", _DRAIN)
        evidence.keep_json("outside", _from_outside(evidence, int(header.split()[2]), seed, pages))
        evidence.shell("end", _end())

    return gather


def _start(seed: int, options: str) -> str:
    return f"""{PROGRAMS}/pagewalk --seed {seed} {options} --hold {_GO} >{_WALK} 2>&1 </dev/null &
waited=0
until grep -q '^# holding' {_WALK}; do
    kill -0 $! 2>/dev/null && [ $waited -lt {_START_S * 5} ] || {{ cat {_WALK}; exit 1; }}
    waited=$((waited + 1)); sleep 0.2
done
cat {_WALK}"""


def _end() -> str:
    return f""": >{_GO}
waited=0
until grep -q '^# round 1 done' {_WALK}; do
    [ $waited -lt {_START_S * 5} ] || exit 1
    waited=$((waited + 1)); sleep 0.2
done
cat {_WALK}"""


def _pages(walk: str) -> Iterator[tuple[int, int, int]]:
    """(area, page of the area, virtual address) of every page of the first round."""
    for line in walk.splitlines():
        words = line.split()
        if words[0] == "0":
            yield int(words[1]), int(words[3]), int(words[4], 16)


def _from_outside(
    evidence: Evidence, pid: int, seed: int, pages: Sequence[tuple[int, int, int]]
) -> dict[str, Any]:
    """What the host finds in guest memory, starting from nothing but the addresses."""
    machine = evidence.guest.machine
    with MemorySampler(machine, evidence.kernel) as sampler:
        sample = sampler.sample("pages")
        reader = FrameReader(sampler.kernel, int(sample.meta["vmemmap"]))
        machine.qmp.execute("stop")
        start_s = time.monotonic()
        try:
            top_table = reader.top_table(pid)
            found = [_one(reader, top_table, page) for page in pages]
        finally:
            machine.qmp.execute("cont")
        return {
            "pid": pid,
            "seed": seed,
            "page_bytes": reader.page_bytes,
            "struct_page_bytes": reader.struct_page_bytes,
            "vmemmap": reader.vmemmap,
            "top_table": top_table,
            "stopped_s": round(time.monotonic() - start_s, 3),
            "page_flag_bits": dict(sampler.layout.page_flag_bits),
            "fields": {
                name: [field.offset, field.size_bytes, field.signed]
                for name, field in reader.fields.items()
            },
            "pages": found,
        }


def _one(reader: FrameReader, top_table: int, page: tuple[int, int, int]) -> dict[str, Any]:
    area, number, address = page
    steps = reader.walk(top_table, address)
    pfn = reader.frame(steps, address)
    return {
        "area": area,
        "page": number,
        "address": address,
        "walk": [asdict(step) for step in steps],
        "pfn": pfn,
        "struct_page": reader.struct_page(pfn).hex(),
        "sha256": hashlib.sha256(reader.content(pfn)).hexdigest(),
    }


STOPS: tuple[Stop, ...] = (
    Stop(
        name="pages/pfn",
        boots=(
            StopBoot(
                label="main",
                gather=_gather(
                    "anon:32:0", "anon:32:1", "forked:16:1", f"file:{_SCRATCH}/pagewalk.dat:16"
                ),
                nodes=("256M", "256M"),
                cpus=2,
            ),
        ),
    ),
    Stop(
        name="pages/compound",
        needs=("TRANSPARENT_HUGEPAGE",),
        # below 512 MiB the kernel makes no huge pages unless it is told to
        boots=(StopBoot(label="main", gather=_gather("huge:1"), nodes=("768M",)),),
    ),
)
"""The first also shows that a frame's node is the one that its memory was bound to."""
