"""What a kernel may be called, and which kernels the cache holds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError, UsageError
from harness.kernel.package import RECORD_NAME, Kernel, debian_arch, load_kernel, port_of

CATALOG_PATH = Path(__file__).parents[2] / "kernel-configs" / "catalog.toml"

_RELEASE = re.compile(r"(?P<series>\d+\.\d+)[^-]*(?:-\d[^-]*)?-(?P<flavour>[a-z\d][\w.+~-]*)")
_FLAVOUR = re.compile(r"[a-z0-9][a-z0-9.+~-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSpec:
    """A kernel to be resolved through the package index of a suite."""

    suite: str
    flavour: str
    """What follows ``linux-image-``: a flavour, or a release."""
    arch: str

    @property
    def name(self) -> str:
        """The shortest spec that means this kernel."""
        generic = self.flavour == port_of(self.arch).generic_flavour
        return self.suite if generic else f"{self.suite}/{self.flavour}"

    @property
    def package(self) -> str:
        """The package to start from, usually a meta package."""
        return f"linux-image-{self.flavour}"


def known_suites(path: Path = CATALOG_PATH) -> list[str]:
    """The suites of the catalog file, in its order.

    Raises:
        InfrastructureError: the file is missing or is not a catalog.
    """
    try:
        catalog = tomllib.loads(path.read_text(encoding="utf-8"))
        suites = catalog["suites"]
        return list(suites.keys())
    except (OSError, KeyError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise InfrastructureError(
            f"{path}: not a kernel catalog: {error}", fix="restore the file from the source tree"
        ) from None


def parse_spec(
    spec: str | None, arch: str, *, host_suite: str, suites: Sequence[str], cached: Sequence[str]
) -> KernelSpec:
    """What ``SUITE``, ``SUITE/FLAVOUR`` or nothing means for ``arch``.

    Nothing means the host's own suite, or the last one that has kernels for ``arch``; ``suites``
    are in the order of their releases.

    ``cached`` are the releases in the cache; they serve the error message only.

    Raises:
        UsageError: the suite or the architecture is unknown, or the flavour is not a name.
    """
    port = port_of(arch)
    generic = port.generic_flavour
    if spec is None:
        own = host_suite
        if port.last_suite is not None and host_suite not in _to(port.last_suite, suites):
            own = port.last_suite
        return KernelSpec(suite=own, flavour=generic, arch=arch)
    suite, slash, flavour = spec.partition("/")
    if suite not in {*suites, host_suite}:
        raise UsageError(
            f"unknown kernel {spec!r}",
            details={
                "suites": ", ".join(suites),
                f"cached for {arch}": ", ".join(cached) or "none",
            },
            fix="name a suite, SUITE/FLAVOUR (bookworm/cloud-amd64) or a cached release",
        )
    if slash and not _FLAVOUR.fullmatch(flavour):
        raise UsageError(
            f"{flavour!r} in {spec!r} is not a kernel flavour",
            fix=f"write a flavour such as {generic} or rt-{generic} after the slash",
        )
    return KernelSpec(suite=suite, flavour=flavour or generic, arch=arch)


def kernels_directory(cache: Path, arch: str) -> Path:
    """Where the kernels of ``arch`` lie, one directory each."""
    return cache / "kernels" / arch


def list_cached(cache: Path, arch: str | None = None) -> list[Kernel]:
    """The whole kernels in the cache, by architecture and release; damaged ones are left out.

    Raises:
        UsageError: unknown architecture.
    """
    if arch is not None:
        debian_arch(arch)
    kernels = []
    for record in (cache / "kernels").glob(f"{arch or '*'}/*/{RECORD_NAME}"):
        if record.parent.name.startswith("."):
            continue
        try:
            kernels.append(load_kernel(record.parent))
        except InfrastructureError:
            continue
    return sorted(kernels, key=lambda kernel: (kernel.arch, _natural(kernel.directory.name)))


def find_cached(cache: Path, release: str, arch: str) -> Kernel | None:
    """The cached kernel of a release; of several package versions, the newest, and of several
    builds of one version, the last."""
    found = [kernel for kernel in list_cached(cache, arch) if kernel.release == release]
    return latest(found)


def latest(kernels: Iterable[Kernel]) -> Kernel | None:
    """The kernel of the newest package version; of several builds of one version, the last."""
    return max(kernels, key=_age, default=None)


def releases_like(release: str, releases: Iterable[str]) -> list[str]:
    """Those of ``releases`` of the same series and flavour, without itself, newest first.

    ``5.10.0-45-arm64`` is like ``5.10.0-46-arm64``; ``5.10.0-46-cloud-arm64`` and
    ``6.1.0-0.deb11.44-arm64`` are not.
    """
    wanted = _RELEASE.fullmatch(release)
    if wanted is None:
        return []
    matches = (_RELEASE.fullmatch(other) for other in releases if other != release)
    like = [match[0] for match in matches if match and match.groups() == wanted.groups()]
    return sorted(like, key=_natural, reverse=True)


def _to(last: str, suites: Sequence[str]) -> Sequence[str]:
    return suites[: suites.index(last) + 1] if last in suites else ()


def _age(kernel: Kernel) -> tuple[tuple[tuple[int, int, str], ...], int]:
    return _natural(kernel.version), (kernel.directory / RECORD_NAME).stat().st_mtime_ns


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", text)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)
