"""A kernel of a person's own, given by the path of its image: laid out as a fetched one is.

What is large stays where it is: the modules are linked to, and the image too where QEMU boots it
as it is. The digests are taken when the files were last seen to change.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError, UsageError
from harness.kernel.cache import (
    Progress,
    cache_root,
    install_directory,
    safe_file_name,
    write_atomically,
)
from harness.kernel.kconfig import parse_kconfig
from harness.kernel.kernel_file import KernelFile, read_kernel_file
from harness.kernel.needs import check_guest
from harness.kernel.own_modules import BUILTIN_NAME, OwnModules, own_modules
from harness.kernel.package import RECORD_NAME, Kernel, is_kernel, load_kernel, render_kernel

PACKAGE = "own"
"""What stands in place of a package's name."""

_KEPT_S = 14 * 86400.0
"""How long a kernel that nobody boots any more is kept."""
_HEADER = re.compile(r"# Linux/(?P<arch>\S+) (?P<series>\d+\.\d+)\S* Kernel Configuration")
_CONFIG_ARCHES = {"x86": ("x86_64", "i386"), "x86_64": ("x86_64",), "i386": ("i386",)}
_SHOWN_SYMBOLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """What --modules and --config name."""

    modules: Path | None = None
    config: Path | None = None

    def check_path(self, kernel: str | None) -> None:
        """Raises UsageError where they are given with a kernel that is not given by its path."""
        for option, value in (("--modules", self.modules), ("--config", self.config)):
            if value is not None:
                raise UsageError(
                    f"{option} {value} goes with a kernel given by its path, "
                    f"not with {kernel or 'the default one'}",
                    fix=f"leave {option} out, or name an image: --kernel ./vmlinux",
                )


NO_FILES = OwnFiles()


def names_file(kernel: str | None) -> bool:
    """Whether ``--kernel`` means a file rather than a name: it is written as a path, or is one."""
    if not kernel:
        return False
    return kernel.startswith(("/", "./", "../", "~")) or Path(kernel).is_file()


def obtain_own(
    kernel: str,
    arch: str | None,
    *,
    files: OwnFiles = NO_FILES,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
) -> Kernel:
    """The kernel in the file ``kernel``, of its own architecture where none is asked for.

    Raises:
        UsageError: it is no kernel, is of another architecture, has no configuration to be found,
            lacks what a guest needs, or its modules are not there.
        DiskFullError.
    """
    found = read_kernel_file(Path(kernel).expanduser())
    if arch not in (None, found.arch):
        raise UsageError(
            f"--kernel {kernel}: it is a kernel for {found.arch}, not for {arch}",
            fix=f"add --arch {found.arch}",
        )
    config = config_of(found, files.config)
    values = parse_kconfig(config, f"the configuration of {kernel}")
    check_guest(values, found.arch, found.release)
    modules = own_modules(found.path, found.release, values, files.modules)
    where = f"modules from {modules.directory}" if modules.directory else "no modules"
    progress(f"{kernel}: {found.arch} {found.release}, {where}")
    directory = cache_root(environment) / "own" / found.arch / _file_name(found, config, modules)

    def build(temporary: Path) -> None:
        progress(f"taking digests of {found.release} and its modules")
        _lay_out(temporary, found, config, modules)

    install_directory(directory, build, is_valid=is_kernel, progress=progress)
    os.utime(directory)
    _forget_old(directory.parent, directory)
    return load_kernel(directory)


def _file_name(found: KernelFile, config: str, modules: OwnModules) -> str:
    digest = hashlib.sha256(found.content)
    digest.update(f"{found.path.absolute()}\0{config}\0{modules.builtin}\0".encode())
    digest.update(f"{modules.directory}\0{modules.state}".encode())
    release = safe_file_name(found.release)
    return f"{release}_{digest.hexdigest()[:16]}"


def _lay_out(directory: Path, found: KernelFile, config: str, modules: OwnModules) -> None:
    image = directory / found.image.name
    if found.image.content == found.content:
        image.symlink_to(found.path.absolute())
    else:
        image.write_bytes(found.image.content)
    (directory / "config").write_text(config, encoding="utf-8")
    if modules.directory is not None:
        (directory / "modules").symlink_to(modules.directory)
    else:
        (directory / "modules").mkdir()
        (directory / "modules" / BUILTIN_NAME).write_text(modules.builtin, encoding="utf-8")
    kernel = Kernel(
        name=found.path.name,
        release=found.release,
        arch=found.arch,
        package=PACKAGE,
        version=found.build,
        directory=directory,
        boot_image=image,
        modules_directory=directory / "modules",
        config_path=directory / "config",
        sha256={
            found.path.name: hashlib.sha256(found.content).hexdigest(),
            "config": hashlib.sha256(config.encode()).hexdigest(),
            "modules": modules.sha256(),
        },
    )
    write_atomically(directory / RECORD_NAME, render_kernel(kernel))


def config_of(found: KernelFile, asked: Path | None) -> str:
    """The configuration: the one asked for, the image's own, or one that lies where it is usual.

    Raises:
        UsageError: there is none, or it is another kernel's.
    """
    if asked is not None:
        text = _read(asked)
        _check_header(text, found, asked)
        if found.config is not None:
            _check_same(text, found.config, asked)
        return text
    if found.config is not None:
        return found.config
    places = _config_places(found)
    for place in places:
        if place.is_file():
            text = _read(place)
            _check_header(text, found, place)
            return text
    raise UsageError(
        f"--kernel {found.path}: its configuration is not known: the image carries none "
        "(CONFIG_IKCONFIG), and none lies beside it",
        details={"looked for": "\n".join(map(str, places))},
        fix="name it: --config FILE",
    )


def _config_places(found: KernelFile) -> list[Path]:
    """Beside the image, or at the top of the build tree that the image lies in."""
    here = found.path.absolute().parent
    places = [here / f"config-{found.release}", here / "config"]
    for top in (here, *here.parents[:3]):
        release = top / "include/config/kernel.release"
        if release.is_file() and release.read_text(encoding="utf-8").strip() == found.release:
            places.append(top / ".config")
    return places


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        parse_kconfig(text, str(path))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, InfrastructureError):
        raise UsageError(
            f"--config {path}: not the configuration of a kernel", fix="give its .config"
        ) from None
    return text


def _check_header(text: str, found: KernelFile, path: Path) -> None:
    """Kernel: scripts/kconfig/confdata.c writes architecture and version into the first lines."""
    header = _HEADER.search(text)
    if header is None:
        return
    series = ".".join(re.findall(r"\d+", found.release)[:2])
    arches = _CONFIG_ARCHES.get(header["arch"], (header["arch"],))
    if header["series"] != series or found.arch not in arches:
        raise UsageError(
            f"--config {path}: it is of Linux {header['series']} for {header['arch']}, the kernel "
            f"is {found.release} for {found.arch}",
            fix="give the configuration that this kernel was built with",
        )


def _check_same(text: str, embedded: str, path: Path) -> None:
    ours, its = parse_kconfig(text, str(path)), parse_kconfig(embedded, "the image")
    other = [
        symbol
        for symbol in sorted(ours.keys() | its.keys())
        if ours.get(symbol, "n") != its.get(symbol, "n")
    ]
    if other:
        raise UsageError(
            f"--config {path}: the kernel carries its own configuration, which differs in "
            f"{len(other)} symbols: {', '.join(other[:_SHOWN_SYMBOLS])}",
            fix="leave --config out",
        )


def _forget_old(directory: Path, kept: Path) -> None:
    """Remove kernels that were last booted long ago: each build of a kernel is another one."""
    for other in directory.iterdir():
        if other != kept and not other.name.startswith("."):
            try:
                old = other.stat().st_mtime < time.time() - _KEPT_S
            except FileNotFoundError:
                continue
            if old:
                shutil.rmtree(other, ignore_errors=True)
