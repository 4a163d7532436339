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


def changed_since(release: Release, before: Release, after: Release) -> tuple[bool, ...]:
    """Whether a release has a change that ``before`` lacks and ``after`` has.

    ``before`` and ``after`` are neighbours among the compared releases: for a release between them
    both answers come back.
    """
    if release <= before:
        return (False,)
    return (True,) if release >= after else (False, True)


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
