"""The catalogue of shapes: kernel-configs/shapes.toml, validated."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UsageError
from harness.machine.shape import Shape, ShapeNode
from harness.machine.spec import HotMemory
from harness.units import parse_size_bytes

SHAPES_PATH = Path(__file__).parents[2] / "kernel-configs" / "shapes.toml"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _NodeRow(_Row):
    size: str
    cpus: int = Field(ge=0)


class _HotRow(_Row):
    by: Literal["pc-dimm", "virtio-mem"]
    size: str
    node: int = Field(default=0, ge=0)


class _ShapeRow(_Row):
    why: str = Field(min_length=1)
    nodes: tuple[str, ...] | tuple[_NodeRow, ...] = ()
    cpus: int | None = Field(default=None, ge=1)
    distances: tuple[str, ...] = ()
    append: str = ""
    modules: tuple[str, ...] = ()
    hot: tuple[_HotRow, ...] = ()
    pmem: str = "0"
    swap: str = "0"
    zram: str = "0"
    needs: tuple[str, ...] = ()
    arches: tuple[Literal["x86_64", "arm64", "i386"], ...] = ()
    elsewhere: str = ""


def load_shapes(path: Path = SHAPES_PATH) -> dict[str, Shape]:
    """Name → shape, in the order of the file.

    Raises:
        UsageError: it cannot be read, or an entry is not one (names file and place).
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}", fix="restore the file from the source tree") from None
    shapes: dict[str, Shape] = {}
    for name, row in content.items():
        try:
            shapes[name] = _shape(name, _ShapeRow.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (name, *first["loc"])))
            raise UsageError(f"{path}: {where}: {first['msg']}") from None
        except UsageError as error:
            raise UsageError(f"{path}: {name}: {error.message}", fix=error.fix) from None
    return shapes


def find_shapes(names: Sequence[str], known: Mapping[str, Shape] | None = None) -> list[Shape]:
    """The shapes that these names mean; a name may be a list, parted by commas.

    Raises:
        UsageError: no such shape; says which there are.
    """
    shapes = load_shapes() if known is None else known
    found: list[Shape] = []
    for name in (part.strip() for text in names for part in text.split(",")):
        if name not in shapes:
            near = difflib.get_close_matches(name, shapes, n=1)
            raise UsageError(
                f"no shape is called {name!r}",
                fix=f"did you mean {near[0]}?" if near else f"use some of {', '.join(shapes)}",
            )
        found.append(shapes[name])
    return found


def _shape(name: str, row: _ShapeRow) -> Shape:
    if row.arches and not row.elsewhere:
        raise UsageError("arches without a reason", fix="say in `elsewhere` why not on others")
    nodes = tuple(
        ShapeNode(size_bytes=parse_size_bytes(node))
        if isinstance(node, str)
        else ShapeNode(size_bytes=parse_size_bytes(node.size), cpus=node.cpus)
        for node in row.nodes
    )
    if not nodes and (row.cpus is not None or row.distances):
        raise UsageError("cpus or distances without nodes", fix="lay out the nodes too")
    shape = Shape(
        name=name,
        why=row.why,
        nodes=nodes,
        cpus=row.cpus,
        distances=row.distances,
        append=tuple(row.append.split()),
        modules=row.modules,
        hot=tuple(
            HotMemory(by=part.by, size_bytes=parse_size_bytes(part.size), node=part.node)
            for part in row.hot
        ),
        pmem_bytes=parse_size_bytes(row.pmem),
        swap_bytes=parse_size_bytes(row.swap),
        zram_bytes=parse_size_bytes(row.zram),
        needs=row.needs,
    )
    if not row.arches:
        return shape
    return replace(shape, arches=row.arches, elsewhere=row.elsewhere)
