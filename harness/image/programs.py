"""The guest's own programs, compiled on the host by ``guest/Makefile``.

Cached by the content of the sources and the compiler's version, so that an unchanged tree costs
a hash and not a build.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, MissingToolError
from harness.kernel.cache import Progress, install_directory
from harness.kernel.elf import MACHINE, MAGIC, parse_elf
from harness.kernel.package import debian_arch, host_arch

AGENT = "mmscope-agent"
TOOLS = "mmscope-tools"
"""In place of busybox, in guests that have none; the others do without it."""

PROGRAMS = (
    AGENT,
    TOOLS,
    "mmscope-trace",
    "fallback",
    "files",
    "forks",
    "fragment",
    "hugetlb",
    "loopback",
    "pagecache",
    "pagewalk",
    "pktring",
    "rebind",
    "slabchurn",
    "thp",
    "thrash",
)
"""What guest/Makefile makes; they lie in /mmscope in the guest."""

GUEST_DIRECTORY = Path(__file__).parents[2] / "guest"

_BUILD_LIMIT_S = 600.0
_SOURCE_SUFFIXES = frozenset({".c", ".h"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A C compiler, and the Debian packages that bring it and its static C library."""

    program: str
    packages: str


_NATIVE = Compiler(program="gcc", packages="gcc libc6-dev")
_CROSS: Mapping[str, Compiler] = {
    "x86_64": Compiler(
        program="x86_64-linux-gnu-gcc", packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross"
    ),
    "arm64": Compiler(
        program="aarch64-linux-gnu-gcc", packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    ),
    "i386": Compiler(
        program="i686-linux-gnu-gcc", packages="gcc-i686-linux-gnu libc6-dev-i386-cross"
    ),
    "m68k": Compiler(
        program="m68k-linux-gnu-gcc", packages="gcc-m68k-linux-gnu libc6-dev-m68k-cross"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The static binaries for one architecture; ``key`` names their content."""

    arch: str
    directory: Path
    key: str


def compiler_for(arch: str, *, host: str | None) -> Compiler:
    """The compiler that makes programs for ``arch`` on ``host``, installed or not.

    Raises:
        UsageError: unknown architecture.
    """
    debian_arch(arch)
    return _NATIVE if host == arch else _CROSS[arch]


def choose_compiler(arch: str, *, host: str | None, path: str | None = None) -> str:
    """The C compiler that makes programs for ``arch``; ``path`` replaces ``$PATH``.

    Raises:
        MissingToolError: it is not installed; says which packages bring it.
        UsageError: unknown architecture.
    """
    compiler = compiler_for(arch, host=host)
    if shutil.which(compiler.program, path=path) is None:
        raise MissingToolError(
            f"no C compiler for {arch} guests ({compiler.program})",
            fix=f"apt-get install {compiler.packages}",
        )
    return compiler.program


def build_programs(
    arch: str, *, cache: Path, progress: Progress, guest: Path = GUEST_DIRECTORY
) -> Programs:
    """The programs of ``guest`` for ``arch``, compiled unless the cache has them.

    Raises:
        MissingToolError: no compiler or no make.
        BuildError: the compiler refused, or what it made is not a program for ``arch``.
    """
    compiler = choose_compiler(arch, host=host_arch())
    key = _key(guest, _compiler_version(compiler))
    target = cache / "programs" / f"{arch}-{key[:24]}"

    def build(temporary: Path) -> None:
        progress(f"compiling the guest's programs for {arch}")
        _make(guest, temporary, compiler)
        for path in temporary.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in PROGRAMS:
                path.unlink()
        for name in PROGRAMS:
            _check_program(temporary / name, arch)

    install_directory(target, build, is_valid=_has_programs, progress=progress)
    return Programs(arch=arch, directory=target, key=key)


def _key(guest: Path, compiler: str) -> str:
    digest = hashlib.sha256(compiler.encode())
    # The kernel module is no part of any image: see harness.kernel.external_module.
    paths = [
        path
        for path in guest.rglob("*")
        if path.suffix in _SOURCE_SUFFIXES and path.parent != guest / "module"
    ]
    for path in sorted([*paths, *guest.rglob("Makefile")]):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(guest)} {len(content)}\n".encode())
        digest.update(content)
    project = guest.parent / "pyproject.toml"  # the Makefile compiles its version in
    if project.is_file():
        version = re.search(r"^version = .*$", project.read_text(encoding="utf-8"), re.MULTILINE)
        digest.update(version[0].encode() if version else b"")
    return digest.hexdigest()


def _compiler_version(compiler: str) -> str:
    return _run([compiler, "--version"], "asking the compiler for its version").stdout


def _make(guest: Path, out: Path, compiler: str) -> None:
    # Variables of the caller's own make or shell must not reach this one.
    dropped = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CFLAGS", "CPPFLAGS", "LDFLAGS", "OUT"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    jobs = len(os.sched_getaffinity(0))
    argv = ["make", "-C", str(guest), f"-j{jobs}", f"OUT={out}", f"CC={compiler}", "all"]
    _run(argv, "building the guest's programs", environment)


def _run(
    argv: Sequence[str], what: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BUILD_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise MissingToolError(
            f"{argv[0]} is not installed", fix=f"apt-get install {argv[0]}"
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{what}: not done after {_BUILD_LIMIT_S:g} s") from None
    if done.returncode != 0:
        raise BuildError(
            f"{what} failed",
            details={"argv": " ".join(argv), "output": (done.stdout + done.stderr).strip()},
        )
    return done


def _has_programs(directory: Path) -> bool:
    return all((directory / name).is_file() for name in PROGRAMS)


def _check_program(path: Path, arch: str) -> None:
    if not path.is_file():
        raise BuildError(f"guest/Makefile made no {path.name}", fix="see guest/Makefile")
    content = path.read_bytes()
    if content[:4] != MAGIC or parse_elf(content, path.name).machine != MACHINE[arch]:
        raise BuildError(f"guest/Makefile made {path.name}, but not for {arch}")
