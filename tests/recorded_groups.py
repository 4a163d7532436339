"""Groups of repeated runs made from fixture texts, with a load whose effect is known."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from harness.record.manifest import MachineRecord, OutcomeKind, PhaseRecord
from harness.record.rundir import RunDirectory
from harness.record.sweep import SweepRecord, SweepRun, write_sweep
from tests.recorded_run import fixture_round, stream, write_run

FIXTURE = "6.1-x86_64-3nodes"
MARKS = {
    0: ("settle/end", "objects/begin"),
    1: ("objects/0/make/100",),
    2: ("objects/1/free/100", "objects/end"),
}
BOOT_SLAB_KB = 30_000


def write_repeat(
    path: Path,
    *,
    seed: int,
    noise: random.Random,
    objects_kb: int = 4000,
    stalls: int = 0,
    reclaimed_pages: int | None = None,
    spread_kb: int = 40,
    slabinfo: bool = True,
    arch: str = "x86_64",
    config: str = "CONFIG_SLUB=y\nCONFIG_NUMA=y\n",
    phases: tuple[str, ...] = ("objects",),
    setup: tuple[str, ...] = (),
    outcome: OutcomeKind = OutcomeKind.COMPLETED,
) -> RunDirectory:
    """One run: slabs grow by about ``objects_kb`` and shrink again; ``stalls`` are counted."""
    rounds = []
    for held in (0, objects_kb, objects_kb // 4):
        texts = fixture_round(FIXTURE)
        if not slabinfo:
            del texts["slabinfo"]
        slab_kb = BOOT_SLAB_KB + (held + noise.randint(-spread_kb, spread_kb) if held else 0)
        texts["meminfo"] = _put(texts["meminfo"], rb"Slab:\s+\d+", b"Slab: %d" % slab_kb)
        counted = stalls if held else 0
        texts["vmstat"] = _put(
            texts["vmstat"], rb"allocstall_normal \d+", b"allocstall_normal %d" % counted
        )
        if reclaimed_pages is not None:
            steal = b"pgsteal_kswapd %d" % (reclaimed_pages if held else 0)
            texts["vmstat"] = _put(texts["vmstat"], rb"pgsteal_kswapd \d+", steal)
        rounds.append(texts)
    directory = write_run(path, stream(rounds, MARKS), outcome=outcome)
    (directory.guest_path / "config").write_text(config)
    manifest = directory.read_manifest()
    manifest.seed = seed
    manifest.machine = MachineRecord(
        arch=arch,
        accel="kvm",
        cpu_model="max",
        cpus=2,
        nodes=[],
        memory_bytes=1 << 30,
        distances={},
        cmdline="",
        qemu="7.2",
        qemu_argv=[],
    )
    manifest.timings_s = {"boot": 5.0 + noise.random()}
    manifest.experiment = {
        "phases": [{"name": name} for name in phases],
        "sampling": {},
        "setup": list(setup),
    }
    manifest.phases = [
        PhaseRecord(
            name="objects",
            workload="slabchurn",
            argv=[],
            node=None,
            params={},
            status=0,
            outcome="completed",
            wall_s=10 + noise.random(),
        )
    ]
    manifest.files = directory.digest_files()
    directory.write_manifest(manifest)
    return directory


def write_sweep_of(
    path: Path, variants: dict[str, dict[str, Any]], *, repeats: int = 5, seed: int = 0
) -> Path:
    """A sweep's directory with a run of each variant and repeat; what varies is in the values."""
    noise = random.Random(seed)
    record = SweepRecord(
        name="made",
        created="2026-01-01T00:00:00+00:00",
        mmscope="0",
        comparison={
            "question": "What differs?",
            "variants": [{"name": name, "about": ""} for name in variants],
            "plan": {"phases": [{"name": "objects"}]},
        },
        repeats=repeats,
        order=[(repeat, name) for repeat in range(1, repeats + 1) for name in variants],
    )
    for name, options in variants.items():
        for repeat in range(1, repeats + 1):
            directory = path / name / f"run-{repeat}"
            write_repeat(directory, seed=repeat, noise=noise, **options)
            record.put(
                SweepRun(
                    variant=name,
                    repeat=repeat,
                    seed=repeat,
                    directory=f"{name}/run-{repeat}",
                    outcome=OutcomeKind.COMPLETED,
                )
            )
    write_sweep(path, record)
    return path


def _put(text: bytes, pattern: bytes, value: bytes) -> bytes:
    changed, count = re.subn(rb"(?m)^" + pattern, value, text)
    assert count == 1, pattern
    return changed
