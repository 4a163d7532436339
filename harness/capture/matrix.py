"""A matrix of captures: which machines to boot with which kernels."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.machine.shape_catalog import find_shapes


class MachineRow(BaseModel):
    """A machine, in the words of ``mmscope capture``'s options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    why: str
    """What the machine shows."""
    shapes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    cpus: int | None = None
    distances: tuple[str, ...] = ()
    append: str = ""
    sysctls: dict[str, str] = {}


class KernelRow(BaseModel):
    """A kernel and the machines it is booted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernel: str
    arch: str
    machines: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Machines to leave out, where ``machines`` names a set."""


class Matrix(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machines: dict[str, MachineRow]
    sets: dict[str, tuple[str, ...]] = {}
    kernels: tuple[KernelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One capture to take."""

    kernel: str
    arch: str
    machine: str
    row: MachineRow

    @property
    def name(self) -> str:
        """``sid/x86_64/numa2``, as ``--only`` matches it."""
        return f"{self.kernel}/{self.arch}/{self.machine}"

    def options(self) -> list[str]:
        """The options of ``mmscope capture`` that make it."""
        words = ["--arch", self.arch, "--kernel", self.kernel]
        for shape in self.row.shapes:
            words += ["--shape", shape]
        for node in self.row.nodes:
            words += ["--node", node]
        for distance in self.row.distances:
            words += ["--distance", distance]
        if self.row.cpus is not None:
            words += ["--cpus", str(self.row.cpus)]
        if self.row.append:
            words += ["--append", self.row.append]
        for name, value in self.row.sysctls.items():
            words += ["--sysctl", f"{name}={value}"]
        return words


def load_matrix(path: Path) -> Matrix:
    """The matrix of a TOML file.

    Raises:
        UsageError: it cannot be read, has an unknown key, or names a machine it does not describe.
    """
    try:
        matrix = Matrix.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}", fix="name a matrix such as captures.toml") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']}") from None
    for name, machine_row in matrix.machines.items():
        try:
            find_shapes(machine_row.shapes)
        except UsageError as error:
            raise UsageError(f"{path}: machines.{name}: {error.message}", fix=error.fix) from None
    for row in matrix.kernels:
        for machine in _machines(matrix, row):
            if machine not in matrix.machines:
                raise UsageError(
                    f"{path}: kernel {row.kernel} names the machine {machine!r}, which is not in "
                    f"the file",
                    fix=f"describe it as [machines.{machine}], or use one of "
                    f"{', '.join(matrix.machines)}",
                )
    return matrix


def cells(matrix: Matrix, only: str = "*") -> Iterator[Cell]:
    """Every capture of the matrix whose name matches a pattern, kernel by kernel."""
    for row in matrix.kernels:
        for machine in _machines(matrix, row):
            cell = Cell(
                kernel=row.kernel, arch=row.arch, machine=machine, row=matrix.machines[machine]
            )
            if fnmatch.fnmatchcase(cell.name, only):
                yield cell


def _machines(matrix: Matrix, row: KernelRow) -> list[str]:
    names: list[str] = []
    for name in row.machines:
        names += matrix.sets.get(name, (name,))
    return [name for name in dict.fromkeys(names) if name not in row.without]
