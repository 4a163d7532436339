"""/proc/pagetypeinfo: free blocks by migrate type, and the types of the pageblocks.

Kernel: mm/vmstat.c, pagetypeinfo_show and what it calls. The whole is printed once per node
with memory. A list of 100,000 blocks or more is not counted on and shows as ``>100000``.
The section on mixed blocks appears only with page_owner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, ZONE_ROW, Line, Reader

_ORDER = re.compile(rf"Page block order: +{NUMBER}$")
_PAGES = re.compile(rf"Pages per block: +{NUMBER}$")
_FREE_HEAD = "Free pages count per migrate type at order"
_BLOCK_HEADS = {"Number of blocks type": False, "Number of mixed blocks": True}
_FREE_ROW = re.compile(rf"Node +{NUMBER}, zone +([^\s,]+), type +(\S+) ")
_COUNT = re.compile(rf"(>?) *{NUMBER}(?: |$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeRow:
    node: int
    zone: str
    migratetype: str
    free_blocks: tuple[int, ...]
    """Indexed by order."""
    is_bound: tuple[bool, ...]
    """Indexed by order: the kernel stopped counting there, the number is a lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    node: int
    zone: str
    blocks: Mapping[str, int]
    """Pageblocks by migrate type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pagetypeinfo:
    pageblock_order: int
    pages_per_block: int
    free: tuple[FreeRow, ...]
    blocks: tuple[BlockRow, ...]
    mixed: tuple[BlockRow, ...]
    """Blocks that hold pages of other types; empty without page_owner."""


def parse(text: str, *, source: str = "pagetypeinfo") -> Pagetypeinfo:
    """All nodes in one record.

    Raises:
        ParseError: a malformed line, a section without its header, a zone that lacks a
            migrate type or its pageblocks: an incomplete text is not taken for a small one.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> Pagetypeinfo:
    """As ``parse``, from a reader."""
    page = _Page(reader)
    for line in reader:
        page.take(line)
    return page.finish()


class _Page:
    """The state between two lines."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._order: int | None = None
        self._pages: int | None = None
        self._orders = 0
        self._types: list[str] = []
        self._section = ""
        self._free: dict[tuple[int, str, str], FreeRow] = {}
        self._blocks: dict[bool, dict[tuple[int, str], BlockRow]] = {False: {}, True: {}}

    def take(self, line: Line) -> None:
        text = line.text
        if not text.strip():
            self._section = ""
        elif match := _ORDER.match(text):
            self._check_closed()
            self._order = self._same(line, self._order, int(match[1]))
        elif match := _PAGES.match(text):
            self._pages = self._same(line, self._pages, int(match[1]))
        elif text.startswith(_FREE_HEAD):
            self._take_orders(line)
        elif (head := text[:23].strip()) in _BLOCK_HEADS:
            self._section = head
            self._types = text[23:].split()
            if not self._types or len(set(self._types)) != len(self._types):
                raise self._reader.error(line, "the name of each migrate type, once")
        elif self._section == _FREE_HEAD:
            self._take_free(line)
        elif self._section in _BLOCK_HEADS:
            self._take_blocks(line, self._blocks[_BLOCK_HEADS[self._section]])
        else:
            raise self._reader.error(line, "a header of pagetypeinfo")

    def _same(self, line: Line, old: int | None, new: int) -> int:
        if old is not None and old != new:
            raise self._reader.error(line, f"{old} as on the node before")
        return new

    def _take_orders(self, line: Line) -> None:
        orders = line.text[len(_FREE_HEAD) :].split()
        if not orders or orders != [str(order) for order in range(len(orders))]:
            raise self._reader.error(line, "the orders from 0 on")
        self._section = _FREE_HEAD
        self._orders = self._same(line, self._orders or None, len(orders))

    def _take_free(self, line: Line) -> None:
        head = _FREE_ROW.match(line.text)
        if head is None:
            raise self._reader.error(line, "'Node N, zone NAME, type TYPE' and counts")
        counts: list[int] = []
        bounds: list[bool] = []
        position = head.end()
        text = line.text.rstrip(" ")
        while position < len(text):
            if text[position] == " ":
                position += 1
                continue
            # The mark of a bound stands before the padding, and %6lu fills six columns.
            count = _COUNT.match(text, position)
            if count is None:
                raise self._reader.error(line, f"a count at column {position + 1}")
            counts.append(self._reader.value(line, count, 2))
            bounds.append(bool(count[1]))
            position = count.end()
        key = (int(head[1]), head[2], head[3])
        if len(counts) != self._orders:
            raise self._reader.error(line, f"{self._orders} orders as in the header")
        if key in self._free:
            raise self._reader.error(line, "each migrate type of a zone once")
        self._free[key] = FreeRow(
            node=key[0],
            zone=key[1],
            migratetype=key[2],
            free_blocks=tuple(counts),
            is_bound=tuple(bounds),
        )

    def _take_blocks(self, line: Line, rows: dict[tuple[int, str], BlockRow]) -> None:
        head = ZONE_ROW.match(line.text)
        if head is None:
            raise self._reader.error(line, "'Node N, zone NAME' and counts")
        counts = self._reader.values(line, head.end())
        key = (int(head[1]), head[2])
        if len(counts) != len(self._types):
            raise self._reader.error(line, f"{len(self._types)} migrate types as in the header")
        if key in rows:
            raise self._reader.error(line, "each zone once")
        for migratetype in self._types:
            if (*key, migratetype) not in self._free:
                raise self._reader.error(line, f"free counts of type {migratetype} further up")
        rows[key] = BlockRow(
            node=key[0], zone=key[1], blocks=dict(zip(self._types, counts, strict=True))
        )

    def _check_closed(self) -> None:
        """Every zone and type with free counts has pageblocks too; mixed blocks: all or none."""
        counted = self._blocks[False]
        for node, zone, migratetype in self._free:
            row = counted.get((node, zone))
            if row is None or migratetype not in row.blocks:
                raise self._reader.missing(
                    f"pageblocks of node {node}, zone {zone}, type {migratetype}"
                )
        if self._blocks[True] and self._blocks[True].keys() != counted.keys():
            raise self._reader.missing("mixed blocks of every zone")

    def finish(self) -> Pagetypeinfo:
        self._check_closed()
        if self._order is None or self._pages is None or not self._free:
            raise self._reader.missing("the pageblock order, its pages, and free counts")
        return Pagetypeinfo(
            pageblock_order=self._order,
            pages_per_block=self._pages,
            free=tuple(self._free.values()),
            blocks=tuple(self._blocks[False].values()),
            mixed=tuple(self._blocks[True].values()),
        )


def render(page: Pagetypeinfo) -> str:
    """The text as the kernel prints it, node by node."""
    parts: list[str] = []
    for node in dict.fromkeys(row.node for row in page.free):
        free = [row for row in page.free if row.node == node]
        orders = range(len(free[0].free_blocks))
        parts.append(f"Page block order: {page.pageblock_order}\n")
        parts.append(f"Pages per block:  {page.pages_per_block}\n\n")
        parts.append(f"{_FREE_HEAD:<43} " + "".join(f"{n:>6} " for n in orders) + "\n")
        for row in free:
            parts.append(f"Node {node:>4}, zone {row.zone:>8}, type {row.migratetype:>12} ")
            parts.extend(
                f"{'>' if bound else ''}{count:>6} "
                for count, bound in zip(row.free_blocks, row.is_bound, strict=True)
            )
            parts.append("\n")
        for head, rows in zip(_BLOCK_HEADS, (page.blocks, page.mixed), strict=True):
            mine = [row for row in rows if row.node == node]
            if mine:
                parts.append(_render_blocks(f"{head} ", mine))
    return "".join(parts)


def _render_blocks(head: str, rows: list[BlockRow]) -> str:
    types = "".join(f"{name:>12} " for name in rows[0].blocks)
    lines = [f"\n{head:<23}{types}\n"]
    for row in rows:
        counts = "".join(f"{count:>12} " for count in row.blocks.values())
        lines.append(f"Node {row.node}, zone {row.zone:>8} {counts}\n")
    return "".join(lines)
