"""``mmscope check``: the model's claims about a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.cli.verdict import show_check


def check(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    as_json: Json = False,
) -> None:
    """Hold a recorded run against the model; exit 1 if any claim fails.

    Example: `mmscope check runs/boot-numa-x86_64-20260101T120000Z --json`
    """
    from analysis.report.pipeline import evaluate_run

    result = evaluate_run(directory)
    show_check(result.check, as_json=as_json, damage=result.damage)
    if result.check["summary"]["fails"]:
        raise typer.Exit(1)
