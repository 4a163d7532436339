"""``mmscope kernels``: what can be booted, and fetching it beforehand."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import Arch, Json
from harness.cli.prepare import prepare
from harness.cli.terminal import TerminalProgress
from harness.kernel.cache import cache_root
from harness.kernel.catalog import list_cached

app = typer.Typer(help="Kernels that can be booted.", no_args_is_help=True)


@app.command("list")
def list_kernels(as_json: Json = False) -> None:
    """List the kernels in the cache.

    Example: `mmscope kernels list --json`
    """
    kernels = list_cached(cache_root())
    if as_json:
        rows = [
            {
                "name": kernel.name,
                "arch": kernel.arch,
                "release": kernel.release,
                "package": kernel.package,
                "version": kernel.version,
            }
            for kernel in kernels
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    if not kernels:
        typer.echo("no kernel is cached yet; fetch one: mmscope kernels fetch")
    for kernel in kernels:
        typer.echo(f"{kernel.arch:8}{kernel.release:28}{kernel.name:28}{kernel.version}")


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="SUITE or SUITE/FLAVOUR; the host's suite by default.")
    ] = None,
    arch: Arch = "x86_64",
) -> None:
    """Fetch and verify a kernel and its guest's userland, so that it boots without a network.

    Example: `mmscope kernels fetch bookworm-backports --arch arm64`
    """
    progress = TerminalProgress()
    try:
        kernel = prepare(arch, name, progress.note).kernel
    finally:
        progress.close()
    typer.echo(f"{kernel.arch} {kernel.release} ({kernel.package} {kernel.version})")
