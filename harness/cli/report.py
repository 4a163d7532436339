"""``mmscope report``: tables, figures and the page, made anew from the raw data of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.cli.terminal import TerminalProgress
from harness.cli.verdict import analyse_and_show


def report(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    as_json: Json = False,
) -> None:
    """Make a run's tables, claims, figures and report.html anew, offline.

    Example: `mmscope report runs/boot-numa-x86_64-20260101T120000Z`
    """
    progress = TerminalProgress()
    try:
        failed = analyse_and_show(directory, progress, as_json=as_json)
    finally:
        progress.close()
    if failed:
        raise typer.Exit(1)
