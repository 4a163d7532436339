"""The custom kernels of the catalogue: what no distribution ships, as a recipe."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import InfrastructureError, UsageError
from harness.kernel.catalog import CATALOG_PATH, known_suites
from harness.kernel.package import PORTS

Base = Literal["allnoconfig", "stock"]

CATALOG_VARIABLE = "MMSCOPE_CATALOG"
"""Names a catalogue of a person's own, whose custom kernels are known beside ours."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_SERIES = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomKernel:
    """How to make one kernel."""

    name: str
    why: str
    """What it shows that no stock kernel does."""
    suite: str
    """The suite whose ``linux-source`` it is built from."""
    linux: str
    """The series of that source, ``6.1``."""
    arches: tuple[str, ...]
    base: Base
    """What holds where no fragment says otherwise: everything off, or the suite's own
    configuration of the generic kernel."""
    fragments: tuple[str, ...]
    """In the order in which they are joined."""
    catalog: Path = CATALOG_PATH
    """The file that describes it; its fragments lie in ``fragments/`` beside it, or are ours."""

    @property
    def own_fragments(self) -> tuple[Path, ...]:
        """Where its fragments lie that are not ours."""
        return () if self.catalog == CATALOG_PATH else (self.catalog.parent / "fragments",)

    def check_arch(self, arch: str) -> None:
        """Raises UsageError when there is no such kernel for ``arch``."""
        if arch not in self.arches:
            raise UsageError(
                f"the kernel {self.name!r} is not made for {arch}",
                fix=f"add --arch {self.arches[0]}",
            )


def custom_kernels(path: Path = CATALOG_PATH) -> dict[str, CustomKernel]:
    """The custom kernels of the catalogue by name, in its order.

    Raises:
        InfrastructureError: the catalogue is missing or says something that has no meaning.
    """
    try:
        catalog = tomllib.loads(path.read_text(encoding="utf-8"))
        kernels = {
            name: _custom(name, entry, path) for name, entry in catalog.get("custom", {}).items()
        }
        clash = sorted(kernels.keys() & catalog.get("suites", {}).keys())
        if clash:
            raise ValueError(f"{clash[0]} is the name of a suite and of a custom kernel")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise InfrastructureError(
            f"{path}: not a kernel catalog: {error}", fix="correct the file, or restore it"
        ) from None
    return kernels


def known_custom(environment: Mapping[str, str] = os.environ) -> dict[str, CustomKernel]:
    """Our custom kernels, and those of the catalogue that ``$MMSCOPE_CATALOG`` names.

    Raises:
        UsageError: there is no such catalogue, or it uses a name of ours.
        InfrastructureError: a catalogue says something that has no meaning.
    """
    kernels = custom_kernels()
    named = environment.get(CATALOG_VARIABLE)
    if not named:
        return kernels
    path = Path(named).absolute()
    if not path.is_file():
        raise UsageError(
            f"there is no catalogue {named}",
            fix=f"give an existing file to --catalog, or unset {CATALOG_VARIABLE}",
        )
    own = custom_kernels(path)
    clash = sorted(own.keys() & {*kernels.keys(), *known_suites()}) if path != CATALOG_PATH else []
    if clash:
        raise UsageError(
            f"{path}: {clash[0]!r} is the name of a kernel of mmscope's own catalogue",
            fix="give it another name",
        )
    return kernels | own


def _custom(name: str, entry: Mapping[str, object], path: Path) -> CustomKernel:
    if not _NAME.fullmatch(name):
        raise ValueError(f"custom kernel {name!r}: a name is of a-z, 0-9 and single hyphens")
    known = {"why", "suite", "linux", "arches", "base", "fragments"}
    if unknown := sorted(entry.keys() - known):
        raise ValueError(f"custom kernel {name}: unknown key {unknown[0]!r}")

    def text(key: str) -> str:
        value = entry.get(key)
        if not isinstance(value, str) or not value:
            raise ValueError(f"custom kernel {name}: {key} must be a text")
        return value

    def texts(key: str) -> tuple[str, ...]:
        value = entry.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise ValueError(f"custom kernel {name}: {key} must be a list of texts")
        return tuple(value)

    base = entry.get("base", "allnoconfig")
    if base not in ("allnoconfig", "stock"):
        raise ValueError(f"custom kernel {name}: base is allnoconfig or stock, not {base!r}")
    arches = texts("arches")
    if strange := [arch for arch in arches if arch not in PORTS]:
        raise ValueError(f"custom kernel {name}: unknown architecture {strange[0]!r}")
    linux = text("linux")
    if not _SERIES.fullmatch(linux):
        raise ValueError(f"custom kernel {name}: linux must be a series such as 6.1")
    return CustomKernel(
        name=name,
        why=text("why"),
        suite=text("suite"),
        linux=linux,
        arches=arches,
        base="stock" if base == "stock" else "allnoconfig",
        fragments=texts("fragments"),
        catalog=path,
    )
