"""One number for the text of all the rules, so that what was compiled of older ones is not used.

Numba keeps compiled code beside the file of the function that was called, and compiles again when
that file changes; not when a file changes whose functions were called from there. It does keep
code apart by what a function closes over. So outermost functions are made by a factory, and close
over the digest of everything that they are made of.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_MODEL = Path(__file__).parent.parent


def _digest(*paths: Path) -> int:
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return int.from_bytes(state.digest()[:6], "big")


# Read when the modules are, so that they are of the same text.
VERSION = _digest(*sorted(_MODEL.rglob("*.py")))
"""Of every module of ``analysis.model``."""


def version_with(*files: str) -> int:
    """The same with more files, the callers' own; to be asked on import."""
    return VERSION ^ _digest(*map(Path, files))
