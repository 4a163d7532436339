"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Arch = Annotated[str, typer.Option("--arch", help="x86_64, arm64 or i386.")]
KernelName = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        help="SUITE, SUITE/FLAVOUR or the release of a cached kernel; see `mmscope kernels list`.",
    ),
]
Accel = Annotated[
    str | None,
    typer.Option("--accel", help="auto, tcg or kvm. [default: $MMSCOPE_ACCEL or auto]"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Where run directories are made.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
