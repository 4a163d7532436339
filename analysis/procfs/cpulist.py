"""Lists of CPUs and nodes: ``0-3,8``.

Kernel: lib/vsprintf.c, bitmap_list_string.
"""

from __future__ import annotations

import re

from analysis.errors import ParseError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?$")


def parse(text: str, *, source: str = "cpulist") -> tuple[int, ...]:
    """The numbers in order; an empty line is an empty list.

    Raises:
        ParseError: something that is neither a number nor a range.
    """
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else ():
        match = _RANGE.match(part.strip())
        if match is None:
            raise ParseError(source, 1, text.strip(), "numbers and ranges such as 0-3,8")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(numbers)
