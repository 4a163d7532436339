"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Arch = Annotated[str, typer.Option("--arch", help="x86_64, arm64, i386 or m68k.")]
GuestArch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="x86_64, arm64, i386 or m68k. [default: that of a kernel given by path, else x86_64]",
    ),
]
KernelName = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        help=(
            "SUITE, SUITE/FLAVOUR, a custom kernel or the release of a cached one (see `mmscope "
            "kernels list`), or the path of a kernel image of your own."
        ),
    ),
]
Modules = Annotated[
    Path | None,
    typer.Option(
        "--modules",
        help="Modules of a kernel given by path: lib/modules/RELEASE or a directory above it. "
        "[default: beside the image]",
    ),
]
KernelConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Configuration of a kernel given by path. [default: in the image, or beside it]",
    ),
]
Accel = Annotated[
    str | None,
    typer.Option("--accel", help="auto, tcg or kvm. [default: $MMSCOPE_ACCEL or auto]"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Where run directories are made.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        help="Memory of a NUMA node (512M, 1G; 0: CPUs only). Repeat for more; one is UMA.",
    ),
]
Distances = Annotated[
    list[str] | None, typer.Option("--distance", help="FROM,TO=DISTANCE between nodes.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Shapes of `mmscope shapes list`; repeat, or part by commas."),
]
Cpus = Annotated[int | None, typer.Option("--cpus", help="CPUs in all, dealt out.")]
Append = Annotated[list[str] | None, typer.Option("--append", help="Further kernel parameters.")]
