"""Which modules a guest needs, and in which order they load.

The closure is computed from what each module says of itself (``depends``, ``softdep`` and
``alias`` in its .modinfo), because packages ship no modules.dep and there is no depmod for
foreign architectures on the host. Names count ``-`` and ``_`` as the same, as kmod does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import BuildError
from harness.kernel.elf import parse_elf
from harness.kernel.module_file import read_module
from harness.kernel.needs import GUEST_MODULES

WANTED = GUEST_MODULES
"""What every guest needs: its channels and disks, its root, and packet rings as a stimulus."""

_FILE_NAME = re.compile(r"(?P<stem>.+)\.ko(?P<packed>\.xz|\.zst)?$")
_SOFTDEP = re.compile(r"(pre|post|weakdep):")
_ALGORITHM_DIRECTORIES = ("kernel/crypto", "kernel/lib", "kernel/arch")
"""Where the modules lie that soft dependencies name by algorithm (``crc32c``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """What a module's .modinfo says about loading it."""

    name: str
    depends: tuple[str, ...]
    before: tuple[str, ...]
    """Soft dependencies that load first."""
    after: tuple[str, ...]
    """Soft dependencies that load later."""
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module to put into the guest."""

    name: str
    file_name: str
    """Uncompressed, ending in ``.ko``."""
    content: bytes


def normalise(name: str) -> str:
    """The name under which kmod knows a module."""
    return name.replace("-", "_")


def parse_modinfo(section: bytes, source: str) -> ModuleInfo:
    """Read the NUL-separated ``key=value`` strings of a .modinfo section.

    Raises:
        BuildError: a string has no ``=``.
    """
    values: dict[str, list[str]] = {}
    for entry in section.split(b"\0"):
        if not entry:
            continue
        key, equals, value = entry.decode(errors="replace").partition("=")
        if not equals:
            raise BuildError(f"{source}: damaged .modinfo: {key!r} has no value")
        values.setdefault(key, []).append(value)
    before: list[str] = []
    after: list[str] = []
    for softdep in values.get("softdep", []):
        pieces = _SOFTDEP.split(softdep)
        for kind, names in zip(pieces[1::2], pieces[2::2], strict=True):
            if kind == "pre":
                before += names.split()
            elif kind == "post":
                after += names.split()
    depends = [name for text in values.get("depends", []) for name in text.split(",") if name]
    return ModuleInfo(
        name=normalise(values.get("name", [source.partition(".ko")[0]])[0]),
        depends=tuple(normalise(name) for name in depends),
        before=tuple(normalise(name) for name in before),
        after=tuple(normalise(name) for name in after),
        aliases=tuple(normalise(alias) for alias in values.get("alias", [])),
    )


def parse_builtin(text: str) -> frozenset[str]:
    """Names of the modules that modules.builtin lists by path."""
    return frozenset(_stem(line) for line in text.split())


def parse_builtin_aliases(content: bytes) -> frozenset[str]:
    """Aliases of built-in modules, from modules.builtin.modinfo (``module.key=value``)."""
    aliases = set()
    for entry in content.split(b"\0"):
        key, _, value = entry.decode(errors="replace").partition("=")
        if key.endswith(".alias"):
            aliases.add(normalise(value))
    return frozenset(aliases)


class ModuleTree:
    """The content of a kernel's /lib/modules/RELEASE, read as far as it is asked for."""

    def __init__(self, directory: Path) -> None:
        """Raises BuildError when the tree lacks modules.builtin."""
        self._directory = directory
        self._paths: dict[str, Path] = {}
        for path in sorted((directory / "kernel").rglob("*.ko*")):
            if _FILE_NAME.fullmatch(path.name):
                self._paths.setdefault(_stem(path.name), path)
        try:
            text = (directory / "modules.builtin").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BuildError(f"{directory} has no modules.builtin: not a module tree") from None
        self._builtin = parse_builtin(text)
        self._infos: dict[str, ModuleInfo] = {}
        self._contents: dict[str, bytes] = {}
        self._algorithms: dict[str, list[str]] | None = None

    def closure(self, wanted: Iterable[str]) -> list[Module]:
        """``wanted`` and what they need, each after its dependencies; built-ins are left out.

        Raises:
            BuildError: a module is neither there nor built in, or modules need each other.
        """
        order: list[str] = []
        for name in wanted:
            self._visit(normalise(name), (), order)
        return [
            Module(
                name=name,
                file_name=_file_name(self._paths[name]),
                content=self._contents[name],
            )
            for name in order
        ]

    def _visit(self, name: str, needed_by: tuple[str, ...], order: list[str]) -> None:
        if name in order or (name in self._builtin and name not in self._paths):
            return
        if name in needed_by:
            raise BuildError(f"modules need each other: {' → '.join([*needed_by, name])}")
        if name not in self._paths:
            reason = f", which {needed_by[-1]} needs," if needed_by else ""
            raise BuildError(
                f"module {name}{reason} is neither in {self._directory} nor built in",
                fix="choose a kernel flavour that has it (the generic ones do)",
            )
        info = self._info(name)
        chain = (*needed_by, name)
        for dependency in info.depends:
            self._visit(dependency, chain, order)
        for soft in self._soft(info.before):
            if soft not in chain:
                self._visit(soft, chain, order)
        order.append(name)
        for soft in self._soft(info.after):
            self._visit(soft, (), order)

    def _soft(self, names: Iterable[str]) -> Iterator[str]:
        """The modules that soft dependencies mean, as far as there are any."""
        for name in names:
            if name in self._paths:
                yield name
            elif name not in self._builtin and name not in self._builtin_aliases():
                yield from self._providers(name)

    def _builtin_aliases(self) -> frozenset[str]:
        path = self._directory / "modules.builtin.modinfo"
        return parse_builtin_aliases(path.read_bytes()) if path.is_file() else frozenset()

    def _providers(self, alias: str) -> list[str]:
        """The module for an algorithm: the generic one, which runs on every CPU, if there is."""
        if self._algorithms is None:
            self._algorithms = {}
            for name, path in self._paths.items():
                inside = path.relative_to(self._directory).as_posix()
                if inside.startswith(_ALGORITHM_DIRECTORIES):
                    for known in self._info(name).aliases:
                        self._algorithms.setdefault(known, []).append(name)
        found = self._algorithms.get(alias, [])
        generic = [name for name in found if name.endswith("_generic")]
        return (generic or found)[:1]

    def _info(self, name: str) -> ModuleInfo:
        if name not in self._infos:
            path = self._paths[name]
            content = read_module(path)
            section = parse_elf(content, path.name).section(".modinfo")
            if section is None:
                raise BuildError(f"{path}: no .modinfo section: not a kernel module")
            self._contents[name] = content
            self._infos[name] = parse_modinfo(section, path.name)
        return self._infos[name]


def load_order(modules: Iterable[Module]) -> str:
    """The text of /modules/order: one file name a line."""
    return "".join(f"{module.file_name}\n" for module in modules)


def _file_name(path: Path) -> str:
    return path.name.removesuffix(path.suffix) if path.suffix != ".ko" else path.name


def _stem(path: str) -> str:
    match = _FILE_NAME.fullmatch(PurePosixPath(path).name)
    return normalise(match["stem"] if match else PurePosixPath(path).name)
