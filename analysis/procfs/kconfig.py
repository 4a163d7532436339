"""A kernel's configuration, as ``/boot/config-RELEASE`` has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import ParseError

_SET = re.compile(r"CONFIG_(\w+)=(.*)$")
_MENU_END = re.compile(r"# end of (.+)$")
_FIRST_AND_LAST = ("General setup", "Kernel hacking")
"""Menus of every kernel since they end with a comment (5.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kconfig:
    values: Mapping[str, str]
    """Option without ``CONFIG_`` → ``y``, ``m``, a number, or a text without its quotes."""

    def on(self, option: str) -> bool:
        """Whether an option is built in."""
        return self.values.get(option) == "y"

    def number(self, option: str) -> int | None:
        """The value of a numeric option; None where it is not set.

        Raises:
            ParseError: it has another value.
        """
        text = self.values.get(option)
        try:
            return None if text is None else int(text, 0)
        except ValueError:
            raise ParseError("config", 0, f"CONFIG_{option}={text}", "a number") from None


def parse(text: str, *, source: str = "config") -> Kconfig:
    """All options that are set; lines that set nothing are left out.

    Raises:
        ParseError: no option is set, or the file has lost its begin or its end: what is not in it
            would pass for what is off.
    """
    values = {}
    ended = set()
    for line in text.splitlines():
        if match := _SET.match(line.strip()):
            values[match[1]] = match[2].strip('"')
        elif match := _MENU_END.match(line.strip()):
            ended.add(match[1])
    if not values:
        raise ParseError(source, 0, text[:40], "CONFIG_NAME=value")
    for menu in _FIRST_AND_LAST:
        if ended and menu not in ended:
            raise ParseError(source, 0, "", f"a whole file, with '# end of {menu}' (cut short?)")
    return Kconfig(values=values)
