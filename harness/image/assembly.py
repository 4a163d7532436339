"""The image a guest boots with: an initramfs for its kernel and a shared read-only root.

The two are cached apart. The root depends on architecture and suite, the initramfs on the
kernel, our programs and the root's busybox. Digests recorded when a part was built stand for
it, so that finding an image that is already there reads no large file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, InfrastructureError
from harness.image.cpio import (
    CpioEntry,
    device_entry,
    directory_entry,
    file_entry,
    link_entry,
    with_parents,
    write_cpio,
)
from harness.image.modules import WANTED, Module, ModuleTree, load_order
from harness.image.programs import GUEST_DIRECTORY, PROGRAMS, TOOLS, Programs, build_programs
from harness.image.rootless import build_rootless
from harness.image.userland import Root, build_root, is_root, load_root, root_directory
from harness.kernel.apt import open_root
from harness.kernel.cache import (
    Progress,
    cache_root,
    install_directory,
    read_json_object,
    write_atomically,
)
from harness.kernel.kconfig import read_kconfig
from harness.kernel.needs import guest_modules
from harness.kernel.package import Kernel, port_of
from harness.kernel.sources import read_host

INITRAMFS_NAME = "initramfs.cpio"
RECORD_NAME = "image.json"

_LAYOUT = 1
"""Raised whenever the same inputs would give another initramfs: part of the cache key."""

_INIT_NAME = "init"
_DIRECTORIES = ("dev", "mnt", "proc", "root", "run", "sys", "tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What QEMU gets beside the kernel, and what the manifest says about it."""

    arch: str
    initramfs: Path
    root: Path | None
    """erofs image, to be attached read-only; None for a guest that stays in its initramfs."""
    initramfs_sha256: str
    root_sha256: str
    packages: Mapping[str, str]
    """Package → version in the root."""
    modules: tuple[str, ...]
    """Names of the modules in the initramfs, in load order."""


def build_image(
    kernel: Kernel,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    guest: Path = GUEST_DIRECTORY,
    host_root: Path = Path("/"),
    modules: Sequence[str] = (),
) -> Image:
    """The image for ``kernel``; parts that the cache has are not built again.

    ``modules`` are loaded at boot beside those that every guest has; an image without any is the
    same as ever.

    Raises:
        MissingToolError: a compiler, mkfs.erofs, apt or the keyring is not installed.
        BuildError: a part cannot be built.
        FetchError (NetworkError, VerificationError), DiskFullError.
    """
    cache = cache_root(environment)
    if not port_of(kernel.arch).archived:
        return _rootless(kernel, cache, progress, guest)
    suite = read_host(host_root).suite
    target = root_directory(cache, arch=kernel.arch, suite=suite)
    if is_root(target):
        root = load_root(target)
    else:
        apt = open_root(
            suite, kernel.arch, cache=cache, environment=environment, host_root=host_root
        )
        root = build_root(apt, cache=cache, progress=progress)
    programs = build_programs(kernel.arch, cache=cache, progress=progress, guest=guest)
    scripts = read_scripts(guest / "init")
    return assemble(
        kernel, root, programs, scripts, cache=cache, progress=progress, modules=modules
    )


def _rootless(kernel: Kernel, cache: Path, progress: Progress, guest: Path) -> Image:
    programs = build_programs(kernel.arch, cache=cache, progress=progress, guest=guest)
    initramfs, sha256 = build_rootless(kernel, programs, cache=cache, progress=progress)
    return Image(
        arch=kernel.arch,
        initramfs=initramfs,
        root=None,
        initramfs_sha256=sha256,
        root_sha256="",
        packages={},
        modules=(),
    )


def read_scripts(directory: Path) -> dict[str, bytes]:
    """Path below guest/init → content. ``init`` becomes /init, the others go to /mmscope.

    Raises:
        BuildError: there is no ``init``.
    """
    scripts = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    if _INIT_NAME not in scripts:
        raise BuildError(
            f"{directory / _INIT_NAME} is missing: the guest has nothing to start",
            fix="restore the file from the source tree",
        )
    return scripts


def assemble(
    kernel: Kernel,
    root: Root,
    programs: Programs,
    scripts: Mapping[str, bytes],
    *,
    cache: Path,
    progress: Progress,
    modules: Sequence[str] = (),
) -> Image:
    """Put the initramfs together, unless the cache has it."""
    wanted = (*guest_modules(WANTED, read_kconfig(kernel.config_path)), *modules)
    key = _key(kernel, root, programs, scripts, wanted)
    target = cache / "images" / f"{kernel.arch}-{kernel.release}-{key[:16]}"

    def build(temporary: Path) -> None:
        progress(f"building the initramfs for {kernel.release}")
        loaded = ModuleTree(kernel.modules_directory).closure(wanted)
        names = [name for name in PROGRAMS if name != TOOLS]
        binaries = {name: (programs.directory / name).read_bytes() for name in names}
        entries = initramfs_entries(
            busybox=root.busybox.read_bytes(),
            modules=loaded,
            programs=binaries,
            scripts=scripts,
        )
        archive = write_cpio(entries)
        (temporary / INITRAMFS_NAME).write_bytes(archive)
        record = {
            "sha256": hashlib.sha256(archive).hexdigest(),
            "size_bytes": len(archive),
            "modules": [module.name for module in loaded],
        }
        write_atomically(temporary / RECORD_NAME, json.dumps(record, indent=2) + "\n")

    install_directory(
        target, build, is_valid=lambda path: _read_record(path) is not None, progress=progress
    )
    record = _read_record(target)
    if record is None:
        raise InfrastructureError(f"{target} vanished while it was used", fix="try again")
    sha256, names = record
    return Image(
        arch=kernel.arch,
        initramfs=target / INITRAMFS_NAME,
        root=root.image,
        initramfs_sha256=sha256,
        root_sha256=root.sha256,
        packages=root.packages,
        modules=names,
    )


def initramfs_entries(
    *,
    busybox: bytes,
    modules: Iterable[Module],
    programs: Mapping[str, bytes],
    scripts: Mapping[str, bytes],
) -> list[CpioEntry]:
    """Everything in the initial root, as archive entries."""
    modules = list(modules)
    entries = [
        *(directory_entry(name) for name in _DIRECTORIES),
        device_entry("dev/console", 5, 1),
        device_entry("dev/null", 1, 3, 0o666),
        file_entry("bin/busybox", busybox, executable=True),
        link_entry("bin/sh", "busybox"),
        file_entry("init", scripts[_INIT_NAME], executable=True),
        file_entry("modules/order", load_order(modules).encode()),
    ]
    entries += [file_entry(f"modules/{module.file_name}", module.content) for module in modules]
    for name, content in programs.items():
        entries.append(file_entry(f"mmscope/{name}", content, executable=True))
    for path, content in scripts.items():
        if path != _INIT_NAME:
            executable = content.startswith(b"#!")
            entries.append(file_entry(f"mmscope/{path}", content, executable=executable))
    return with_parents(entries)


def _key(
    kernel: Kernel,
    root: Root,
    programs: Programs,
    scripts: Mapping[str, bytes],
    wanted: Sequence[str],
) -> str:
    inputs = [
        _LAYOUT,
        kernel.arch,
        kernel.release,
        kernel.version,
        sorted(kernel.sha256.items()),
        root.sha256,
        programs.key,
        [(path, hashlib.sha256(content).hexdigest()) for path, content in sorted(scripts.items())],
        wanted,
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _read_record(directory: Path) -> tuple[str, tuple[str, ...]] | None:
    """Digest and modules of a whole initramfs; None when it is not whole."""
    record = read_json_object(directory / RECORD_NAME)
    if record is None:
        return None
    sha256, modules = record.get("sha256"), record.get("modules")
    try:
        size_bytes = (directory / INITRAMFS_NAME).stat().st_size
    except FileNotFoundError:
        return None
    if (
        size_bytes != record.get("size_bytes")
        or not isinstance(sha256, str)
        or not isinstance(modules, list)
    ):
        return None
    return sha256, tuple(str(module) for module in modules)
