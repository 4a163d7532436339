"""A saved machine to its first answer, beside the cold boot of the same machine.

Budget: 1 s on either architecture under TCG on two cores.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from harness.cli.prepare import bare_spec, prepare
from harness.machine.snapshot import Template
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest

ARCHES = ("x86_64", "arm64")
CLONES = int(os.environ.get("MMSCOPE_BENCH_CLONES", "10"))
_NODES = (NodeSpec(size_bytes=1 << 30, cpus=(0, 1)),)


def run() -> list[tuple[str, float, str]]:
    """For each architecture: saving, and restoring in both ways."""
    rows: list[tuple[str, float, str]] = []
    for arch in ARCHES:
        prepared = prepare(arch, None, lambda _: None)
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch)
            with Guest(bare_spec(prepared, _NODES), RunDirectory(directory / "saved")) as guest:
                start_s = time.monotonic()
                template = guest.save()
                save_s = time.monotonic() - start_s
                boot_s = guest.boot_s
            with template:
                state_kib = template.state_bytes / 1024
                private_s = [_answer_s(template, directory, private=True) for _ in range(CLONES)]
                copied_s = [_answer_s(template, directory, private=False) for _ in range(CLONES)]
        median_s = statistics.median(private_s)
        rows += [
            (f"{arch}: 1 GiB saved", save_s, "s"),
            (f"{arch}: its device state", state_kib, "KiB"),
            (f"{arch}: restore to answer, median of {CLONES}", median_s, "s"),
            (f"{arch}: slowest of {CLONES}", max(private_s), "s"),
            (f"{arch}: the same with a copy of the RAM", statistics.median(copied_s), "s"),
            (f"{arch}: cold boot of the same machine", boot_s, "s"),
            (f"{arch}: ratio of boot to restore", boot_s / median_s, "x"),
        ]
    return rows


def _answer_s(template: Template, directory: Path, *, private: bool) -> float:
    start_s = time.monotonic()
    with Guest.restored(template, RunDirectory(directory / "clone"), private=private):
        return time.monotonic() - start_s
