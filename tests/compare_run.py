"""A small two-node run as tables, with hand-made numbers, that claims can be tried on.

Node 0 has DMA32 and an empty Movable zone, node 1 has Normal. Rounds 0 and 1 are the settled
start, 2 to 4 a null run, 5 to 7 a packet ring on node 1: five blocks of order 5 taken, then given
back. Every number is consistent; tests change one and see which claim turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.compare.facts import Facts, Tables
from analysis.model.fragmentation import extfrag_index_milli, free_pages, unusable_index_milli

MARKS = {
    1: "settle/end",
    2: "null/0/before",
    3: "null/1/idle",
    4: "null/2/idle",
    5: "pktring/0/before",
    6: "pktring/1/take/5/5",
    7: "pktring/2/drop/1",
}
DMA32 = {
    "Unmovable": (2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
    "Movable": (0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 100),
}
NORMAL = {
    "Unmovable": (3, 2, 1, 4, 0, 1, 1, 0, 0, 0, 1),
    "Movable": (5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100),
}
NORMAL_AFTER_TAKE = (8, 2, 1, 4, 0, 0, 1, 1, 1, 1, 100)
"""Order 5 gives its one block, order 6 two, order 10 is split for the last two."""
MANAGED = {(0, "DMA32"): 120000, (0, "Movable"): 0, (1, "Normal"): 130000}
WATERMARKS = {
    # pages_min = 4096 kB / 4 kB = 1024, shared 12:13; a quarter of it is the distance.
    (0, "DMA32"): (491, 613, 735),
    (0, "Movable"): (0, 0, 0),
    (1, "Normal"): (532, 665, 798),
}
FACTS = Facts(
    kernel="6.1.0-37-amd64",
    page_size_bytes=4096,
    sysctl={"min_free_kbytes": 4096, "watermark_scale_factor": 10},
    thp=True,
    phase_nodes={"pktring": 1},
)


def total(by_type: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Free blocks of each order, all types together."""
    return tuple(map(sum, zip(*by_type.values(), strict=True)))


@dataclass(slots=True)
class Run:
    """Rows of the tables, to be changed in place before ``tables`` is called."""

    buddyinfo: list[list[object]] = field(default_factory=list)
    pagetypeinfo: list[list[object]] = field(default_factory=list)
    pageblocks: list[list[object]] = field(default_factory=list)
    zoneinfo: list[list[object]] = field(default_factory=list)
    zone_cpus: list[list[object]] = field(default_factory=list)
    fragindex: list[list[object]] = field(default_factory=list)
    marks: list[list[object]] = field(default_factory=list)

    def change(self, table: str, by: int, **where: object) -> None:
        """Adds ``by`` to the number of every row whose columns are as ``where`` says."""
        columns = _COLUMNS[table]
        chosen = [
            row
            for row in getattr(self, table)
            if all(row[columns.index(name)] == value for name, value in where.items())
        ]
        assert chosen, f"no row of {table} has {where}"
        number = columns.index(_NUMBER[table])
        for row in chosen:
            value = row[number]
            assert isinstance(value, int)
            row[number] = value + by

    def tables(self) -> Tables:
        """The frames; every row also has times."""
        frames = {}
        for name, columns in _COLUMNS.items():
            table = pd.DataFrame(getattr(self, name), columns=list(columns))
            later = table["bracket"] == "after" if "bracket" in table else False
            table["t_ns"] = table["round"] * 1_000_000 + later * 500
            table["t_end_ns"] = table["t_ns"] + 100
            frames[name] = table.astype({name: _dtype(table[name]) for name in table})
        return frames


def _dtype(column: pd.Series[int]) -> str:
    """The type that the tables give such a column."""
    if column.name == "is_bound":
        return "boolean"
    return "Int64" if column.dtype.kind == "i" else "category"


_COLUMNS = {
    "buddyinfo": ("round", "bracket", "node", "zone", "order", "free_blocks"),
    "pagetypeinfo": (
        "round", "node", "zone", "migratetype", "order", "free_blocks", "is_bound",
    ),
    "pageblocks": ("round", "node", "zone", "migratetype", "blocks"),
    "zoneinfo": ("round", "node", "zone", "field", "value"),
    "zone_cpus": ("round", "node", "zone", "cpu", "field", "value"),
    "fragindex": ("round", "index", "node", "zone", "order", "value_milli"),
    "marks": ("round", "label"),
}  # fmt: skip
_NUMBER = {
    "buddyinfo": "free_blocks",
    "pagetypeinfo": "free_blocks",
    "zoneinfo": "value",
    "zone_cpus": "value",
    "fragindex": "value_milli",
}


def make_run() -> Run:
    """The run in which every claim holds."""
    run = Run()
    for number in range(8):
        rows = {(0, "DMA32"): total(DMA32), (1, "Normal"): total(NORMAL)}
        if number == 6:
            rows[1, "Normal"] = NORMAL_AFTER_TAKE
        _add_round(run, number, rows)
    run.marks = [[number, label] for number, label in MARKS.items()]
    return run


def _add_round(run: Run, number: int, rows: dict[tuple[int, str], tuple[int, ...]]) -> None:
    for (node, zone), row in rows.items():
        for order, blocks in enumerate(row):
            for bracket in ("before", "after"):
                run.buddyinfo.append([number, bracket, node, zone, order, blocks])
            unusable, extfrag = unusable_index_milli(row, order), extfrag_index_milli(row, order)
            run.fragindex.append([number, "unusable", node, zone, order, unusable])
            run.fragindex.append([number, "extfrag", node, zone, order, extfrag])
        for cpu in (0, 1):
            run.zone_cpus.append([number, node, zone, cpu, "vm stats threshold", 12])
            run.zone_cpus.append([number, node, zone, cpu, "count", 200])
    for (node, zone), managed in MANAGED.items():
        size = managed // 512 * 512
        fields = dict(zip(("min", "low", "high"), WATERMARKS[node, zone], strict=True))
        fields |= {"boost": 0, "managed": managed, "present": size, "spanned": size}
        fields |= {"protection[0]": 0, "protection[1]": 0, "protection[2]": 0}
        if (node, zone) in rows:
            fields["free"] = free_pages(rows[node, zone]) + 7
            run.pageblocks.append([number, node, zone, "Movable", managed // 512])
        run.zoneinfo.extend([number, node, zone, name, value] for name, value in fields.items())
    if number == 5:
        for (node, zone), by_type in {(0, "DMA32"): DMA32, (1, "Normal"): NORMAL}.items():
            for migratetype, counts in by_type.items():
                for order, blocks in enumerate(counts):
                    run.pagetypeinfo.append([number, node, zone, migratetype, order, blocks, False])
