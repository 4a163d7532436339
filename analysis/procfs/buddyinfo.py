"""/proc/buddyinfo: free blocks per node, zone and order.

Kernel: mm/vmstat.c, frag_show_print. Zones without present pages are not printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.procfs.scan import ZONE_ROW, Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class BuddyRow:
    node: int
    zone: str
    free_blocks: tuple[int, ...]
    """Indexed by order; as many as this kernel has."""


def parse(text: str, *, source: str = "buddyinfo") -> tuple[BuddyRow, ...]:
    """Rows in the order printed.

    Raises:
        ParseError: a malformed line, a zone twice, or rows with different numbers of orders.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> tuple[BuddyRow, ...]:
    """As ``parse``, from a reader."""
    rows: list[BuddyRow] = []
    seen: set[tuple[int, str]] = set()
    for line in reader:
        head = ZONE_ROW.match(line.text)
        if head is None:
            raise reader.error(line, "'Node N, zone NAME' and a count for every order")
        row = BuddyRow(node=int(head[1]), zone=head[2], free_blocks=reader.values(line, head.end()))
        if (row.node, row.zone) in seen:
            raise reader.error(line, "each zone once")
        if rows and len(row.free_blocks) != len(rows[0].free_blocks):
            raise reader.error(line, f"{len(rows[0].free_blocks)} orders as in the first row")
        seen.add((row.node, row.zone))
        rows.append(row)
    return tuple(rows)


def render(rows: Sequence[BuddyRow]) -> str:
    """The text as the kernel prints it."""
    return "".join(
        f"Node {row.node}, zone {row.zone:>8} "
        + "".join(f"{count:>6} " for count in row.free_blocks)
        + "\n"
        for row in rows
    )
