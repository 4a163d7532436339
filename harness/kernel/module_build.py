"""What a module is built against: the part of an object tree that outlives the build.

Kernel: Documentation/kbuild/modules.rst. A module is compiled with the kernel's own makefiles and
headers, which stay in the source, and with what its configuration made of them: generated headers,
the symbols it exports, and kbuild's programs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

MODULE_BUILD = "module-build"
"""Below the directory of a custom kernel: what ``make O=`` is pointed at."""

_FILES = (".config", "Makefile", "Module.symvers", "System.map")
_DIRECTORIES = ("include", "scripts")
_PROGRAMS = ("tools/objtool/objtool", "tools/bpf/resolve_btfids/resolve_btfids")
_LEFT_OUT = shutil.ignore_patterns("*.o", "*.cmd", "*.a", "*.order", "built-in.*")


def collect_module_build(tree: Path, directory: Path) -> None:
    """Copy from the object tree ``tree`` what modules need to ``directory``."""
    directory.mkdir()
    for name in (*_FILES, *_PROGRAMS):
        if (tree / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, directory / name)
    generated = [path.relative_to(tree) for path in sorted((tree / "arch").glob("*/include"))]
    for part in (*map(Path, _DIRECTORIES), *generated):
        if (tree / part).is_dir():
            shutil.copytree(tree / part, directory / part, ignore=_LEFT_OUT, symlinks=True)
