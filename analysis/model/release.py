"""Kernel releases as the rules compare them."""

from __future__ import annotations

import re
from typing import NamedTuple

_LEADING = re.compile(r"(\d+)\.(\d+)")


class Release(NamedTuple):
    """Version and patch level; ``Release(6, 1) < Release(6, 12)``."""

    version: int
    patchlevel: int

    def __str__(self) -> str:
        return f"{self.version}.{self.patchlevel}"


def parse_release(text: str) -> Release:
    """``"6.1.0-37-amd64"`` → ``Release(6, 1)``.

    Raises:
        ValueError: the text does not begin with two numbers.
    """
    match = _LEADING.match(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a kernel release: expected something like 6.1.0-37-amd64"
        )
    return Release(int(match[1]), int(match[2]))
