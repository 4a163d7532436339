"""/proc/meminfo and each node's meminfo.

Kernel: fs/proc/meminfo.c, meminfo_proc_show; drivers/base/node.c, node_read_meminfo, which
puts ``Node N`` before each line; mm/hugetlb.c for the lines without a unit, which count huge
pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Fields, Reader

_LINE = re.compile(rf"(?:Node +{NUMBER} +)?(\S[^:]*): *{NUMBER}(?: +([A-Za-z]+))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meminfo:
    node: int | None
    """None for the whole machine."""
    values: Mapping[str, int]
    """In the order printed, each in its unit."""
    units: Mapping[str, str]
    """``kB`` (1024 bytes) for most; fields printed without a unit are absent here."""


def parse(text: str, *, source: str = "meminfo") -> Meminfo:
    """All fields.

    Raises:
        ParseError: a malformed line, a field twice, or lines of different nodes.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> Meminfo:
    """As ``parse``, from a reader."""
    node: int | None = None
    values = Fields(reader.source)
    units: dict[str, str] = {}
    for line in reader:
        match = _LINE.match(line.text)
        if match is None:
            raise reader.error(line, "'Name: number', with or without a unit")
        line_node = None if match[1] is None else int(match[1])
        if not values:
            node = line_node
        if line_node != node:
            raise reader.error(line, "the same node as on the first line")
        if match[2] in values:
            raise reader.error(line, f"the field {match[2]!r} once")
        values[match[2]] = reader.value(line, match, 3)
        if match[4] is not None:
            units[match[2]] = match[4]
    return Meminfo(node=node, values=values, units=units)


def render(info: Meminfo) -> str:
    """A text that parses to ``info``; columns as the kernel has them for most lines."""
    head = "" if info.node is None else f"Node {info.node} "
    lines = []
    for name, value in info.values.items():
        unit = info.units.get(name)
        lines.append(f"{head}{name + ':':<15} {value:>8}" + (f" {unit}" if unit else ""))
    return "\n".join(lines) + "\n"
