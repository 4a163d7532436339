"""A kernel that lies in the cache, ready to boot."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InfrastructureError, UsageError

RECORD_NAME = "kernel.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """What an architecture is called in Debian."""

    name: str
    generic_flavour: str
    """The flavour of its kernel that is meant where none is named."""
    archived: bool = True
    """Whether Debian's archive has packages for it: kernels, and programs for the guest's root."""
    last_suite: str | None = None
    """The last suite with kernels for it, where later ones have programs only."""


PORTS: Mapping[str, Port] = {
    "x86_64": Port(name="amd64", generic_flavour="amd64"),
    "arm64": Port(name="arm64", generic_flavour="arm64"),
    "i386": Port(name="i386", generic_flavour="686-pae", last_suite="bookworm"),
    "m68k": Port(name="m68k", generic_flavour="m68k", archived=False),
}
"""mmscope's name of an architecture → Debian's."""

_MACHINE_NAMES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "i386",
    "i686": "i386",
}

_TEXT_FIELDS = ("name", "release", "arch", "package", "version")


def port_of(arch: str) -> Port:
    """Debian's words for ``arch``.

    Raises:
        UsageError: no such architecture here.
    """
    try:
        return PORTS[arch]
    except KeyError:
        raise UsageError(
            f"unknown architecture {arch!r}", fix=f"use one of: {', '.join(PORTS)}"
        ) from None


def host_arch(machine: str | None = None) -> str | None:
    """mmscope's name of the host's architecture; None when it is none of the guests'."""
    return _MACHINE_NAMES.get(machine or platform.machine())


def debian_arch(arch: str) -> str:
    """Debian's name for ``arch``.

    Raises:
        UsageError: no such architecture here.
    """
    return port_of(arch).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel: what it is called, where it came from, and the files to boot it with."""

    name: str
    """As the catalog names it: ``bookworm``, ``bookworm/cloud-amd64``."""
    release: str
    """``uname -r``."""
    arch: str
    """``x86_64``, ``arm64``, ``i386`` or ``m68k``."""
    package: str
    version: str
    directory: Path
    boot_image: Path
    """What QEMU's ``-kernel`` takes: a PVH ELF vmlinux (x86_64, i386), the bzImage of a kernel
    that cannot be entered so (i386), a raw Image (arm64), or an ELF vmlinux (m68k)."""
    modules_directory: Path
    """The tree that the guest would have in /lib/modules/RELEASE."""
    config_path: Path
    sha256: Mapping[str, str]
    """Package file name → digest, checked against the signed index before unpacking."""


def render_kernel(kernel: Kernel) -> str:
    """The text of ``kernel.json``; paths are relative to its directory."""
    record: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    record |= {field: getattr(kernel, field) for field in _TEXT_FIELDS}
    record |= {
        "boot_image": kernel.boot_image.relative_to(kernel.directory).as_posix(),
        "boot_image_bytes": kernel.boot_image.stat().st_size,
        "modules_directory": kernel.modules_directory.relative_to(kernel.directory).as_posix(),
        "config_path": kernel.config_path.relative_to(kernel.directory).as_posix(),
        "sha256": dict(sorted(kernel.sha256.items())),
    }
    return json.dumps(record, indent=2) + "\n"


def load_kernel(directory: Path) -> Kernel:
    """Read and check the record in ``directory``.

    Raises:
        InfrastructureError: the record or a file that it names is missing or damaged.
    """
    path = directory / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {record['schema_version']}, expected {SCHEMA_VERSION}")
        texts = {field: record[field] for field in _TEXT_FIELDS}
        digests = record["sha256"]
        if not isinstance(digests, dict) or not digests:
            raise ValueError("no package digests")
        if not all(isinstance(value, str) for value in [*texts.values(), *digests.values()]):
            raise ValueError("a field is not text")
        kernel = Kernel(
            **texts,
            directory=directory,
            boot_image=directory / record["boot_image"],
            modules_directory=directory / record["modules_directory"],
            config_path=directory / record["config_path"],
            sha256=digests,
        )
        size_bytes = kernel.boot_image.stat().st_size
        if size_bytes != record["boot_image_bytes"]:
            raise ValueError(
                f"{kernel.boot_image.name} has {size_bytes} bytes, "
                f"expected {record['boot_image_bytes']}"
            )
        for needed in (kernel.modules_directory / "modules.builtin", kernel.config_path):
            needed.stat()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"the cached kernel in {directory} is damaged: {error}",
            fix=f"remove {directory}; it is fetched again when next asked for",
        ) from None
    return kernel


def is_kernel(directory: Path) -> bool:
    """Whether a whole kernel lies in ``directory``."""
    try:
        load_kernel(directory)
    except InfrastructureError:
        return False
    return True
