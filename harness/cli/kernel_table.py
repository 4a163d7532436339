"""The kernels in the cache and those of the catalogue that are not: as rows, and as a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InfrastructureError
from harness.kernel.answers import read_answer
from harness.kernel.build import BUILD_RECORD
from harness.kernel.cache import read_json_object
from harness.kernel.catalog import list_cached
from harness.kernel.custom import CustomKernel
from harness.kernel.kconfig import max_nodes, page_size_bytes, read_kconfig
from harness.kernel.package import Kernel
from harness.kernel.stock import stock_kernels
from harness.kernel.traits import memory_model, orders, slab_allocator, zones
from harness.kernel.zoo import find_custom

Row = dict[str, Any]

_HEAD = (
    *("ARCH", "RELEASE", "NAME", "PAGE", "ORDERS", "NODES", "MODEL", "SLAB", "ZONES"),
    *("DISK", "BUILT", "VERSION"),
)
_BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system's own is."""


def kernel_row(kernel: Kernel) -> Row:
    """What a kernel in the cache is; without its traits where its configuration is damaged."""
    record = read_json_object(kernel.directory / BUILD_RECORD) or {}
    row: Row = {
        "name": kernel.name,
        "arch": kernel.arch,
        "release": kernel.release,
        "package": kernel.package,
        "version": kernel.version,
        "cached": True,
        "custom": kernel.package.startswith("linux-source-"),
        "size_bytes": disk_bytes(kernel.directory),
        "build_s": record.get("took_s"),
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


def all_rows(recipes: Iterable[CustomKernel], cache: Path, arch: str | None) -> list[Row]:
    """Every kernel in the cache, then those of the zoo that are not: stock, then custom."""
    wanted = [spec for spec in stock_kernels() if arch in (None, spec.arch)]
    answers = [read_answer(spec, cache) for spec in wanted]
    named = {
        answer.kernel.directory: spec.name
        for spec, answer in zip(wanted, answers, strict=True)
        if answer is not None
    }
    rows = []
    for kernel in list_cached(cache, arch):
        row = kernel_row(kernel)
        rows.append(row | {"name": named.get(kernel.directory, kernel.name)})
    known = {(row["arch"], row["name"]) for row in rows}
    rows += [
        _absent(spec.arch, spec.name, spec.package, custom=False)
        for spec in wanted
        if (spec.arch, spec.name) not in known
    ]
    rows += [
        _absent(each, recipe.name, f"linux-source-{recipe.linux}", custom=True, why=recipe.why)
        for recipe in recipes
        for each in recipe.arches
        if arch in (None, each) and find_custom(recipe, each) is None
    ]
    return rows


def render_table(rows: Sequence[Row]) -> list[str]:
    """Lines for a person: what is cached, its totals, and what is not."""
    cached = [row for row in rows if row["cached"]]
    lines = _columns([_HEAD, *map(_cells, cached)]) if cached else []
    lines += [render_totals(cached)] if cached else []
    for custom, title in (
        (False, "not fetched yet (mmscope kernels fetch NAME --arch ARCH, or --all):"),
        (True, "not built yet (mmscope kernels build NAME --arch ARCH, or --all):"),
    ):
        absent = [row for row in rows if not row["cached"] and row["custom"] is custom]
        if absent:
            lines += ["", title]
            lines += _columns([(row["arch"], row["name"], row.get("why", "")) for row in absent])
    return lines


def render_totals(cached: Sequence[Row]) -> str:
    """How many kernels these are, what they take on disk and what it took to build them."""
    size_bytes = sum(row["size_bytes"] for row in cached)
    text = f"{len(cached)} kernels, {size_bytes / (1 << 30):.1f} GiB on disk"
    built = [row["build_s"] for row in cached if row["build_s"] is not None]
    return (
        f"{text}; {len(built)} of them built here in {render_time(sum(built))}" if built else text
    )


def render_time(seconds: float) -> str:
    """``45 s``, ``12 min 3 s``, ``1 h 2 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def disk_bytes(directory: Path) -> int:
    """What the files of a directory take on disk, links not followed."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += disk_bytes(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return total


def _absent(arch: str, name: str, package: str, *, custom: bool, why: str | None = None) -> Row:
    row: Row = {
        "name": name,
        "arch": arch,
        "release": None,
        "package": package,
        "version": None,
        "cached": False,
        "custom": custom,
    }
    return row | ({"why": why} if why else {})


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    page = row.get("page_size_bytes")
    built = row["build_s"]
    return (
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
        "-" if built is None else f"{built:.0f}s",
        row["version"],
    )


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    ]
