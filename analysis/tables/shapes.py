"""What one text of each source says, as rows of the tables.

Each function takes the record of a parser and gives sheets. The numbers in a sheet are values,
or, when the record was read through a ``SlotReader``, the places of the values in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.errors import BundleError
from analysis.procfs import buddyinfo, fragindex, meminfo, pagetypeinfo, slabinfo, vmstat, zoneinfo
from analysis.procfs.scan import Reader

Label = int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of one table from one text."""

    table: str
    labels: tuple[str, ...]
    """Names of the label columns."""
    columns: tuple[str, ...]
    """Names of the columns that hold numbers."""
    rows: Sequence[tuple[tuple[Label, ...], tuple[int, ...]]]
    """Labels and numbers of each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGrammar:
    """How texts of one source become sheets."""

    read: Callable[[Reader], Any]
    lay: Callable[[Any], Iterator[Sheet]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FragGrammar:
    """The debugfs indexes: their decimals have no single run of digits, so no slots."""

    index: str

    def lay(self, rows: Sequence[fragindex.FragRow]) -> Iterator[Sheet]:
        yield Sheet(
            table="fragindex",
            labels=("index", "node", "zone", "order"),
            columns=("value_milli",),
            rows=[
                ((self.index, row.node, row.zone, order), (value,))
                for row in rows
                for order, value in enumerate(row.values_milli)
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureGrammar:
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGrammar:
    thread: str
    node: int | None
    """From the thread's name: kswapd0 belongs to node 0."""
    file: str


Grammar = TextGrammar | FragGrammar | PressureGrammar | TaskGrammar

_NODE_SOURCE = re.compile(r"node([0-9]+)/(vmstat|numastat|meminfo)")
_TASK_SOURCE = re.compile(r"([^/]+)/(stat|schedstat|status)")
_NODE_THREAD = re.compile(r"(?:kswapd|kcompactd)([0-9]+)")


def grammar_of(name: str) -> Grammar:
    """The grammar of a source of the sampler.

    Raises:
        BundleError: no table is made from such a source; it is not passed over in silence.
    """
    match name:
        case "buddyinfo":
            return TextGrammar(read=buddyinfo.read, lay=lambda rows: _buddyinfo(rows, "before"))
        case "buddyinfo.after":
            return TextGrammar(read=buddyinfo.read, lay=lambda rows: _buddyinfo(rows, "after"))
        case "pagetypeinfo":
            return TextGrammar(read=pagetypeinfo.read, lay=_pagetypeinfo)
        case "zoneinfo":
            return TextGrammar(read=zoneinfo.read, lay=_zoneinfo)
        case "slabinfo":
            return TextGrammar(read=slabinfo.read, lay=_slabinfo)
        case "vmstat":
            return TextGrammar(read=vmstat.read, lay=lambda c: _counters(c, "vmstat", None))
        case "meminfo":
            return TextGrammar(read=meminfo.read, lay=_meminfo)
        case "unusable_index" | "extfrag_index":
            return FragGrammar(index=name.removesuffix("_index"))
    return _numbered_grammar(name)


def _numbered_grammar(name: str) -> Grammar:
    if match := _NODE_SOURCE.fullmatch(name):
        node = int(match[1])
        if match[2] == "meminfo":
            return TextGrammar(read=meminfo.read, lay=_meminfo)
        table = f"node_{match[2]}"
        return TextGrammar(read=vmstat.read, lay=lambda c: _counters(c, table, node))
    directory, _, resource = name.partition("/")
    if directory == "pressure" and resource:
        return PressureGrammar(resource=resource)
    if match := _TASK_SOURCE.fullmatch(name):
        thread = _NODE_THREAD.fullmatch(match[1])
        return TaskGrammar(thread=match[1], node=int(thread[1]) if thread else None, file=match[2])
    raise BundleError(
        f"source {name!r}: no table is made from it",
        fix="use the mmscope release that made the run",
    )


def _buddyinfo(rows: Sequence[buddyinfo.BuddyRow], bracket: str) -> Iterator[Sheet]:
    yield Sheet(
        table="buddyinfo",
        labels=("bracket", "node", "zone", "order"),
        columns=("free_blocks",),
        rows=[
            ((bracket, row.node, row.zone, order), (count,))
            for row in rows
            for order, count in enumerate(row.free_blocks)
        ],
    )


def _pagetypeinfo(page: pagetypeinfo.Pagetypeinfo) -> Iterator[Sheet]:
    yield Sheet(
        table="pagetypeinfo",
        labels=("node", "zone", "migratetype", "order", "is_bound"),
        columns=("free_blocks",),
        rows=[
            ((row.node, row.zone, row.migratetype, order, bound), (count,))
            for row in page.free
            for order, (count, bound) in enumerate(zip(row.free_blocks, row.is_bound, strict=True))
        ],
    )
    yield Sheet(
        table="pageblocks",
        labels=("node", "zone", "migratetype"),
        columns=("blocks",),
        rows=[
            ((row.node, row.zone, migratetype), (blocks,))
            for row in page.blocks
            for migratetype, blocks in row.blocks.items()
        ],
    )


def _zoneinfo(info: zoneinfo.Zoneinfo) -> Iterator[Sheet]:
    yield Sheet(
        table="zoneinfo",
        labels=("node", "zone", "field"),
        columns=("value",),
        rows=[
            ((zone.node, zone.zone, field), (value,))
            for zone in info.zones
            for field, value in zone.fields.items()
        ],
    )
    yield Sheet(
        table="zone_cpus",
        labels=("node", "zone", "cpu", "field"),
        columns=("value",),
        rows=[
            ((zone.node, zone.zone, cpu.cpu, field), (value,))
            for zone in info.zones
            for cpu in zone.cpus
            for field, value in cpu.fields.items()
        ],
    )
    yield Sheet(
        table="node_stats",
        labels=("node", "field"),
        columns=("value",),
        rows=[
            ((node, field), (value,))
            for node, stats in info.node_stats.items()
            for field, value in stats.items()
        ],
    )


def _slabinfo(info: slabinfo.Slabinfo) -> Iterator[Sheet]:
    yield Sheet(
        table="slabinfo",
        labels=("cache",),
        columns=info.columns,
        rows=[((cache.name,), cache.values) for cache in info.caches],
    )


def _counters(counters: vmstat.Counters, table: str, node: int | None) -> Iterator[Sheet]:
    at: tuple[Label, ...] = () if node is None else (node,)
    yield Sheet(
        table=table,
        labels=("field",) if node is None else ("node", "field"),
        columns=("value",),
        rows=[((*at, field), (value,)) for field, value in counters.values.items()],
    )


def _meminfo(info: meminfo.Meminfo) -> Iterator[Sheet]:
    at: tuple[Label, ...] = () if info.node is None else (info.node,)
    yield Sheet(
        table="meminfo" if info.node is None else "node_meminfo",
        labels=(*(() if info.node is None else ("node",)), "field", "unit"),
        columns=("value",),
        rows=[
            ((*at, field, info.units.get(field)), (value,)) for field, value in info.values.items()
        ],
    )
