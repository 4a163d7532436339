"""One number for the text of all the rules, so that what was compiled of older ones is not used.

Numba keeps compiled code beside the file of the function that was called, and compiles again when
that file changes; not when a file changes whose functions were called from there. It does keep
code apart by what a function closes over. So outermost functions are made by a factory, and close
over the digest of everything that they are made of.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_MODEL = Path(__file__).parent.parent


@cache
def digest(*more: str) -> int:
    """Of every module of ``analysis.model`` and of the files ``more``."""
    state = hashlib.sha256()
    for path in (*sorted(_MODEL.rglob("*.py")), *map(Path, more)):
        state.update(path.read_bytes())
    return int.from_bytes(state.digest()[:7], "big")
