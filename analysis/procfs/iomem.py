"""/proc/iomem: what the physical addresses are used for.

Kernel: kernel/resource.c, r_show. A resource inside another is indented by two blanks more than
that one, to five levels. A reader without CAP_SYS_ADMIN sees every address as zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.procfs.scan import Reader

_LINE = re.compile(r"( *)([0-9a-f]{4,16})-([0-9a-f]{4,16}) : (.*)$")
SYSTEM_RAM = "System RAM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    name: str
    base: int
    end: int
    """First address after it."""
    level: int
    """0 at the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iomem:
    resources: tuple[Resource, ...]
    """In the order printed: each is followed by what lies inside it."""

    @property
    def hidden(self) -> bool:
        """Whether the reader was not allowed to see addresses."""
        return all(resource.base == 0 and resource.end == 1 for resource in self.resources)

    def named(self, name: str) -> tuple[Resource, ...]:
        """All resources of a name, at any level."""
        return tuple(resource for resource in self.resources if resource.name == name)

    def inside(self, outer: Resource) -> Iterator[Resource]:
        """The resources right below one (the next level only)."""
        for resource in self.resources[self.resources.index(outer) + 1 :]:
            if resource.level <= outer.level:
                return
            if resource.level == outer.level + 1:
                yield resource


def parse(text: str, *, source: str = "iomem") -> Iomem:
    """All resources.

    Raises:
        ParseError: a malformed line, an indent of more than one level, or an end before the begin.
    """
    reader = Reader(text, source)
    resources: list[Resource] = []
    for line in reader:
        match = _LINE.match(line.text)
        if match is None:
            raise reader.error(line, "'FIRST-LAST : NAME'")
        level, odd = divmod(len(match[1]), 2)
        deepest = resources[-1].level + 1 if resources else 0
        if odd or level > deepest:
            raise reader.error(line, f"an indent of at most {2 * deepest} blanks, an even number")
        base, end = int(match[2], 16), int(match[3], 16) + 1
        if end <= base:
            raise reader.error(line, "a last address that is not below the first")
        resources.append(Resource(name=match[4], base=base, end=end, level=level))
    return Iomem(resources=tuple(resources))
