"""``mmscope kernels``: what can be booted; fetching, building and comparing kernels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.kernel_table import all_rows, kernel_row, render_table, render_totals
from harness.cli.options import Arch, Json
from harness.cli.prepare import DEFAULT_ARCH, prepare
from harness.cli.terminal import TerminalProgress
from harness.errors import DiskFullError, InfrastructureError, NetworkError, UsageError
from harness.image.assembly import build_image
from harness.kernel.cache import cache_root
from harness.kernel.custom import CATALOG_VARIABLE, CustomKernel, known_custom
from harness.kernel.fetch import obtain
from harness.kernel.kconfig import parse_kconfig, read_kconfig
from harness.kernel.kconfig_diff import diff_configs, render_diff
from harness.kernel.kernel_file import read_kernel_file
from harness.kernel.own import config_of, names_file
from harness.kernel.package import Kernel, debian_arch
from harness.kernel.stock import stock_kernels
from harness.kernel.zoo import find_custom

app = typer.Typer(
    help="Kernels that can be booted: stock ones and custom ones.", no_args_is_help=True
)

Catalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        envvar=CATALOG_VARIABLE,
        help="A file like kernel-configs/catalog.toml with custom kernels of your own; their "
        "fragments lie in fragments/ beside it, or are ours.",
    ),
]
OneArch = Annotated[
    str | None, typer.Option("--arch", help="Of this architecture. [default: x86_64; --all: every]")
]


@app.command("list")
def list_kernels(
    as_json: Json = False,
    arch: Annotated[str | None, typer.Option("--arch", help="Only those of one.")] = None,
    catalog: Catalog = None,
) -> None:
    """List the kernels in the cache, and those of the catalogue that are not fetched or built yet.

    BUILT is how long a custom kernel took to build here.

    Example: `mmscope kernels list --json`
    """
    if arch is not None:
        debian_arch(arch)
    recipes = known_custom(_environment(catalog))
    rows = all_rows(recipes.values(), cache_root(), arch)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not any(row["cached"] for row in rows):
        typer.echo("no kernel is cached yet; fetch one: mmscope kernels fetch")
    for line in render_table(rows):
        typer.echo(line)


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="SUITE or SUITE/FLAVOUR; the host's suite by default."),
    ] = None,
    arch: OneArch = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every stock kernel that the catalogue names.")
    ] = False,
) -> None:
    """Fetch and verify kernels and their guest's userland, so that they boot without a network.

    Example: `mmscope kernels fetch bookworm-backports --arch arm64`
    """
    if everything and names:
        raise UsageError("--all fetches every kernel: name none, or leave --all out")
    if arch is not None:
        debian_arch(arch)
    wanted: list[tuple[str | None, str]]
    if everything:
        wanted = [(spec.name, spec.arch) for spec in stock_kernels() if arch in (None, spec.arch)]
    else:
        asked: list[str | None] = [*(names or [])] or [None]
        wanted = [(name, arch or DEFAULT_ARCH) for name in asked]

    def one(name: str | None, arch: str, progress: TerminalProgress) -> Kernel:
        return prepare(arch, name, progress.note).kernel

    _each(wanted, one, go_on=everything, done="fetched")


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Custom kernels; see `mmscope kernels list`.")
    ] = None,
    arch: OneArch = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every custom kernel of the catalogue.")
    ] = False,
    as_json: Json = False,
    catalog: Catalog = None,
) -> None:
    """Build custom kernels from Debian's linux-source, as kernel-configs/catalog.toml has them.

    Every symbol that a kernel's fragments ask for must be in its final configuration. What was
    built before from the same source, fragments and compiler is not built again; a build that
    was interrupted goes on where it was.

    Example: `mmscope kernels build slab slob`
    """
    if everything == bool(names):
        raise UsageError("name the kernels to build, or --all", fix="mmscope kernels list")
    environment = _environment(catalog)
    recipes = known_custom(environment)
    wanted: list[tuple[str | None, str]]
    if everything:
        wanted = [
            (recipe.name, each)
            for recipe in recipes.values()
            for each in recipe.arches
            if arch in (None, each)
        ]
    else:
        wanted = [(name, arch or DEFAULT_ARCH) for name in names or []]
    for name, each in wanted:
        _recipe(name or "", recipes).check_arch(each)

    def one(name: str | None, arch: str, progress: TerminalProgress) -> Kernel:
        kernel = obtain(name, arch, progress=progress.note, environment=environment, newest=True)
        build_image(kernel, progress=progress.note)
        return kernel

    _each(wanted, one, go_on=everything, done="built", as_json=as_json)


def _each(
    wanted: Sequence[tuple[str | None, str]],
    one: Callable[[str | None, str, TerminalProgress], Kernel],
    *,
    go_on: bool,
    done: str,
    as_json: bool = False,
) -> None:
    """Fetch or build kernels in turn and list them; ``go_on`` to the next when one cannot be had.

    Raises:
        InfrastructureError: names each that could not be had, after all were tried.
    """
    got: list[Kernel] = []
    failed: dict[str, str] = {}
    progress = TerminalProgress()
    try:
        for number, (name, arch) in enumerate(wanted, start=1):
            label = f"{name or 'the default kernel'} {arch}"
            if len(wanted) > 1:
                progress.stage(f"{number}/{len(wanted)} {label}")
            try:
                got.append(one(name, arch, progress))
            except (DiskFullError, NetworkError):
                raise
            except (InfrastructureError, UsageError) as error:
                if not go_on:
                    raise
                failed[label] = error.render()
                progress.stage(f"  {label}: {error.message}")
    finally:
        progress.close()
    rows = [kernel_row(kernel) for kernel in got]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        for kernel in got:
            typer.echo(f"{kernel.arch} {kernel.release} ({kernel.package} {kernel.version})")
        if len(wanted) > 1 and rows:
            typer.echo(render_totals(rows))
    if failed:
        raise InfrastructureError(
            f"{len(failed)} of {len(wanted)} kernels could not be {done}", details=failed
        )


@app.command()
def diff(
    first: Annotated[
        str, typer.Argument(help="A kernel by name or path, or a file with a configuration.")
    ],
    second: Annotated[str, typer.Argument(help="The other one.")],
    arch: Arch = "x86_64",
    second_arch: Annotated[
        str | None, typer.Option("--second-arch", help="Where it is not the first's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Name the symbols in which two kernels are configured differently, memory management first.

    A dash stands for a symbol that the kernel's configuration does not name.

    Example: `mmscope kernels diff bookworm bookworm/cloud-amd64`
    """
    progress = TerminalProgress()
    try:
        configs = (
            _config(first, arch, progress),
            _config(second, second_arch or arch, progress),
        )
    finally:
        progress.close()
    differences = diff_configs(*configs)
    if not as_json:
        typer.echo(render_diff(differences, (first, second)), nl=False)
        return
    rows = [
        {"symbol": each.symbol, "group": each.group, "values": list(each.values)}
        for each in differences
    ]
    typer.echo(json.dumps({"kernels": [first, second], "differences": rows}, indent=1))


def _environment(catalog: Path | None) -> Mapping[str, str]:
    """Ours, with the catalogue that an option names."""
    return os.environ if catalog is None else {**os.environ, CATALOG_VARIABLE: str(catalog)}


def _recipe(name: str, recipes: Mapping[str, CustomKernel]) -> CustomKernel:
    try:
        return recipes[name]
    except KeyError:
        raise UsageError(
            f"there is no custom kernel {name!r}",
            details={"there are": ", ".join(recipes) or "none"},
            fix="name one of these, or add it to a catalogue (--catalog); stock kernels are "
            "fetched: mmscope kernels fetch",
        ) from None


def _config_of_file(path: Path) -> dict[str, str]:
    """A configuration, or that of a kernel image."""
    try:
        return read_kconfig(path)
    except (InfrastructureError, UnicodeDecodeError):
        return parse_kconfig(config_of(read_kernel_file(path), None), str(path))


def _config(name: str, arch: str, progress: TerminalProgress) -> dict[str, str]:
    """The configuration of a kernel by name or by file; nothing is built for it."""
    if names_file(name):
        return _config_of_file(Path(name).expanduser())
    recipe = known_custom().get(name)
    if recipe is None:
        return read_kconfig(obtain(name, arch, progress=progress.note).config_path)
    recipe.check_arch(arch)
    kernel = find_custom(recipe, arch)
    if kernel is None:
        raise UsageError(
            f"the kernel {name!r} is not built for {arch}, so its configuration is not known",
            fix=f"mmscope kernels build {name} --arch {arch}",
        )
    return read_kconfig(kernel.config_path)
