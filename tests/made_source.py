"""A kernel source of a few files, and a ``make`` that builds it in a moment."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.made_packages import gzipped, make_arm64_image, make_bzimage, make_deb, make_vmlinux

KCONFIG = """\
config LOCALVERSION
\tstring "Local version"
config SMP
\tbool "SMP"
choice
\tprompt "Allocator"
config SLAB
\tbool "SLAB"
config SLUB
\tbool "SLUB"
endchoice
config NUMA
\tbool "NUMA"
\tdepends on SMP
config OBJTOOL
\tbool "objtool"
"""


def make_source_deb(directory: Path, series: str = "6.1", version: str = "6.1.192-2") -> Path:
    """A ``linux-source`` package with a Makefile and a Kconfig."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz") as tar:
        for name, text in {
            "Makefile": "VERSION = 6\n",
            "Kconfig": KCONFIG,
            "Documentation/Kconfig": "",
            "Documentation/mm/numa.rst": "left out\n",
        }.items():
            member = tarfile.TarInfo(f"linux-source-{series}/{name}")
            member.size, member.mtime = len(text), 1_700_000_000
            tar.addfile(member, io.BytesIO(text.encode()))
    files = {f"usr/src/linux-source-{series}.tar.xz": archive.getvalue()}
    return make_deb(directory, f"linux-source-{series}", version, "all", dict(files))


@dataclass
class FakeMake:
    """Does what kbuild does with the targets that a build asks for; a Make."""

    calls: list[list[str]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    drop: frozenset[str] = frozenset()
    """Symbols that Kconfig does not let through."""
    said: tuple[str, ...] = ()
    """What the compiler says before it fails; empty: it does not."""
    interrupt_after: int | None = None
    """Files after which a person presses Ctrl-C."""
    arch: str = "x86_64"

    def __call__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None],
    ) -> int:
        self.calls.append(list(argv))
        self.environments.append(dict(environment))
        tree = Path(next(word for word in argv if word.startswith("O="))[2:])
        if "allnoconfig" in argv:
            self._configure(tree, Path(environment["KCONFIG_ALLCONFIG"]).read_text())
        elif "olddefconfig" in argv:
            self._configure(tree, (tree / ".config").read_text())
        elif "modules_install" in argv:
            where = next(word for word in argv if word.startswith("INSTALL_MOD_PATH="))
            modules = Path(where.partition("=")[2]) / "lib/modules" / self._release(tree)
            modules.mkdir(parents=True)
            (modules / "modules.builtin").write_text("kernel/fs/erofs/erofs.ko\n")
            (modules / "build").symlink_to(tree)
        else:
            return self._compile(tree, log, on_line)
        return 0

    @property
    def targets(self) -> list[str]:
        """The last word of each call."""
        return [call[-1] for call in self.calls]

    def _configure(self, tree: Path, text: str) -> None:
        kept = [
            line
            for line in text.splitlines()
            if not any(line.startswith(f"CONFIG_{symbol}=") for symbol in self.drop)
        ]
        (tree / ".config").write_text("\n".join(kept) + "\n")
        release = tree / "include/config/kernel.release"
        release.parent.mkdir(parents=True, exist_ok=True)
        local = next(line for line in kept if line.startswith("CONFIG_LOCALVERSION="))
        release.write_text(f"6.1.192{local.partition('=')[2].strip(chr(34))}\n")

    def _release(self, tree: Path) -> str:
        return (tree / "include/config/kernel.release").read_text().strip()

    def _compile(self, tree: Path, log: Path, on_line: Callable[[str], None]) -> int:
        log.write_text("the whole output\n")
        for number, name in enumerate(("init/main.o", "mm/slab.o", "mm/page_alloc.o")):
            if number == self.interrupt_after:
                raise KeyboardInterrupt
            if self.said and number == 1:
                for line in self.said:
                    on_line(line)
                return 2
            path = tree / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.touch()
                on_line(f"  CC      {name}")
        image = tree / "arch/x86/boot/bzImage"
        content = make_bzimage(gzipped(make_vmlinux()))
        if self.arch == "arm64":
            image, content = tree / "arch/arm64/boot/Image", make_arm64_image()
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(content)
        return 0
