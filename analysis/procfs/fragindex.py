"""debugfs extfrag/{extfrag_index,unusable_index}: fragmentation per node, zone and order.

Kernel: mm/vmstat.c, extfrag_show_print and unusable_show_print: an integer of thousandths,
printed as quotient and remainder by 1000. C truncates towards zero and prints the sign of
both, so -1000 is ``-1.000``, but -500 is ``0.-500`` and -62 is ``0.-62``: the kernel prints
the like when a zone's only free blocks are few and large (its "0 to 1" is not kept).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.procfs.scan import ZONE_ROW, Reader

_VALUE = re.compile(r"(0|-?[1-9][0-9]{0,6})\.([0-9]{3}|-[0-9]{2,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class FragRow:
    node: int
    zone: str
    values_milli: tuple[int, ...]
    """Indexed by order, in thousandths, exact; extfrag -1000: such a request would succeed."""


def parse(text: str, *, source: str = "extfrag_index") -> tuple[FragRow, ...]:
    """Rows in the order printed.

    Raises:
        ParseError: a malformed line, a zone twice, or rows with different numbers of orders.
    """
    reader = Reader(text, source)
    rows: list[FragRow] = []
    seen: set[tuple[int, str]] = set()
    for line in reader:
        head = ZONE_ROW.match(line.text)
        if head is None:
            raise reader.error(line, "'Node N, zone NAME' and an index for every order")
        values: list[int] = []
        for token in line.text[head.end() :].split():
            value = _VALUE.fullmatch(token)
            if value is None or int(value[1]) * int(value[2]) < 0:
                raise reader.error(line, f"an index with three decimals instead of {token!r}")
            values.append(int(value[1]) * 1000 + int(value[2]))
        if not values:
            raise reader.error(line, "an index for every order")
        if rows and len(values) != len(rows[0].values_milli):
            raise reader.error(line, f"{len(rows[0].values_milli)} orders as in the first row")
        row = FragRow(node=int(head[1]), zone=head[2], values_milli=tuple(values))
        if (row.node, row.zone) in seen:
            raise reader.error(line, "each zone once")
        seen.add((row.node, row.zone))
        rows.append(row)
    return tuple(rows)


def render(rows: Sequence[FragRow]) -> str:
    """The text as the kernel prints extfrag_index (unusable_index pads less)."""
    return "".join(
        f"Node {row.node}, zone {row.zone:>8} "
        + "".join(f"{_render_milli(value)} " for value in row.values_milli)
        + "\n"
        for row in rows
    )


def _render_milli(value: int) -> str:
    # C division: quotient towards zero, remainder with the sign of the dividend.
    quotient = abs(value) // 1000 * (1 if value >= 0 else -1)
    return f"{quotient:>2}.{value - quotient * 1000:03}"
