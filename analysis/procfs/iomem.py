"""/proc/iomem: the tree of physical address ranges.

Kernel: kernel/resource.c, r_show: two blanks of indent a level, at most five levels deep; a
reader without privilege sees every address as zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.procfs.scan import Reader

_ROW = re.compile(r"( *)([0-9a-f]{8,16})-([0-9a-f]{8,16}) : (.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    start: int
    end: int
    """One behind the last byte."""
    name: str
    depth: int
    """0 at the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iomem:
    resources: tuple[Resource, ...]
    """In the order printed: a range before those within it."""

    @property
    def hidden(self) -> bool:
        """Whether the addresses were withheld from the reader."""
        return all(resource.end <= 1 for resource in self.resources)


def parse(text: str, *, source: str = "iomem") -> Iomem:
    """All ranges.

    Raises:
        ParseError: a line that is no range, or a range deeper than one level below the last.
    """
    reader = Reader(text, source)
    resources: list[Resource] = []
    for line in reader:
        match = _ROW.match(line.text)
        if match is None:
            raise reader.error(line, "'START-END : NAME'")
        depth, odd = divmod(len(match[1]), 2)
        deepest = resources[-1].depth + 1 if resources else 0
        if odd or depth > deepest:
            raise reader.error(line, f"an indent of at most {2 * deepest} blanks, in twos")
        start, last = int(match[2], 16), int(match[3], 16)
        if last < start:
            raise reader.error(line, "an end that is not below the start")
        resources.append(Resource(start=start, end=last + 1, name=match[4], depth=depth))
    return Iomem(resources=tuple(resources))
