"""``mmscope kernels``: what can be booted; fetching, building and comparing kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Arch, Json
from harness.cli.prepare import prepare
from harness.cli.terminal import TerminalProgress
from harness.errors import InfrastructureError, UsageError
from harness.image.assembly import build_image
from harness.kernel.cache import cache_root
from harness.kernel.catalog import list_cached
from harness.kernel.custom import CustomKernel, custom_kernels
from harness.kernel.fetch import obtain
from harness.kernel.kconfig import max_nodes, page_size_bytes, read_kconfig
from harness.kernel.kconfig_diff import diff_configs, render_diff
from harness.kernel.package import Kernel, debian_arch
from harness.kernel.traits import memory_model, orders, slab_allocator, zones
from harness.kernel.zoo import find_custom

app = typer.Typer(
    help="Kernels that can be booted: stock ones and custom ones.", no_args_is_help=True
)


@app.command("list")
def list_kernels(
    as_json: Json = False,
    arch: Annotated[str | None, typer.Option("--arch", help="Only those of one.")] = None,
) -> None:
    """List the kernels in the cache, and the custom kernels that are not built yet.

    Example: `mmscope kernels list --json`
    """
    if arch is not None:
        debian_arch(arch)
    rows = [_row(kernel) for kernel in list_cached(cache_root(), arch)]
    rows += _unbuilt(arch)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not any(row["cached"] for row in rows):
        typer.echo("no kernel is cached yet; fetch one: mmscope kernels fetch")
    for line in _table(rows):
        typer.echo(line)


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


@app.command()
def build(
    names: Annotated[list[str], typer.Argument(help="Custom kernels; see `mmscope kernels list`.")],
    arch: Arch = "x86_64",
    as_json: Json = False,
) -> None:
    """Build custom kernels from Debian's linux-source, as kernel-configs/catalog.toml has them.

    Every symbol that a kernel's fragments ask for must be in its final configuration. What was
    built before from the same source, fragments and compiler is not built again; a build that
    was interrupted goes on where it was.

    Example: `mmscope kernels build slab slob`
    """
    recipes = [_recipe(name) for name in names]
    for recipe in recipes:
        recipe.check_arch(arch)
    built = []
    progress = TerminalProgress()
    try:
        for recipe in recipes:
            progress.stage(f"{recipe.name}: {recipe.why}")
            kernel = obtain(recipe.name, arch, progress=progress.note, newest=True)
            build_image(kernel, progress=progress.note)
            built.append(kernel)
    finally:
        progress.close()
    if as_json:
        typer.echo(json.dumps([_row(kernel) for kernel in built], indent=1))
        return
    for kernel in built:
        typer.echo(f"{kernel.arch} {kernel.release} ({kernel.package} {kernel.version})")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="A kernel, or a file with a configuration.")],
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


def _recipe(name: str) -> CustomKernel:
    recipes = custom_kernels()
    try:
        return recipes[name]
    except KeyError:
        raise UsageError(
            f"there is no custom kernel {name!r}",
            details={"there are": ", ".join(recipes) or "none"},
            fix="name one of these, or add it to kernel-configs/catalog.toml; stock kernels are "
            "fetched: mmscope kernels fetch",
        ) from None


def _config(name: str, arch: str, progress: TerminalProgress) -> dict[str, str]:
    """The configuration of a kernel by name or by file; nothing is built for it."""
    if "/" in name or "." in name:
        path = Path(name)
        if path.is_file():
            return read_kconfig(path)
    recipe = custom_kernels().get(name)
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


def _row(kernel: Kernel) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": kernel.name,
        "arch": kernel.arch,
        "release": kernel.release,
        "package": kernel.package,
        "version": kernel.version,
        "cached": True,
        "custom": kernel.package.startswith("linux-source-"),
        "size_bytes": _size_bytes(kernel.directory),
    }
    try:
        config = read_kconfig(kernel.config_path)
    except (OSError, InfrastructureError):
        return row
    return row | {
        "page_size_bytes": page_size_bytes(config),
        "orders": orders(config, kernel.release),
        "zones": list(zones(config)),
        "memory_model": memory_model(config),
        "slab": slab_allocator(config),
        "max_nodes": max_nodes(config),
    }


def _unbuilt(arch: str | None) -> list[dict[str, Any]]:
    return [
        {
            "name": recipe.name,
            "arch": each,
            "release": None,
            "package": f"linux-source-{recipe.linux}",
            "version": None,
            "cached": False,
            "custom": True,
            "why": recipe.why,
        }
        for recipe in custom_kernels().values()
        for each in recipe.arches
        if arch in (None, each) and find_custom(recipe, each) is None
    ]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        (
            "ARCH",
            "RELEASE",
            "NAME",
            "PAGE",
            "ORDERS",
            "NODES",
            "MODEL",
            "SLAB",
            "ZONES",
            "DISK",
            "VERSION",
        )
    ]
    for row in rows:
        if not row["cached"]:
            continue
        page = row.get("page_size_bytes")
        table.append(
            (
                row["arch"],
                row["release"],
                row["name"],
                f"{page >> 10}K" if page else "?",
                str(row.get("orders", "?")),
                str(row.get("max_nodes", "?")),
                row.get("memory_model", "?"),
                row.get("slab", "?"),
                " ".join(row.get("zones", ["?"])),
                f"{row['size_bytes'] >> 20}M",
                row["version"],
            )
        )
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    ]
    unbuilt = [row for row in rows if not row["cached"]]
    if len(lines) == 1:
        lines = []
    if unbuilt:
        lines += ["", "not built yet (mmscope kernels build NAME):"]
        width = max(len(row["name"]) for row in unbuilt)
        lines += [f"{row['arch']:8}{row['name']:{width}}  {row['why']}" for row in unbuilt]
    return lines


def _size_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
