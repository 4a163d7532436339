"""/proc/pressure/{cpu,memory,io,irq}: time lost to waiting.

Kernel: kernel/sched/psi.c, psi_show. Which kinds of line there are depends on the resource and
the release: ``full`` is missing for cpu before 5.13 and is the only one for irq.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Reader

_AVERAGE = r"([0-9]{1,3}\.[0-9]{2})"
_LINE = re.compile(
    rf"(\w+) avg10={_AVERAGE} avg60={_AVERAGE} avg300={_AVERAGE} total={NUMBER}$", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    kind: str
    """``some``: a task waited; ``full``: every task did."""
    avg10_percent: float
    avg60_percent: float
    avg300_percent: float
    total_us: int


def parse(text: str, *, source: str = "pressure") -> tuple[Pressure, ...]:
    """Lines in the order printed.

    Raises:
        ParseError: a malformed line, or a kind twice.
    """
    reader = Reader(text, source)
    rows: dict[str, Pressure] = {}
    for line in reader:
        match = _LINE.match(line.text)
        if match is None:
            raise reader.error(line, "'KIND avg10=… avg60=… avg300=… total=…'")
        if match[1] in rows:
            raise reader.error(line, "each kind once")
        rows[match[1]] = Pressure(
            kind=match[1],
            avg10_percent=float(match[2]),
            avg60_percent=float(match[3]),
            avg300_percent=float(match[4]),
            total_us=int(match[5]),
        )
    return tuple(rows.values())


def render(rows: Sequence[Pressure]) -> str:
    """The text as the kernel prints it."""
    return "".join(
        f"{row.kind} avg10={row.avg10_percent:.2f} avg60={row.avg60_percent:.2f}"
        f" avg300={row.avg300_percent:.2f} total={row.total_us}\n"
        for row in rows
    )
