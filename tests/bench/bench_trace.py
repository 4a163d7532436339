"""How many events a second are captured without loss, and what that costs the load.

The load writes files into memory and removes them, on both CPUs, over and over: every page of
them is allocated and freed, and little else is done, so that its slow-down is the worst there is.
The baseline is the same load in the same guest, untraced (the probes not even set), before and
after.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.cli.prepare import bare_spec, prepare
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.record.trace import TraceRecord
from harness.sampling.trace import TraceSession
from harness.sampling.trace.probes import ALWAYS, GROUPS
from harness.session.guest import Guest

MIB = 1 << 20
ROUNDS = 3
_WORKER = (
    "for round in 1 2 3; do busybox dd if=/dev/zero of=/dev/shm/{0} bs=1048576 count=64"
    " 2>/dev/null || exit 1; rm /dev/shm/{0}; done"
)
LOAD = f"({_WORKER.format(1)}) & {_WORKER.format(2)}; wait"
"""98,304 pages taken and given back."""


def run() -> list[tuple[str, float, str]]:
    """Rows of name, value, unit."""
    rows: list[tuple[str, float, str]] = []
    for arch in ("x86_64", "arm64"):
        prepared = prepare(arch, None, lambda _: None)
        spec = bare_spec(prepared, (NodeSpec(size_bytes=1024 * MIB, cpus=(0, 1)),))
        with tempfile.TemporaryDirectory(prefix="mmscope-bench-") as scratch:
            directory = RunDirectory.create(Path(scratch), "bench")
            with Guest(spec, directory) as guest:
                rows += _measure(arch, guest, directory)
    return rows


def _measure(arch: str, guest: Guest, run: RunDirectory) -> Iterator[tuple[str, float, str]]:
    _load_s(guest)  # warms up TCG's translations
    plain_s = [_load_s(guest) for _ in range(ROUNDS)]
    usual = _traced(guest, run, "usual", ALWAYS)
    whole = _traced(guest, run, "all", GROUPS)
    plain_s += [_load_s(guest) for _ in range(ROUNDS)]
    base_s = statistics.median(plain_s)
    yield f"trace: {arch}, load untraced", base_s, "s"
    for name, windows in (("usual probes", usual), ("all probes", whole)):
        events = statistics.median(_events(record) for record, _ in windows)
        seconds = statistics.median(seconds for _, seconds in windows)
        lost = sum(record.lost_by_kernel for record, _ in windows)
        missed = sum(probe.missed or 0 for record, _ in windows for probe in record.probes)
        whole_windows = sum(record.complete for record, _ in windows)
        yield f"trace: {arch}, {name}: events a window", events, "events"
        yield f"trace: {arch}, {name}: rate (budget 100 k)", events / seconds, "events/s"
        yield f"trace: {arch}, {name}: events lost (budget 0)", lost, "events"
        yield f"trace: {arch}, {name}: probe hits missed", missed, "hits"
        yield f"trace: {arch}, {name}: windows not whole", len(windows) - whole_windows, "windows"
        yield f"trace: {arch}, {name}: load takes", seconds / base_s, "times"


def _traced(
    guest: Guest, run: RunDirectory, name: str, groups: Sequence[str]
) -> list[tuple[TraceRecord, float]]:
    windows: list[tuple[TraceRecord, float]] = []
    with TraceSession(guest, run, groups=groups) as trace:
        for number in range(ROUNDS):
            trace.begin(f"{number:02d}-{name}")
            seconds = _load_s(guest)
            windows.append((trace.end(), seconds))
    return windows


def _load_s(guest: Guest) -> float:
    start_s = time.perf_counter()
    done = guest.agent.run(["sh", "-c", LOAD])
    assert done.status == 0, done.stderr
    return time.perf_counter() - start_s


def _events(record: TraceRecord) -> int:
    return sum(cpu.read_events for cpu in record.cpus)


if __name__ == "__main__":
    for label, value, unit in run():
        print(f"{label:<60} {value:>14.3f} {unit}")
