"""What the tables are: their columns, with type and unit, and the key of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    dtype: str
    """A pandas dtype: ``Int64``, ``Float64``, ``boolean`` or ``category`` (of strings)."""
    unit: str
    """``1`` for plain numbers, the empty string for names."""
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    name: str
    about: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Columns that together name a row."""
    open_ended: bool = False
    """More ``Int64`` columns may follow, named by the kernel."""

    def column(self, name: str) -> Column:
        """The column ``name``; in an open-ended table also one that is not declared."""
        for column in self.columns:
            if column.name == name:
                return column
        if not self.open_ended:
            raise KeyError(name)
        return Column(name=name, dtype="Int64", unit="1", about="as the kernel names it")


def _int(name: str, unit: str, about: str) -> Column:
    return Column(name=name, dtype="Int64", unit=unit, about=about)


def _float(name: str, unit: str, about: str) -> Column:
    return Column(name=name, dtype="Float64", unit=unit, about=about)


def _name(name: str, about: str) -> Column:
    return Column(name=name, dtype="category", unit="", about=about)


_ROUND = _int("round", "1", "number of the sampling round, from 0")
_START = _int("t_ns", "ns", "start of the read, guest's CLOCK_MONOTONIC")
_TIMES = (_ROUND, _START, _int("t_end_ns", "ns", "end of the read"))
_NODE = _int("node", "1", "NUMA node")
_ZONE = _name("zone", "zone as the kernel calls it")
_ORDER = _int("order", "1", "order of the block: 2**order pages")
_FREE = _int("free_blocks", "blocks", "free blocks of this order")
_MIGRATETYPE = _name("migratetype", "migrate type as the kernel calls it")
_FIELD = _name("field", "field as the kernel prints it")


def _table(
    name: str, about: str, key: str, *columns: Column, open_ended: bool = False
) -> TableSchema:
    return TableSchema(
        name=name,
        about=about,
        columns=(*_TIMES, *columns),
        key=("round", *key.split()),
        open_ended=open_ended,
    )


_TABLES = (
    _table(
        "buddyinfo",
        "free blocks; read twice a round, so that equal rows bracket a quiet zone",
        "bracket node zone order",
        _name("bracket", "'before' or 'after' the other readings of the round"),
        _NODE,
        _ZONE,
        _ORDER,
        _FREE,
    ),
    _table(
        "pagetypeinfo",
        "free blocks by migrate type",
        "node zone migratetype order",
        _NODE,
        _ZONE,
        _MIGRATETYPE,
        _ORDER,
        _FREE,
        Column(
            name="is_bound",
            dtype="boolean",
            unit="",
            about="the kernel stopped counting: free_blocks is a lower bound",
        ),
    ),
    _table(
        "pageblocks",
        "pageblocks by migrate type",
        "node zone migratetype",
        _NODE,
        _ZONE,
        _MIGRATETYPE,
        _int("blocks", "pageblocks", "pageblocks of this type"),
    ),
    _table(
        "zoneinfo",
        "fields of each zone",
        "node zone field",
        _NODE,
        _ZONE,
        _FIELD,
        _int("value", "pages", "pages; numa_* count events, start_pfn is a page frame number"),
    ),
    _table(
        "zone_cpus",
        "per-cpu page lists of each zone",
        "node zone cpu field",
        _NODE,
        _ZONE,
        _int("cpu", "1", "cpu number"),
        _FIELD,
        _int("value", "pages", "pages"),
    ),
    _table(
        "node_stats",
        "counters of each node, as zoneinfo has them",
        "node field",
        _NODE,
        _FIELD,
        _int("value", "pages", "pages for most nr_*, KiB for nr_kernel_stack, else events"),
    ),
    _table(
        "slabinfo",
        "slab caches; two caches may bear one name",
        "cache",
        _name("cache", "name of the cache"),
        _int("active_objs", "objects", "objects in use"),
        _int("num_objs", "objects", "objects there is room for"),
        _int("objsize", "bytes", "size of an object with its padding"),
        _int("objperslab", "objects", "objects in a slab"),
        _int("pagesperslab", "pages", "pages in a slab"),
        _int("limit", "objects", "tunable of SLAB, 0 under SLUB"),
        _int("batchcount", "objects", "tunable of SLAB, 0 under SLUB"),
        _int("sharedfactor", "1", "tunable of SLAB, 0 under SLUB"),
        _int("active_slabs", "slabs", "slabs in use; under SLUB the same as num_slabs"),
        _int("num_slabs", "slabs", "slabs"),
        _int("sharedavail", "objects", "of SLAB, 0 under SLUB"),
        open_ended=True,
    ),
    _table(
        "vmstat",
        "counters of the machine",
        "field",
        _FIELD,
        _int("value", "1", "pages for most nr_*, else events"),
    ),
    _table(
        "meminfo",
        "memory of the machine",
        "field",
        _FIELD,
        _int("value", "1", "in the row's unit"),
        _name("unit", "'kB' (1024 bytes); missing where the kernel prints none"),
    ),
    _table(
        "node_vmstat",
        "counters of each node",
        "node field",
        _NODE,
        _FIELD,
        _int("value", "1", "pages for most nr_*, else events"),
    ),
    _table(
        "node_meminfo",
        "memory of each node",
        "node field",
        _NODE,
        _FIELD,
        _int("value", "1", "in the row's unit"),
        _name("unit", "'kB' (1024 bytes); missing where the kernel prints none"),
    ),
    _table(
        "node_numastat",
        "NUMA counters of each node",
        "node field",
        _NODE,
        _FIELD,
        _int("value", "allocations", "allocations since boot"),
    ),
    _table(
        "fragindex",
        "fragmentation indexes from debugfs",
        "index node zone order",
        _name("index", "'unusable' or 'extfrag'"),
        _NODE,
        _ZONE,
        _ORDER,
        _int("value_milli", "1/1000", "the index; extfrag -1000: a request would succeed"),
    ),
    _table(
        "pressure",
        "time lost to waiting",
        "resource kind",
        _name("resource", "'memory', 'cpu' or 'io'"),
        _name("kind", "'some' or 'full'"),
        _float("avg10", "%", "share of the last 10 s"),
        _float("avg60", "%", "share of the last 60 s"),
        _float("avg300", "%", "share of the last 300 s"),
        _int("total_us", "us", "time lost since boot"),
    ),
    _table(
        "kthreads",
        "account of the memory management's threads",
        "thread",
        _name("thread", "name of the thread: 'kswapd0'"),
        _NODE,
        _int("utime_ticks", "ticks", "user time"),
        _int("stime_ticks", "ticks", "system time"),
        _int("run_ns", "ns", "time on a cpu"),
        _int("wait_ns", "ns", "time runnable without a cpu"),
        _int("timeslices", "1", "times it was put on a cpu"),
        _int("voluntary_ctxt_switches", "1", "times it gave the cpu away"),
        _int("nonvoluntary_ctxt_switches", "1", "times the cpu was taken from it"),
    ),
    TableSchema(
        name="marks",
        about="labels set by workloads and the runner",
        columns=(
            _ROUND,
            _int("t_ns", "ns", "when the label arrived, guest's CLOCK_MONOTONIC"),
            _name("label", "'<phase>/<index>/<action>…'"),
        ),
        key=("round", "t_ns", "label"),
    ),
    TableSchema(
        name="rounds",
        about="complete rounds and what they cost",
        columns=(
            _ROUND,
            _int("t_ns", "ns", "start of the first read of the round"),
            _int("t_end_ns", "ns", "end of its last read"),
            Column(
                name="sparse",
                dtype="boolean",
                unit="",
                about="the round read pagetypeinfo and slabinfo too",
            ),
        ),
        key=("round",),
    ),
)

TABLES: Mapping[str, TableSchema] = MappingProxyType({table.name: table for table in _TABLES})
"""All tables there can be, by name. A run has those whose sources it has."""

ALWAYS = frozenset({"marks", "rounds"})
"""Tables that every run has, if only without rows."""
