"""The headers that modules for a kernel are built against, stock or our own.

A stock kernel's come in three packages: what the flavour's configuration made, what all flavours
have in common, and kbuild's programs, which run on the host and are of its architecture. They
are fetched and verified as kernels are, and unpacked in the cache; nothing is installed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import BuildError, FetchError, GoneError, NetworkError, VerificationError
from harness.kernel.apt import AptRoot, Deb, Runner, open_root, run_apt
from harness.kernel.build import BUILD_RECORD
from harness.kernel.cache import (
    Progress,
    cache_root,
    install_directory,
    read_json_object,
    safe_file_name,
)
from harness.kernel.elf import MAGIC
from harness.kernel.module_build import MODULE_BUILD
from harness.kernel.package import Kernel, host_arch
from harness.kernel.source_tree import load_source
from harness.kernel.unpack import unpack_deb

_IMAGE = re.compile(r"linux-(?:image|binary)-\d")
_PROGRAMS_AT = ("usr", "lib")
_SOURCES_AT = ("usr", "src")
_LIBC_AT = "libc"
_LIBC_FILES = re.compile(r"(?:libc\.so\.6|libm\.so\.6|ld-linux[\w.-]*\.so\.\d)")
_WRAPPER = """\
#!/bin/sh
# The program is linked against a newer C library than this host has.
here=$(dirname "$0")
exec "$here/{libc}/{loader}" --library-path "$here/{libc}" "$here/{name}" "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Where a module's ``make`` finds the kernel: ``make -C source O=build``."""

    source: Path
    build: Path


def obtain_headers(
    kernel: Kernel,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    host_root: Path = Path("/"),
    run: Runner = run_apt,
) -> Headers:
    """The headers of ``kernel``, fetched unless the cache has them.

    Raises:
        BuildError: a kernel of one's own that came without headers, or one built before they
            were kept.
        GoneError: the suite has no headers of this release any more.
        NetworkError, VerificationError, FetchError, DiskFullError, MissingToolError.
    """
    cache = cache_root(environment)
    if (kernel.directory / BUILD_RECORD).is_file():
        return _of_custom(kernel, cache)
    if not _IMAGE.match(kernel.package):
        raise BuildError(
            f"modules cannot be built for {kernel.name}: it is no kernel of a package, and no "
            f"headers came with it",
            fix="use a stock kernel or one of kernel-configs/catalog.toml",
        )
    directory = (
        cache / "headers" / f"{kernel.arch}-{kernel.release}_{safe_file_name(kernel.version)}"
    )

    def build(temporary: Path) -> None:
        _fetch(kernel, temporary, cache, progress, environment, host_root, run)

    install_directory(
        directory, build, is_valid=lambda path: _find(path, kernel) is not None, progress=progress
    )
    found = _find(directory, kernel)
    if found is None:
        raise BuildError(f"the headers of {kernel.release} are not laid out as expected")
    return found


def _of_custom(kernel: Kernel, cache: Path) -> Headers:
    build = kernel.directory / MODULE_BUILD
    again = f"build the kernel again: mmscope kernels build {kernel.name} --arch {kernel.arch}"
    if not (build / "Module.symvers").is_file():
        raise BuildError(
            f"{kernel.name} was built without keeping what modules need",
            details={"missing": build},
            fix=f"remove {kernel.directory}, then {again}",
        )
    name = (read_json_object(kernel.directory / BUILD_RECORD) or {}).get("source")
    for path in sorted((cache / "sources").glob(f"{kernel.package}_*")):
        source = load_source(path)
        if source is not None and source.file_name == name:
            return Headers(source=source.directory, build=build)
    raise BuildError(
        f"the source that {kernel.name} was built from is not in the cache any more",
        details={"package": name},
        fix=again,
    )


def _find(directory: Path, kernel: Kernel) -> Headers | None:
    build = directory.joinpath(*_SOURCES_AT, f"linux-headers-{kernel.release}")
    if not (build / "Module.symvers").is_file():
        return None
    sources = sorted(directory.joinpath(*_SOURCES_AT).glob("linux-headers-*-common*"))
    if len(sources) != 1 or not (sources[0] / "Makefile").is_file():
        return None
    return Headers(source=sources[0], build=build)


def _fetch(
    kernel: Kernel,
    directory: Path,
    cache: Path,
    progress: Progress,
    environment: Mapping[str, str],
    host_root: Path,
    run: Runner,
) -> None:
    suite = kernel.name.partition("/")[0]
    host = host_arch()
    if host is None:
        raise BuildError(
            f"no suite has kbuild's programs for a host of {platform.machine()}",
            fix="build on a host of x86_64 or arm64",
        )

    def root_of(arch: str) -> AptRoot:
        root = open_root(
            suite, arch, cache=cache, environment=environment, host_root=host_root, run=run
        )
        root.refresh(progress)
        return root

    root, host_packages = root_of(kernel.arch), root_of(host)
    flavour = _show(root, f"linux-headers-{kernel.release}", kernel)
    wanted = re.findall(r"linux-(?:headers|kbuild|base)-\d[^ ,(|]*", flavour.depends)
    common = next((name for name in wanted if name.startswith("linux-headers-")), "")
    kbuild = next((name for name in wanted if name.startswith("linux-kbuild-")), "")
    debs = [
        (root, flavour),
        (root, _show(root, common, kernel)),
        (host_packages, _show(host_packages, kbuild, kernel)),
    ]
    for where, deb in debs:
        _unpack(where, deb, directory, progress, kernel)
    if newer := _needing_newer_libc(directory):
        libc = _show(host_packages, "libc6", kernel)
        _unpack(host_packages, libc, directory, progress, kernel)
        for program in newer:
            _wrap(program, directory / _LIBC_AT)


def _show(root: AptRoot, name: str, kernel: Kernel) -> Deb:
    """Raises GoneError when the suite has no such package."""
    found = root.show([name]).get(name) if name else None
    if found is None:
        others = [other for other in root.names("linux-headers-") if other[-1].isalnum()]
        raise GoneError(
            f"{root.suite} has no {name or 'complete set of headers'}: "
            f"no module can be built for {kernel.release}",
            details={"it has": ", ".join(others) or "no headers"},
            fix="fetch the newest kernel of the suite (mmscope kernels fetch) and use that",
        )
    return found


def _unpack(root: AptRoot, deb: Deb, directory: Path, progress: Progress, kernel: Kernel) -> None:
    try:
        (path,) = root.download([deb], progress)
    except (NetworkError, VerificationError):
        raise
    except FetchError as error:
        error.details["wanted for"] = f"modules for {kernel.release}"
        raise
    progress(f"unpacking {deb.package} {deb.version}")
    unpack_deb(path, directory, _place)
    root.discard([deb])


def _place(path: PurePosixPath) -> PurePosixPath | None:
    if _LIBC_FILES.fullmatch(path.name) and path.parent.name.endswith("-linux-gnu"):
        return PurePosixPath(_LIBC_AT, path.name)
    if path.parts[:2] == _SOURCES_AT:
        return path
    if path.parts[:2] == _PROGRAMS_AT and path.parts[2:3] and "linux-kbuild" in path.parts[2]:
        return path
    return None


def _needing_newer_libc(directory: Path) -> list[Path]:
    """Programs of the host's kind that want a C library newer than the host's."""
    version = re.search(r"(\d+)\.(\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    has = (int(version[1]), int(version[2])) if version else (0, 0)
    found = []
    for path in directory.joinpath(*_PROGRAMS_AT).rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if content[:4] != MAGIC:
            continue
        wants = {
            (int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)
        }
        if wants and max(wants) > has:
            found.append(path)
    return found


def _wrap(program: Path, libc: Path) -> None:
    """Put a script in the program's place that starts it with the C library in ``libc``."""
    loaders = sorted(libc.glob("ld-linux*"))
    if not loaders:
        raise BuildError(f"{program.name} needs a newer C library, which brought no loader")
    real = program.with_name(f".{program.name}.real")
    shutil.move(program, real)
    text = _WRAPPER.format(
        libc=os.path.relpath(libc, program.parent), loader=loaders[0].name, name=real.name
    )
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
