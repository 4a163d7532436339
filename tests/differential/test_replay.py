"""Exact replay against real kernels: every window of replay-smoke holds; spoiled, none does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.trace import read_formats
from analysis.trace.ring import walk_rings
from harness.record.manifest import Manifest, WindowRecord
from harness.record.rundir import RunDirectory
from harness.record.trace import FORMATS, read_trace_record, ring_path, write_trace_record
from tests.kept_windows import kept_windows

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

WINDOWS = ["anon", "anon-again", "pktring", "forks"]
KERNELS = [("x86_64", "bookworm"), ("arm64", "bookworm"), ("x86_64", "sid")]


def mmscope(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


def record_run(root: Path, arch: str, kernel: str) -> Path:
    done = mmscope(
        *("run", "replay-smoke", "--arch", arch, "--kernel", kernel),
        *("--runs", str(root), "--no-check"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = root.iterdir()
    return run


def manifest_of(run: Path) -> Manifest:
    return RunDirectory(run).read_manifest()


def replay(run: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """Exit code, the windows by their names in the plan (where events were lost, the one that was
    taken in its place), and everything."""
    done = mmscope("replay", str(run), "--json", "--no-figures", *arguments)
    assert done.returncode in (0, 1), done.stderr
    shown = json.loads(done.stdout)
    kept = {window.name: name for name, window in kept_windows(manifest_of(run)).items()}
    windows = {kept[one["name"]]: one for one in shown["windows"] if one["name"] in kept}
    return done.returncode, windows, shown


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a stock kernel, to be copied and spoiled."""
    return record_run(tmp_path_factory.mktemp("runs"), "x86_64", "bookworm")


@pytest.mark.parametrize(("arch", "kernel"), KERNELS[1:])
def test_every_window_is_exact_to_the_page(arch: str, kernel: str, tmp_path: Path) -> None:
    assert_exact(record_run(tmp_path, arch, kernel), arch)


def test_every_window_of_the_recorded_run_is_exact(recorded: Path) -> None:
    assert_exact(recorded, "x86_64")


def assert_exact(run: Path, arch: str) -> None:
    code, windows, shown = replay(run)
    assert code == 0
    assert list(windows) == WINDOWS
    for window in windows.values():
        assert (window["verdict"], window["why"]) == ("holds", "")
        assert (window["arch"], window["cpus"], window["nodes"]) == (arch, 1, 1)
        exact = ("lost", "pages_differing", "blocks_differing", "unexplained")
        assert [window[name] for name in exact] == [0, 0, 0, 0]
        assert window["null_error"] is not None
        assert_predicted(window)
    assert windows["anon"]["events"] > 50_000
    assert windows["anon"]["noise_floor"] is not None
    if {windows[name]["name"] for name in ("anon", "anon-again")} == {"anon", "anon-again"}:
        assert windows["anon"]["noise_floor"] == windows["anon-again"]["noise_floor"]
    assert windows["forks"]["noise_floor"] is None
    assert windows["anon"]["null_error"] > 0
    assert shown["events_per_s"] > 0


def assert_predicted(window: dict[str, Any]) -> None:
    """The model chose the kernel's very pages: all of them where no task is preempted in the
    kernel, as in Debian's 6.1."""
    told = window["prediction"]
    assert told["requests"] > 1000
    if window["kernel"].startswith("6.1."):
        assert told["misses"] == {}
        assert (window["pfn_match_pct"], window["unusable_index_error"]) == (100.0, 0)
        assert told["refills"] == told["refills_exact"] > 0
        assert told["drains"] == told["drains_exact"]
        assert told["pages_differing"] == 0
    else:
        assert window["pfn_match_pct"] > 99.5


def window_of(run: Path, name: str) -> WindowRecord:
    return kept_windows(manifest_of(run))[name]


def events_at(run: Path, ring: Path, event: str) -> list[int]:
    """Byte of the ring file at which each record of an event begins, between the samples."""
    formats = read_formats(RunDirectory(run).trace_path / FORMATS)
    walked = walk_rings({0: ring.read_bytes()}, formats.page)
    number = next(number for number, one in formats.by_id.items() if one.full_name == event)
    chosen = np.flatnonzero(walked.type == number)
    return [int(walked.start[at]) * 4 for at in chosen[len(chosen) // 4 : -len(chosen) // 4]]


def spoil_pfn(run: Path, ring: Path) -> None:
    """Another page leaves the free lists than the kernel said."""
    content = bytearray(ring.read_bytes())
    at = events_at(run, ring, "kmem/mm_page_alloc_zone_locked")[0]
    content[at + 9] ^= 0x01  # the pfn's second byte
    ring.write_bytes(bytes(content))


def spoil_order(run: Path, ring: Path) -> None:
    """More pages come back than the kernel said."""
    content = bytearray(ring.read_bytes())
    at = events_at(run, ring, "kmem/mm_page_pcpu_drain")[0]
    content[at + 16] ^= 0x01
    ring.write_bytes(bytes(content))


def drop_page(run: Path, ring: Path) -> None:
    """A sub-buffer in the midst of the window never arrived."""
    content = ring.read_bytes()
    middle = len(content) // 8192 * 4096
    ring.write_bytes(content[:middle] + content[middle + 4096 :])


def drop_page_unnoticed(run: Path, ring: Path) -> None:
    """The same, and the record agrees with what is there."""
    drop_page(run, ring)
    record = read_trace_record(ring.parent)
    cpus = [cpu.model_copy(update={"subbuffers": cpu.subbuffers - 1}) for cpu in record.cpus]
    write_trace_record(ring.parent, record.model_copy(update={"cpus": cpus}))


def damage_page(run: Path, ring: Path) -> None:
    """Bytes that no kernel writes."""
    content = bytearray(ring.read_bytes())
    content[8192 + 16 : 8192 + 80] = b"\xff" * 64
    ring.write_bytes(bytes(content))


def damage_sample(run: Path, ring: Path) -> None:
    """A memory sample with a hole."""
    path = run / window_of(run, "pktring").samples[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(bytes(content))


def forget_probe(run: Path, ring: Path) -> None:
    """The kernel would not take the probe of compaction's isolation."""
    record = read_trace_record(ring.parent)
    probes = [
        probe.model_copy(update={"error": "EINVAL"})
        if probe.name.startswith("isolate_free_page")
        else probe
        for probe in record.probes
    ]
    write_trace_record(ring.parent, record.model_copy(update={"probes": probes}))


SPOILERS = [spoil_pfn, spoil_order, drop_page, drop_page_unnoticed, damage_page, damage_sample]


@pytest.mark.parametrize("spoil", [*SPOILERS, forget_probe], ids=lambda spoil: spoil.__name__)
def test_a_spoiled_window_never_holds(
    spoil: Callable[[Path, Path], None], recorded: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    directory = RunDirectory(run)
    # Whoever spoils the files takes the digests off too; those alone would tell.
    directory.write_manifest(directory.read_manifest().model_copy(update={"files": {}}))
    spoil(run, ring_path(run / window_of(run, "pktring").trace, 0))

    code, windows, _ = replay(run, "--window", window_of(run, "pktring").name)

    spoiled = windows["pktring"]
    assert spoiled["verdict"] in ("fails", "unknown")
    assert spoiled["why"]
    assert code == int(spoiled["verdict"] == "fails")
    if spoil in (spoil_pfn, spoil_order):
        assert spoiled["verdict"] == "fails"
        assert spoiled["unexplained"] or spoiled["pages_differing"]
    if spoil is forget_probe:
        assert "probe isolate_free_page is missing" in spoiled["why"]


def test_check_and_replay_agree(recorded: Path) -> None:
    done = mmscope("check", str(recorded), "--json")

    assert done.returncode == 0, done.stderr
    claims = json.loads(done.stdout)["claims"]
    names = {window.name for window in kept_windows(manifest_of(recorded)).values()}
    replayed = [claim for claim in claims if claim["id"].startswith("replay_")]
    replayed = [claim for claim in replayed if claim["scope"]["window"] in names]
    assert {claim["scope"]["window"] for claim in replayed} == names
    assert len(names) == len(WINDOWS)
    assert {claim["verdict"] for claim in replayed} == {"holds"}
    orders = {claim["scope"]["order"] for claim in replayed if claim["id"] == "replay_nr_free"}
    assert orders == set(range(11))
