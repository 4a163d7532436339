"""A module of ours for one kernel, built against that kernel's headers.

Kept in the cache by the content of its sources, the kernel and the compiler.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, MissingToolError, UsageError
from harness.kernel.apt import Runner, run_apt
from harness.kernel.cache import Progress, cache_root, install_directory
from harness.kernel.elf import MACHINE, MAGIC, parse_elf
from harness.kernel.headers import Headers, obtain_headers
from harness.kernel.kconfig import is_set, read_kconfig
from harness.kernel.make import Failure, Make, make_environment, run_make
from harness.kernel.package import Kernel
from harness.kernel.toolchain import Toolchain, find_toolchain

MODULE_DIRECTORY = Path(__file__).parents[2] / "guest" / "module"
MODULE_NAME = "mmscope_slab"
ARCHES = ("x86_64", "arm64")

_LAYOUT = 1
"""Raised whenever the same inputs would give another module: part of the cache key."""
_STRIP_LIMIT_S = 60.0
_OVERRIDES = (
    # Type information would need the very vmlinux, and pahole; nothing here reads it.
    "CONFIG_DEBUG_INFO_BTF_MODULES=",
    # Options of compilers newer than the host's: the kernel's own fallbacks serve.
    "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalModule:
    """A module ready to be loaded into a guest of its kernel."""

    name: str
    path: Path
    release: str
    sha256: str


def build_module(
    kernel: Kernel,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    host_root: Path = Path("/"),
    run: Runner = run_apt,
    make: Make = run_make,
    toolchain: Toolchain | None = None,
    directory: Path = MODULE_DIRECTORY,
    headers: Headers | None = None,
) -> ExternalModule:
    """The module for ``kernel``, compiled unless the cache has it.

    Raises:
        UsageError: no modules for this architecture, or the kernel loads none.
        MissingToolError: no compiler; says which package brings it.
        BuildError: no headers came with the kernel, or the compiler refused.
        FetchError (GoneError, NetworkError, VerificationError), DiskFullError.
    """
    if kernel.arch not in ARCHES:
        raise UsageError(
            f"the module is not built for {kernel.arch}", fix=f"use --arch {' or '.join(ARCHES)}"
        )
    _check_config(kernel)
    tools = toolchain or find_toolchain(kernel.arch, modules_only=True, environment=environment)
    cache = cache_root(environment)
    key = _key(kernel, tools, directory)
    target = cache / "modules" / f"{kernel.arch}-{kernel.release}-{key[:16]}"

    def build(temporary: Path) -> None:
        found = headers or obtain_headers(
            kernel, progress=progress, environment=environment, host_root=host_root, run=run
        )
        progress(f"building {MODULE_NAME} for {kernel.release}")
        with tempfile.TemporaryDirectory(prefix="mmscope-module-") as scratch:
            log = temporary / "build.log"
            built = _compile(Path(scratch), directory, found, tools, make, environment, log)
            _strip(built, temporary / built.name, tools)
        _check_module(temporary / built.name, kernel.arch)

    install_directory(target, build, is_valid=_has_module, progress=progress)
    path = target / f"{MODULE_NAME}.ko"
    return ExternalModule(
        name=MODULE_NAME,
        path=path,
        release=kernel.release,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _check_config(kernel: Kernel) -> None:
    config = read_kconfig(kernel.config_path)
    for symbol, what in (
        ("CONFIG_MODULES", "loads no modules"),
        ("CONFIG_DEBUG_FS", "has no debugfs, through which the module is spoken to"),
    ):
        if not is_set(config, symbol):
            raise UsageError(f"{kernel.release} {what} ({symbol} is off)", fix="use another kernel")
    if is_set(config, "CONFIG_MODULE_SIG_FORCE"):
        raise UsageError(
            f"{kernel.release} loads signed modules only (CONFIG_MODULE_SIG_FORCE)",
            fix="use another kernel",
        )


def _compile(
    scratch: Path,
    sources: Path,
    headers: Headers,
    tools: Toolchain,
    make: Make,
    environment: Mapping[str, str],
    log: Path,
) -> Path:
    for path in _sources(sources):
        shutil.copyfile(path, scratch / path.name)
    failure = Failure()
    argv = [
        *("make", "-C", str(headers.source), f"O={headers.build}", f"M={scratch}"),
        *tools.make_variables,
        f"CC={tools.prefix}gcc",
        *_OVERRIDES,
        "modules",
    ]
    status = make(argv, environment=make_environment(environment), log=log, on_line=failure.line)
    built = scratch / f"{MODULE_NAME}.ko"
    if status != 0 or not built.is_file():
        error = failure.error(f"building {MODULE_NAME}", log)
        error.details.pop("log", None)  # it goes with the directory
        error.fix = "make's words say why; guest/module holds the source"
        raise error
    return built


def _strip(built: Path, path: Path, tools: Toolchain) -> None:
    argv = [f"{tools.prefix}strip", "--strip-debug", "-o", str(path), str(built)]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_STRIP_LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise MissingToolError(
            f"{argv[0]} is not installed", fix="apt-get install binutils"
        ) from None
    if done.returncode != 0:
        raise BuildError(f"{argv[0]} failed", details={"said": done.stderr.strip()})


def _check_module(path: Path, arch: str) -> None:
    content = path.read_bytes()
    if content[:4] != MAGIC or parse_elf(content, path.name).machine != MACHINE[arch]:
        raise BuildError(f"make built {path.name}, but not for {arch}")


def _has_module(directory: Path) -> bool:
    return (directory / f"{MODULE_NAME}.ko").is_file()


def _sources(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.iterdir() if path.suffix in {".c", ".h"})
    kbuild = directory / "Kbuild"
    if not found or not kbuild.is_file():
        raise BuildError(
            f"{directory} holds no module to build", fix="restore the directory from the source"
        )
    return [*found, kbuild]


def _key(kernel: Kernel, tools: Toolchain, directory: Path) -> str:
    inputs = [
        _LAYOUT,
        kernel.release,
        kernel.version,
        sorted(kernel.sha256.items()),
        tools.version,
        [(path.name, path.read_text(encoding="utf-8")) for path in _sources(directory)],
        _OVERRIDES,
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
