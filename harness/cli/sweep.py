"""``mmscope sweep``: every configuration of a comparison, run several times."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

import typer

from harness.cli.options import Accel, Json, Runs
from harness.cli.prepare import DEFAULT_RUNS, prepare
from harness.cli.sweep_job import JobProcess
from harness.cli.terminal import TerminalProgress
from harness.errors import WorkloadFailedError
from harness.experiment.comparison import load_comparison
from harness.experiment.sweep import Sweep
from harness.machine.argv import platform_of


def sweep(
    comparison: Annotated[str, typer.Argument(help="A name (slub-slab-slob) or a .toml file.")],
    repeat: Annotated[
        int | None,
        typer.Option("--repeat", min=1, max=100, help="Runs of each variant. [default: its own]"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Guests at once.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this variant. Repeat for more.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    accel: Accel = None,
    as_json: Json = False,
) -> None:
    """Run every variant of a comparison several times, in an order drawn and recorded.

    Each repeat has a seed of its own, the same for all variants. What was finished is kept: the
    same command goes on with a sweep that was interrupted.

    Example: `mmscope sweep slub-slab-slob --jobs 2 && mmscope compare runs/slub-slab-slob`
    """
    definition = load_comparison(comparison)
    for name in only or []:
        definition.variant(name)
    progress = TerminalProgress()
    try:
        wanted = [each for each in definition.variants if not only or each.name in only]
        for variant in wanted:
            platform_of(variant.arch)
            progress.stage(f"kernel and guest image of {variant.name}")
            prepare(variant.arch, variant.kernel, progress.note, files=variant.files)
        found = Sweep.open(definition, runs, repeat or definition.repeat, jobs)
        found.execute(
            JobProcess, only=only or (), accel=accel, stage=progress.stage, note=progress.note
        )
    finally:
        progress.close()
    outcomes = Counter(run.outcome.value for run in found.record.runs)
    left = found.left(only or ())
    if as_json:
        typer.echo(found.record.model_dump_json(indent=1))
    else:
        typer.echo(f"sweep      {found.directory}")
        typer.echo("runs       " + json.dumps(outcomes)[1:-1].replace('"', ""))
        typer.echo(f"now        mmscope compare {found.directory}")
    if left:
        raise WorkloadFailedError(
            f"{len(left)} runs of the sweep failed: "
            + ", ".join(f"{name} repeat {number}" for number, name in left),
            fix="see their messages in sweep.json; the same command tries them again",
            details={"sweep": found.directory},
        )
