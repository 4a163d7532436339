"""/proc/cmdline: the kernel's parameters.

Kernel: lib/cmdline.c, next_arg: words between blanks, a value may stand in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmdline:
    words: tuple[tuple[str, str | None], ...]
    """Parameter and value in the order given; None where there is no ``=``. Dashes in names are
    underscores, as the kernel compares them."""

    def has(self, name: str) -> bool:
        """Whether a parameter is given, with a value or without."""
        return any(word == name for word, _ in self.words)

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a parameter, in order; one without a value gives an empty text."""
        return tuple(value or "" for word, value in self.words if word == name)

    def last(self, name: str) -> str | None:
        """The value that counts where the last one wins; None: not given."""
        values = self.all(name)
        return values[-1] if values else None


def parse(text: str, *, source: str = "cmdline") -> Cmdline:
    """All parameters up to ``--``, which begins what is meant for init."""
    del source
    return Cmdline(words=tuple(_words(text)))


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    for match in _WORD.finditer(text):
        word = match[0]
        if word == "--":
            return
        name, sign, value = word.partition("=")
        yield name.strip('"').replace("-", "_"), value.strip('"') if sign else None
