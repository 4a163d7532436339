"""``mmscope capture`` and ``capture-all``: what /proc and /sys say, kept as a directory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from harness.capture.archive import ENDING, pack
from harness.capture.guest import capture_guest
from harness.capture.host import capture_host
from harness.capture.matrix import Cell, cells, load_matrix
from harness.capture.record import RECORD_NAME
from harness.cli.guest_run import guest_run
from harness.cli.options import (
    Accel,
    Append,
    Cpus,
    Distances,
    GuestArch,
    KernelConfig,
    KernelName,
    Modules,
    Nodes,
    Runs,
    Shapes,
)
from harness.cli.prepare import DEFAULT_RUNS, asked_machine, asked_spec, chosen_arch, prepare
from harness.cli.terminal import TerminalProgress
from harness.errors import GuestError, UsageError
from harness.kernel.own import OwnFiles

_CAPTURE_LIMIT_S = 900.0
_COMPLAINT_LINES = 20


def capture(
    directory: Annotated[Path, typer.Argument(help="Where the capture goes; made by this.")],
    host: Annotated[
        bool, typer.Option("--host", help="Of this machine, which is only read.")
    ] = False,
    arch: GuestArch = None,
    shape: Shapes = None,
    node: Nodes = None,
    distance: Distances = None,
    cpus: Cpus = None,
    append: Append = None,
    sysctl: Annotated[
        list[str] | None,
        typer.Option("--sysctl", help="NAME=VALUE, written in the guest before; repeat."),
    ] = None,
    kernel: KernelName = None,
    modules: Modules = None,
    config: KernelConfig = None,
    accel: Accel = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Keep what /proc and /sys say of a guest, or of this machine, for `mmscope check`.

    Example: `mmscope capture here --host && mmscope check here`
    """
    if host:
        if (
            shape
            or node
            or distance
            or cpus
            or append
            or sysctl
            or kernel
            or accel
            or modules
            or config
        ):
            raise UsageError(
                "--host takes no option of a guest: the machine is read as it is",
                fix="leave out either --host or the guest's options",
            )
        record = capture_host(directory)
        for name, reason in record.unreadable.items():
            typer.echo(f"not readable: {name}: {reason}", err=True)
        typer.echo(directory)
        return
    arch = chosen_arch(arch, kernel)
    settings = parse_settings(sysctl or [])
    asked = asked_machine(node, distance, cpus, append, arch=arch, shape=shape)
    if directory.exists():
        raise UsageError(f"{directory} exists already", fix="name a directory that is not there")
    files = OwnFiles(modules=modules, config=config)
    progress = TerminalProgress()
    try:
        prepared = prepare(arch, kernel, progress.note, asked, files)
        spec = asked_spec(asked, prepared, accel, progress.note)
        with guest_run(
            "capture", spec, prepared, runs, shape=asked, progress=progress.note
        ) as guest:
            capture_guest(
                guest,
                prepared.kernel,
                prepared.image,
                directory,
                settings=settings,
                progress=progress.note,
            )
    finally:
        progress.close()
    typer.echo(directory)


def capture_all(
    matrix: Annotated[Path, typer.Argument(help="A .toml file: machines and kernels.")],
    directory: Annotated[Path, typer.Argument(help="Where an archive for each kernel goes.")],
    only: Annotated[
        str, typer.Option("--only", help="Pattern of KERNEL/ARCH/MACHINE, such as 'sid/*'.")
    ] = "*",
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=8, help="Guests at a time.")] = 2,
) -> None:
    """Take every capture of a matrix, into one archive for each kernel.

    Example: `mmscope capture-all kernel-configs/captures.toml captures --only 'sid/x86_64/*'`
    """
    wanted = list(cells(load_matrix(matrix), only))
    if not wanted:
        raise UsageError(f"--only {only!r}: no capture of {matrix} matches")
    directory.mkdir(parents=True, exist_ok=True)
    progress = TerminalProgress()
    failed: list[str] = []
    try:
        for kernel, arch in dict.fromkeys((cell.kernel, cell.arch) for cell in wanted):
            row = [cell for cell in wanted if (cell.kernel, cell.arch) == (kernel, arch)]
            progress.stage(f"{kernel} {arch}: {len(row)} captures")
            prepare(arch, kernel, progress.note)
            with tempfile.TemporaryDirectory(prefix="mmscope-captures-") as scratch:
                failed += _take(row, Path(scratch), directory, jobs, progress)
    finally:
        progress.close()
    if failed:
        raise GuestError(
            f"{len(failed)} of {len(wanted)} captures could not be taken",
            details={name: complaint for name, _, complaint in (f.partition(": ") for f in failed)},
            fix=f"take them again: mmscope capture-all {matrix} {directory} --only …",
        )


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """``["vm.swappiness=10"]`` → name and value.

    Raises:
        UsageError: no ``=``, or a name twice.
    """
    settings: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise UsageError(f"--sysctl {text!r} is not NAME=VALUE", fix="as in vm.swappiness=10")
        if name.strip() in settings:
            raise UsageError(f"--sysctl {name.strip()}: given twice")
        settings[name.strip()] = value.strip()
    return settings


def _take(
    row: Sequence[Cell], scratch: Path, archives: Path, jobs: int, progress: TerminalProgress
) -> list[str]:
    """Takes the captures of a kernel, ``jobs`` at a time, and packs them; what failed and why."""
    failed: list[str] = []
    taken: dict[str, Path] = {}

    def one(cell: Cell) -> tuple[Cell, str]:
        argv = [sys.executable, "-m", "harness", "capture", str(scratch / cell.machine)]
        argv += [*cell.options(), "--runs", str(scratch / "runs")]
        try:
            result = subprocess.run(argv, capture_output=True, timeout=_CAPTURE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return cell, f"not through after {_CAPTURE_LIMIT_S:.0f} s"
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines()
            return cell, "\n".join(lines[-_COMPLAINT_LINES:]) or f"status {result.returncode}"
        return cell, ""

    with ThreadPoolExecutor(jobs) as pool:
        for cell, complaint in pool.map(one, row):
            if complaint:
                failed.append(f"{cell.name}: {complaint}")
                progress.stage(f"  {cell.machine} failed")
            else:
                taken[cell.machine] = scratch / cell.machine
                progress.stage(f"  {cell.machine}")
    if taken:
        record = json.loads((next(iter(taken.values())) / RECORD_NAME).read_text())
        pack(taken, archives / f"{record['kernel']['release']}{ENDING}")
    return failed
