"""Windows on real guests: whole, cut exactly, and full of what their loads are for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.trace.events import EventStream
from analysis.trace.window import open_window
from harness.record.manifest import Manifest, OutcomeKind, WindowRecord
from harness.record.memory import MemorySample, load_memory_sample
from harness.record.rundir import RunDirectory
from harness.record.trace import read_trace_record
from tests.conftest import qemu_pids
from tests.kept_windows import kept_windows, planned_name
from tests.vm.conftest import ARCHES, Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

KINDS = """
name = "kinds"
[machine]
nodes = ["256M"]
cpus = 2
append = ["cma=32M"]
swap = "256M"
dma_disk = true

[[phases]]
name = "compact"
traced = true
load = { workload = "fragment", bytes = "40%", pattern = "random:50", compact = true }

[[phases]]
name = "steal"
traced = true
load = { workload = "fallback", bytes = "85%", rings = "40M", files = 5000 }

[[phases]]
name = "cma"
traced = true
arch = ["arm64"]
load = { workload = "rebind", times = 3, bytes = "75%" }

[[phases]]
name = "hugetlb"
traced = true
load = { workload = "hugetlb", pages = 20, rounds = 2 }

[[phases]]
name = "thp"
traced = true
before = ["echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"]
load = { workload = "thp", bytes = "24M", rounds = 2 }

[[phases]]
name = "swap"
traced = true
limit = true
swap = true
load = { workload = "thrash", bytes = "200M", touches = 2000 }

[[phases]]
name = "oom"
traced = true
limit = true
load = { workload = "thrash", bytes = "300M" }

[[phases]]
name = "jobs"
traced = true
[phases.load]
workload = "together"
loads = [
  { workload = "forks", processes = 20, bytes = "2M" },
  { workload = "files", files = 100, bytes = "8M" },
  { workload = "loopback", connections = 2, bytes = "1M" },
]
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert qemu_pids() == set()


def opened(root: Path) -> tuple[RunDirectory, Manifest]:
    (path,) = (root / "runs").iterdir()
    directory = RunDirectory(path)
    return directory, directory.read_manifest()


def samples_of(directory: RunDirectory, window: WindowRecord) -> list[MemorySample]:
    return [load_memory_sample(directory.path / name) for name in window.samples]


def check_whole(directory: RunDirectory, window: WindowRecord) -> EventStream:
    """Nothing is lost, and the trace reaches beyond both samples."""
    record = read_trace_record(directory.path / window.trace)
    assert record.complete, record.problems
    assert (record.lost_by_kernel, record.problems) == (0, [])
    assert "kmem/mm_page_alloc" in record.events
    samples = samples_of(directory, window)
    assert [sample.meta["full"] for sample in (samples[0], samples[-1])] == [True, True]
    assert all(sample.sound for sample in samples), [s.meta["problems"] for s in samples]
    stream = open_window(directory.path, window)
    assert stream.is_sound, (stream.problems, stream.damage, stream.unknown)
    cuts = [sample.meta["trace_counter"] for sample in samples]
    assert None not in cuts
    assert cuts == sorted(cuts)
    first, last = stream.summary.first, stream.summary.last
    assert first is not None
    assert last is not None
    assert first <= cuts[0] < cuts[-1] <= last
    return stream


@pytest.mark.parametrize("arch", ARCHES)
def test_the_smoke_experiment_is_whole(arch: str, mmscope: Mmscope, tmp_path: Path) -> None:
    done = mmscope("run", "replay-smoke", "--arch", arch, "--no-check")
    assert done.returncode == 0, done.stderr
    directory, manifest = opened(tmp_path)
    assert done.stdout.strip() == str(directory.path)
    assert manifest.outcome.kind is OutcomeKind.COMPLETED
    windows = kept_windows(manifest)
    assert list(windows) == ["anon", "anon-again", "pktring", "forks"]
    for window in windows.values():
        stream = check_whole(directory, window)
        assert len(stream["mm_page_alloc"]) > 1000
    # The same state, once more: clones of one machine begin alike.
    first, again = (samples_of(directory, window)[0] for window in list(windows.values())[:2])
    for field in ("zones", "pageblocks"):
        ours, theirs = getattr(first, field), getattr(again, field)
        assert ours.shape == theirs.shape
    assert abs(int(first.areas["nr_free"].sum()) - int(again.areas["nr_free"].sum())) < 64
    assert list(first.pageblocks["migratetype"]) == list(again.pageblocks["migratetype"])


@pytest.mark.parametrize("arch", ARCHES)
def test_every_kind_of_window_shows_what_it_is_for(
    arch: str, mmscope: Mmscope, tmp_path: Path
) -> None:
    plan = tmp_path / "kinds.toml"
    plan.write_text(KINDS)
    done = mmscope("run", str(plan), "--arch", arch, "--no-check")
    assert done.returncode == 0, done.stderr
    directory, manifest = opened(tmp_path)
    assert manifest.outcome.kind is OutcomeKind.OOM_KILLED
    outcomes = {phase.name: phase.outcome for phase in manifest.phases}
    ended = {name for name, outcome in outcomes.items() if outcome != "completed"}
    assert set(map(planned_name, ended)) == {"oom"}
    streams = {name: check_whole(directory, w) for name, w in kept_windows(manifest).items()}
    assert len(streams["compact"]["isolate_free_page"]) > 100
    assert len(streams["steal"]["mm_page_alloc_extfrag"]) > 10
    orders = streams["hugetlb"]["mm_page_alloc"]["order"]
    assert (orders == 9).sum() >= 20
    assert (streams["thp"]["mm_page_alloc"]["order"] == 9).sum() >= 12
    assert len(streams["swap"]["mm_vmscan_lru_shrink_inactive"]) > 10
    assert len(streams["swap"]["get_page_from_freelist"]) > 1000
    assert len(streams["oom"]["oom/mark_victim"]) == 1
    assert len(set(streams["jobs"]["mm_page_alloc"]["cpu"])) == 2
    if arch == "arm64":
        assert len(streams["cma"]["cma/cma_alloc_finish"]) >= 3
    (path,) = directory.workloads_path.glob("*-swap.stdout")
    assert json.loads(path.read_text())["wrong"] == 0


def test_light_samples_on_one_machine(mmscope: Mmscope, tmp_path: Path) -> None:
    """Without a snapshot, and with the /proc sampler beside."""
    plan = tmp_path / "light.toml"
    plan.write_text(
        """
name = "light"
[machine]
nodes = ["256M"]
cpus = 1
[trace]
snapshot = false
proc_sampler = true
every_ms = 100
[[phases]]
name = "anon"
traced = true
load = { workload = "fragment", bytes = "60M", pattern = "random:50", rounds = 2 }
[[phases]]
name = "after"
load = { workload = "slabchurn", objects = 100 }
"""
    )
    done = mmscope("run", str(plan), "--no-check")
    assert done.returncode == 0, done.stderr
    directory, manifest = opened(tmp_path)
    (window,) = manifest.windows
    assert (window.proc_sampler, window.clone) == (True, None)
    check_whole(directory, window)
    samples = samples_of(directory, window)
    assert len(samples) >= 4
    assert [sample.meta["full"] for sample in samples[1:-1]] == [False] * (len(samples) - 2)
    free = [int(sample.zones["nr_free_pages"].sum()) for sample in samples]
    assert max(free) - min(free) > 1000


def test_a_run_killed_in_a_window_is_readable(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness", "run", "replay-smoke"),
            *("--runs", str(runs), "--no-check"),
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        end_s = time.monotonic() + 120
        while time.monotonic() < end_s and not list(runs.glob("*/memory/*anon-begin.npz")):
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
    finally:
        child.kill()
        child.wait(30)
    end_s = time.monotonic() + 10
    while qemu_pids() and time.monotonic() < end_s:
        time.sleep(0.05)
    directory, manifest = opened(tmp_path)
    assert manifest.ending().kind is OutcomeKind.KILLED
    (sample,) = directory.memory_path.glob("*.npz")
    assert load_memory_sample(sample).label == "anon/begin"
    assert (directory.trace_path / "01-anon").is_dir()
