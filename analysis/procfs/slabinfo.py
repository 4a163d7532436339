"""/proc/slabinfo: the slab caches.

Kernel: mm/slab_common.c, print_slabinfo_header and cache_show. The columns are those of the
header: SLAB with CONFIG_DEBUG_SLAB adds two sections. SLUB prints zeros for its tunables and
the same number for active and all slabs. Two caches may bear one name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Line, Reader

_VERSION = re.compile(r"slabinfo - version: (\S+(?: \S+)?)$")
_COLUMN = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabCache:
    name: str
    values: tuple[int, ...]
    """By ``Slabinfo.columns``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slabinfo:
    version: str
    """``2.1``, or ``2.1 (statistics)``."""
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and columns of each section; the first has no name."""
    caches: tuple[SlabCache, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all sections: ``active_objs``, ``num_objs``, ``objsize`` …"""
        return tuple(column for _, columns in self.sections for column in columns)


def parse(text: str, *, source: str = "slabinfo") -> Slabinfo:
    """Caches in the order printed.

    Raises:
        ParseError: a header or line that is malformed, or no cache at all.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> Slabinfo:
    """As ``parse``, from a reader."""
    lines = reader.lines
    version = _VERSION.match(lines[0].text)
    if version is None:
        raise reader.error(lines[0], "'slabinfo - version: …'")
    if len(lines) < 2:
        raise reader.missing("the names of the columns")
    sections = _read_header(reader, lines[1])
    columns = sum(len(names) for _, names in sections)
    row = _row_pattern(sections)
    caches: list[SlabCache] = []
    for line in lines[2:]:
        match = row.match(line.text)
        if match is None:
            raise reader.error(line, "a cache with a number for every column of the header")
        values = tuple(reader.value(line, match, group) for group in range(2, columns + 2))
        caches.append(SlabCache(name=match[1], values=values))
    if not caches:
        raise reader.missing("at least one cache")
    return Slabinfo(version=version[1], sections=sections, caches=tuple(caches))


def _read_header(reader: Reader, line: Line) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not line.text.startswith("# name "):
        raise reader.error(line, "'# name' and the names of the columns")
    sections = []
    for index, part in enumerate(line.text.removeprefix("# name").split(" : ")):
        name, _, rest = part.partition("<")
        columns = tuple(_COLUMN.findall("<" + rest))
        if not columns or bool(name.strip()) != bool(index):
            raise reader.error(line, "the names of the columns in sections")
        sections.append((name.strip(), columns))
    names = [column for _, columns in sections for column in columns]
    if len(set(names)) != len(names):
        raise reader.error(line, "each column once")
    return tuple(sections)


def _row_pattern(sections: tuple[tuple[str, tuple[str, ...]], ...]) -> re.Pattern[str]:
    pieces = []
    for name, columns in sections:
        head = f" : {re.escape(name)}" if name else r"(\S.*?)"
        pieces.append(head + f" +{NUMBER}" * len(columns))
    return re.compile("".join(pieces) + " *$")


def render(info: Slabinfo) -> str:
    """The text as the kernel prints it."""
    head = "# name            " + " : ".join(
        f"{name} {_bracketed(columns)}" if name else _bracketed(columns)
        for name, columns in info.sections
    )
    lines = [f"slabinfo - version: {info.version}", head]
    for cache in info.caches:
        values = iter(cache.values)
        parts = []
        for name, columns in info.sections:
            narrow = 4 if name == "tunables" else 6
            widths = [narrow if name or index < 3 else 4 for index in range(len(columns))]
            numbers = " ".join(f"{next(values):>{width}}" for width in widths)
            parts.append(f"{name} {numbers}" if name else numbers)
        lines.append(f"{cache.name:<17} " + " : ".join(parts))
    return "\n".join(lines) + "\n"


def _bracketed(columns: tuple[str, ...]) -> str:
    return " ".join(f"<{column}>" for column in columns)
