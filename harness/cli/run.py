"""``mmscope run``: an experiment from boot to verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from harness.cli.options import (
    Accel,
    GuestArch,
    Json,
    KernelConfig,
    KernelName,
    Modules,
    Runs,
    Shapes,
)
from harness.cli.prepare import DEFAULT_RUNS, checked_spec, chosen_arch, prepare
from harness.cli.terminal import TerminalProgress
from harness.cli.verdict import analyse_and_show
from harness.errors import WorkloadFailedError
from harness.experiment.plan import load_plan
from harness.experiment.runner import Run, RunRequest, machine_spec
from harness.kernel.own import OwnFiles
from harness.record.rundir import RunDirectory


def run(
    experiment: Annotated[str, typer.Argument(help="A name (boot-numa) or a .toml file.")],
    arch: GuestArch = None,
    kernel: KernelName = None,
    modules: Modules = None,
    config: KernelConfig = None,
    shape: Shapes = None,
    accel: Accel = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=(1 << 31) - 1, help="Instead of the plan's.")
    ] = None,
    as_json: Json = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Analyse the run when it is done.")
    ] = True,
) -> None:
    """Run an experiment: boot, load, sample, then tables, claims, figures and a report.

    Example: `mmscope run boot-numa --arch arm64`
    """
    arch = chosen_arch(arch, kernel)
    plan = load_plan(experiment)
    if shape:
        plan = plan.with_shapes(shape)
    plan.check_arch(arch)
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    shaped = plan.composition(arch)
    files = OwnFiles(modules=modules, config=config)
    progress = TerminalProgress()
    try:
        progress.stage("kernel and guest image")
        prepared = prepare(arch, kernel, progress.note, shaped, files)
        request = RunRequest(
            plan=plan,
            kernel=prepared.kernel,
            image=prepared.image,
            accel="tcg",
            runs_root=runs,
        )
        spec = checked_spec(machine_spec(request), prepared.kernel, accel, progress.note)
        request = replace(request, accel=spec.accel)
        directory: RunDirectory = Run(request, progress).execute()
        if not check:
            progress.close()
            typer.echo(directory.path)
            return
        failed = analyse_and_show(directory.path, progress, as_json=as_json)
        outcome = directory.read_manifest().outcome
    finally:
        progress.close()
    if outcome.exit_code:
        raise WorkloadFailedError(
            outcome.message, fix=outcome.fix, details={"run directory": directory.path}
        )
    if failed:
        raise typer.Exit(1)
