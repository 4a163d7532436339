"""How long a guest stands still for a memory sample, beside QMP stop and cont with nothing between.

Budget: 5 ms (median) for a light sample of 4 GiB. Measured twice: on a guest just booted, whose
free memory is in large blocks, and with almost all of it in use page by page, so that the scan
must look at every struct page.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from harness.cli.prepare import bare_spec, prepare
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.sampler import QmpBrake
from harness.session.guest import Guest

ARCHES = ("x86_64", "arm64")
SIZES_MIB = (1024, 4096)
SAMPLES = int(os.environ.get("MMSCOPE_BENCH_SAMPLES", "30"))
_FILL = (
    "mount -t tmpfs -o size=95% full /mnt && dd if=/dev/zero of=/mnt/x bs=1M count={} 2>/dev/null"
)
_FULL_SHARE = 0.8


def run() -> list[tuple[str, float, str]]:
    """Medians for each architecture and size, light and full."""
    rows: list[tuple[str, float, str]] = []
    for arch in ARCHES:
        for size_mib in SIZES_MIB:
            rows += _guest(arch, size_mib)
    return rows


def _guest(arch: str, size_mib: int) -> list[tuple[str, float, str]]:
    what = f"{arch}, {size_mib >> 10} GiB"
    nodes = (NodeSpec(size_bytes=size_mib << 20, cpus=(0, 1)),)
    spec = bare_spec(prepare(arch, None, lambda _: None), nodes)
    with (
        tempfile.TemporaryDirectory() as runs,
        Guest(spec, RunDirectory.create(Path(runs), "bench")) as guest,
    ):
        start_s = time.monotonic()
        with MemorySampler(guest.machine) as sampler:
            found_s = time.monotonic() - start_s
            rows = [
                (f"{what}: finding the kernel and its types", found_s * 1e3, "ms"),
                (f"{what}: stopped by stop and cont alone", _raw_ms(guest), "ms"),
                (f"{what}: stopped by a light sample", _median_ms(sampler, full=False), "ms"),
                (f"{what}: stopped by a full sample", _median_ms(sampler, full=True), "ms"),
            ]
            filled = guest.agent.run(["sh", "-c", _FILL.format(int(size_mib * _FULL_SHARE))])
            if filled.status:
                raise RuntimeError(f"{what}: memory could not be filled: {filled.stderr!r}")
            busy_ms = _median_ms(sampler, full=False)
            return [*rows, (f"{what}: light, {_FULL_SHARE:.0%} in use", busy_ms, "ms")]


def _median_ms(sampler: MemorySampler, *, full: bool) -> float:
    """Time stopped; every sample must be sound."""
    taken = [sampler.sample(f"bench/{number}", full=full) for number in range(SAMPLES)]
    for sample in taken:
        if not sample.sound:
            raise RuntimeError(f"unsound sample: {sample.meta['problems']}")
    return statistics.median(float(sample.meta["stopped_ms"]) for sample in taken)


def _raw_ms(guest: Guest) -> float:
    brake = QmpBrake(guest.machine.qmp)

    def once() -> float:
        brake.stop()
        return brake.go()

    return statistics.median(once() for _ in range(SAMPLES))
