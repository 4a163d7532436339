"""Name and number a line: /proc/vmstat, and each node's vmstat and numastat.

Kernel: mm/vmstat.c, vmstat_show; drivers/base/node.c, node_read_vmstat and node_read_numastat.
What is counted differs from name to name: pages for most of ``nr_*``, events for the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Fields, Reader

_LINE = re.compile(rf"([^\s:]+) {NUMBER}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    values: Mapping[str, int]
    """In the order printed."""


def parse(text: str, *, source: str = "vmstat") -> Counters:
    """All counters.

    Raises:
        ParseError: a malformed line, or a name twice.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> Counters:
    """As ``parse``, from a reader."""
    values = Fields(reader.source)
    for line in reader:
        match = _LINE.match(line.text)
        if match is None:
            raise reader.error(line, "a name and a number")
        if match[1] in values:
            raise reader.error(line, f"the counter {match[1]!r} once")
        values[match[1]] = reader.value(line, match, 2)
    return Counters(values=values)


def render(counters: Counters) -> str:
    """The text as the kernel prints it."""
    return "".join(f"{name} {value}\n" for name, value in counters.values.items())
