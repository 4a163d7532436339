"""The modules that go with a kernel of a person's own: found, and held against its release."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, UsageError
from harness.kernel.module_file import module_release
from harness.kernel.needs import GUEST_MODULES, module_symbols

BUILTIN_NAME = "modules.builtin"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModules:
    """A module tree, or the names of what is built in where no module is needed."""

    directory: Path | None
    builtin: str
    """The text of modules.builtin for a kernel without a tree."""
    state: str
    """Changes whenever a file of the tree does."""

    def sha256(self) -> str:
        """A digest of every module and its path."""
        digest = hashlib.sha256(self.builtin.encode())
        if self.directory is not None:
            for path in _files(self.directory):
                digest.update(f"{path.relative_to(self.directory)}\0".encode())
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def own_modules(
    kernel: Path, release: str, config: Mapping[str, str], asked: Path | None
) -> OwnModules:
    """The modules of a kernel: those asked for, those found beside it, or none if none is needed.

    Raises:
        UsageError: there is no such tree, it is of another kernel, or modules are needed and none
            were found.
    """
    symbols = {name: f"CONFIG_{symbol}" for name, symbol in module_symbols().items()}
    directory = _asked(asked, release) if asked is not None else _beside(kernel, release)
    if directory is not None:
        _check_release(directory, release)
        return OwnModules(directory=directory, builtin="", state=_state(directory))
    loaded = [name for name in GUEST_MODULES if config.get(symbols[name]) == "m"]
    if loaded:
        raise UsageError(
            f"--kernel {kernel}: its modules are needed, and were not found: {', '.join(loaded)}",
            details={"looked in": "\n".join(map(str, _places(kernel, release)))},
            fix=f"name their directory: --modules …/lib/modules/{release}; "
            f"or build them in ({', '.join(f'{symbols[name]}=y' for name in loaded)})",
        )
    built = [name for name, symbol in symbols.items() if config.get(symbol) == "y"]
    builtin = "".join(f"kernel/{name}.ko\n" for name in built)
    return OwnModules(directory=None, builtin=builtin, state="")


def _asked(asked: Path, release: str) -> Path:
    """The tree that --modules means: itself, or lib/modules/RELEASE below it."""
    if not asked.is_dir():
        raise UsageError(f"--modules {asked}: there is no such directory")
    if (asked / BUILTIN_NAME).is_file() or (asked / "kernel").is_dir():
        return asked.absolute()
    for place in (asked / release, *_below(asked, release)):
        if place.is_dir():
            return place.absolute()
    parents = (asked, *(place.parent for place in _below(asked, release)))
    others = sorted(
        child.parent.name for parent in parents for child in parent.glob(f"*/{BUILTIN_NAME}")
    )
    raise UsageError(
        f"--modules {asked}: no modules of {release} are in it",
        details={"it has those of": ", ".join(others)} if others else {},
        fix=f"name the directory that `make modules_install` made: …/lib/modules/{release}",
    )


def _below(base: Path, release: str) -> tuple[Path, ...]:
    return tuple(top / "lib" / "modules" / release for top in (base, base / "usr"))


def _places(kernel: Path, release: str) -> tuple[Path, ...]:
    """Where modules lie beside a kernel: as installed, or as in a package or mmscope's cache."""
    here = kernel.absolute().parent
    return (*_below(here, release), *_below(here.parent, release), here / "modules")


def _beside(kernel: Path, release: str) -> Path | None:
    for place in _places(kernel, release):
        if (place / BUILTIN_NAME).is_file():
            return place
    return None


def _check_release(directory: Path, release: str) -> None:
    """Raises UsageError if the tree is not whole, or a module of it says another release."""
    if not (directory / BUILTIN_NAME).is_file():
        raise UsageError(
            f"--modules {directory}: it has no {BUILTIN_NAME}",
            fix="name a whole tree, as `make modules_install` makes it",
        )
    some = next(iter(_modules(directory)), None)
    if some is None:
        return
    try:
        built_for = module_release(some)
    except BuildError as error:
        raise UsageError(f"--modules {error.message}", fix=error.fix) from None
    if built_for is not None and built_for != release:
        raise UsageError(
            f"--modules {directory}: they are of {built_for}, the kernel is {release}",
            fix="install the modules of this very build: make modules_install INSTALL_MOD_PATH=…",
        )


def _state(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(directory):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _modules(directory: Path) -> list[Path]:
    return sorted((directory / "kernel").rglob("*.ko*"))


def _files(directory: Path) -> list[Path]:
    return [*_modules(directory), directory / BUILTIN_NAME]
