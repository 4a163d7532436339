"""A kernel's configuration, as ``/boot/config-RELEASE`` has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SET = re.compile(r"CONFIG_(\w+)=(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kconfig:
    values: Mapping[str, str]
    """Option without ``CONFIG_`` → ``y``, ``m``, a number, or a text without its quotes."""

    def on(self, option: str) -> bool:
        """Whether an option is built in."""
        return self.values.get(option) == "y"

    def number(self, option: str) -> int | None:
        """The value of a numeric option; None where it is not set."""
        text = self.values.get(option)
        return None if text is None else int(text, 0)


def parse(text: str, *, source: str = "config") -> Kconfig:
    """All options that are set; lines that set nothing are left out."""
    del source
    values = {}
    for line in text.splitlines():
        if match := _SET.match(line.strip()):
            values[match[1]] = match[2].strip('"')
    return Kconfig(values=values)
