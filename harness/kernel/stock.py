"""The stock kernels of the catalogue's zoo."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InfrastructureError
from harness.kernel.catalog import CATALOG_PATH, KernelSpec
from harness.kernel.package import PORTS


def stock_kernels(path: Path = CATALOG_PATH) -> list[KernelSpec]:
    """The kernels that the suites of the catalogue name under ``zoo``, in its order.

    Raises:
        InfrastructureError: the file is missing, or an entry says something that has no meaning.
    """
    try:
        catalog = tomllib.loads(path.read_text(encoding="utf-8"))
        return [
            spec
            for suite, entry in catalog.get("suites", {}).items()
            for spec in _specs(suite, entry.get("zoo", {}))
        ]
    except (OSError, AttributeError, ValueError) as error:
        raise InfrastructureError(
            f"{path}: not a kernel catalog: {error}", fix="correct the file, or restore it"
        ) from None


def _specs(suite: str, zoo: dict[str, object]) -> Iterator[KernelSpec]:
    for arch, flavours in zoo.items():
        if arch not in PORTS:
            raise ValueError(f"suites.{suite}.zoo: unknown architecture {arch!r}")
        if not isinstance(flavours, list) or not all(isinstance(name, str) for name in flavours):
            raise ValueError(f"suites.{suite}.zoo.{arch} must be a list of flavours")
        for flavour in flavours:
            yield KernelSpec(suite=suite, flavour=flavour, arch=arch)
