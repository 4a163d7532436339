"""What a kernel is compiled with: programs, headers, and the packages that bring them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import BuildError, MissingToolError
from harness.kernel.kconfig import is_set
from harness.kernel.package import host_arch

_QUERY_LIMIT_S = 60.0

_GNU_PREFIX = {
    "x86_64": "x86_64-linux-gnu-",
    "i386": "i686-linux-gnu-",
    "arm64": "aarch64-linux-gnu-",
    "m68k": "m68k-linux-gnu-",
}
_CROSS_PACKAGE = {
    "x86_64": "gcc-x86-64-linux-gnu",
    "i386": "gcc-i686-linux-gnu",
    "arm64": "gcc-aarch64-linux-gnu",
    "m68k": "gcc-m68k-linux-gnu",
}
_PROGRAMS = {"make": "make", "gcc": "gcc"}
"""Programs that every build starts on this host → the package that has them."""

_KERNEL_PROGRAMS = {**_PROGRAMS, "flex": "flex", "bison": "bison", "bc": "bc"}
"""The same where a kernel is built, and not only a module for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A compiler for one architecture, and what it says of itself."""

    arch: str
    prefix: str
    """What the names of its programs begin with; empty for the host's own."""
    version: str

    @property
    def make_variables(self) -> tuple[str, ...]:
        """What ``make`` needs to know of it."""
        variables = [f"ARCH={self.arch}"]
        if self.prefix:
            variables.append(f"CROSS_COMPILE={self.prefix}")
        return tuple(variables)


Which = Callable[[str], str | None]


def find_toolchain(
    arch: str,
    *,
    modules_only: bool = False,
    which: Which = shutil.which,
    machine: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Toolchain:
    """The compiler for ``arch`` on this host; a module needs less of it than a kernel.

    Raises:
        MissingToolError: names every program that is missing, and the packages to install.
    """
    prefix = "" if host_arch(machine) == arch else _GNU_PREFIX[arch]
    programs = _PROGRAMS if modules_only else _KERNEL_PROGRAMS
    missing = {program: package for program, package in programs.items() if which(program) is None}
    if prefix and which(f"{prefix}gcc") is None:
        missing[f"{prefix}gcc"] = _CROSS_PACKAGE[arch]
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise MissingToolError(
            f"to build for {arch}, {', '.join(missing)} must be installed",
            fix=f"apt-get install --no-install-recommends {packages}",
        )
    return Toolchain(arch=arch, prefix=prefix, version=_version(f"{prefix}gcc", environment))


def check_for_config(
    config: Mapping[str, str], *, which: Which = shutil.which, has_header: Callable[[str], bool]
) -> None:
    """Whether the host has what this configuration's own build programs need.

    Raises:
        MissingToolError: names what is missing, and the packages to install.
    """
    missing = {}
    objtool = ("CONFIG_OBJTOOL", "CONFIG_STACK_VALIDATION")
    if any(is_set(config, symbol) for symbol in objtool) and not has_header("gelf.h"):
        missing["gelf.h (for objtool)"] = "libelf-dev"
    signs = ("CONFIG_MODULE_SIG", "CONFIG_SYSTEM_TRUSTED_KEYRING")
    if any(is_set(config, symbol) for symbol in signs) and not has_header("openssl/evp.h"):
        missing["openssl/evp.h (for signatures)"] = "libssl-dev"
    if is_set(config, "CONFIG_DEBUG_INFO_BTF") and which("pahole") is None:
        missing["pahole (for BTF)"] = "dwarves"
    if missing:
        raise MissingToolError(
            f"this configuration cannot be built without {', '.join(missing)}",
            fix=f"apt-get install --no-install-recommends {' '.join(sorted(missing.values()))}",
        )


def host_has_header(name: str) -> bool:
    """Whether the host's compiler finds a header."""
    done = subprocess.run(
        ["gcc", "-E", "-x", "c", "-o", os.devnull, "-"],
        input=f"#include <{name}>\n",
        capture_output=True,
        text=True,
        timeout=_QUERY_LIMIT_S,
        check=False,
    )
    return done.returncode == 0


def _version(compiler: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [compiler, "--version"],
        env={**environment, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=_QUERY_LIMIT_S,
        check=False,
    )
    first = done.stdout.partition("\n")[0].strip()
    if done.returncode != 0 or not first:
        raise BuildError(f"{compiler} does not say its version", details={"said": done.stderr})
    return first
