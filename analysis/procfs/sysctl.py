"""The small files under /proc/sys: one line, mostly of numbers.

Kernel: kernel/sysctl.c, proc_dointvec and its kin, which put tabs between numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import ParseError

_LISTED = re.compile(r"([\w./-]+?) *= ?(.*)$")
_PATH = re.compile(r"/proc/sys/([^:]+):(.*)$")
_INTEGER = re.compile("-?[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctls:
    """A directory of sysctls; each value as its file has it, without the final newline."""

    source: str
    values: Mapping[str, str]

    def integers(self, name: str) -> tuple[int, ...]:
        """All numbers of one sysctl, at least one.

        Raises:
            ParseError: there is no such sysctl, or it does not consist of numbers.
        """
        text = self.values.get(name, "")
        tokens = text.split()
        if not tokens or not all(_INTEGER.fullmatch(token) for token in tokens):
            raise ParseError(f"{self.source}/{name}", int(name in self.values), text, "numbers")
        return tuple(map(int, tokens))

    def integer(self, name: str) -> int:
        """The one number of a sysctl.

        Raises:
            ParseError: there is no such sysctl, or it is not one number.
        """
        values = self.integers(name)
        if len(values) != 1:
            raise ParseError(f"{self.source}/{name}", 1, self.values[name], "one number")
        return values[0]


def parse(texts: Mapping[str, str], *, source: str = "proc/sys/vm") -> Sysctls:
    """File name → text becomes sysctl → value.

    Raises:
        ParseError: a text does not end with a newline.
    """
    values: dict[str, str] = {}
    for name, text in texts.items():
        if not text.endswith("\n"):
            raise ParseError(f"{source}/{name}", 1, text, "a whole line (cut short?)")
        values[name] = text[:-1]
    return Sysctls(source=source, values=values)


def parse_listing(text: str, *, source: str = "sysctl") -> Sysctls:
    """``sysctl -a``, or ``grep . /proc/sys/…``: names with dots become paths (``vm/swappiness``).

    Lines that are neither (complaints about files that cannot be read) are left out.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        if match := _LISTED.match(line):
            values[match[1].replace(".", "/")] = match[2]
        elif match := _PATH.match(line):
            values[match[1]] = match[2]
    return Sysctls(source=source, values=values)
