"""All events of a window that matter to the allocator model, in one order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.trace.events import EventStream

_HARDIRQ, _SOFTIRQ, _NMI = 0x08, 0x10, 0x40
"""TRACE_FLAG_HARDIRQ, TRACE_FLAG_SOFTIRQ and TRACE_FLAG_NMI in an event's common_flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAddresses:
    """Where struct pages lie, to read the probes' pointers."""

    vmemmap_base: int
    struct_page_bytes: int

    def pfn(self, address: int) -> int:
        """The page of a struct page's address."""
        return (address - self.vmemmap_base) % (1 << 64) // self.struct_page_bytes


_TRACEPOINTS = {
    "mm_page_alloc": ("pfn", "order", "gfp_flags", "migratetype"),
    "mm_page_free": ("pfn", "order", "", ""),
    "mm_page_free_batched": ("pfn", "", "", ""),
    "mm_page_alloc_zone_locked": ("pfn", "order", "migratetype", ""),
    "mm_page_pcpu_drain": ("pfn", "order", "migratetype", ""),
    "mm_page_alloc_extfrag": ("pfn", "alloc_order", "fallback_order", ""),
    "mm_compaction_begin": ("zone_start", "", "", ""),
    "mm_compaction_end": ("zone_start", "", "", ""),
    "mm_lru_insertion": ("pfn", "", "", ""),
    "isolate_free_page": ("page", "order", "", ""),
    "isolate_free_page_return": ("taken", "", "", ""),
    "free_one_page": ("pfn", "order", "fpi_flags", ""),
    "split_large_buddy": ("pfn", "order", "fpi_flags", ""),
    "putback_isolated_page": ("page", "order", "migratetype", ""),
    "alloc_pages_bulk": ("gfp", "nid", "nr_pages", ""),
    "alloc_pages_bulk_return": ("populated", "", "", ""),
    "compaction_free": ("page", "", "", ""),
    "free_prepared_range": ("page", "nr_pages", "", ""),
    "drain_zone_pages": ("zone", "", "", ""),
    "drain_pages_zone": ("zone", "event_cpu", "", ""),
    "decay_pcp_high": ("zone", "", "", ""),
    "refresh_cpu_vm_stats": ("", "", "", ""),
    "balance_pgdat": ("pgdat", "", "", ""),
    "balance_pgdat_return": ("", "", "", ""),
    "wakeup_kcompactd": ("pgdat", "", "", ""),
    "mm_vmscan_wakeup_kswapd": ("nid", "", "", ""),
    "mm_vmscan_kswapd_wake": ("nid", "", "", ""),
    "mm_vmscan_kswapd_sleep": ("nid", "", "", ""),
    "unreserve_highatomic": ("force", "", "", ""),
    "unreserve_highatomic_return": ("moved", "", "", ""),
    "set_pgdat_percpu_threshold": ("pgdat", "threshold_of", "", ""),
    "alloc_pages": ("nid", "order", "gfp", ""),
    "get_page_from_freelist": ("alloc_flags", "order", "gfp", ""),
    "set_migratetype_isolate": ("page", "", "", ""),
    "unset_migratetype_isolate": ("page", "", "", ""),
    "move_freepages_block": ("", "", "", ""),
    "move_freepages_block_isolate": ("", "", "", ""),
}
"""Event → the fields that matter, as a, b, c, d of a timeline row."""

NEVER = 1 << 62
_LARGE_KEY = 1 << 20

NAMES = tuple(_TRACEPOINTS)
EVENT_CODES = {name: code for code, name in enumerate(NAMES)}
"""Event → the code in a timeline row."""

_FREE = EVENT_CODES["mm_page_free"]

TIMELINE_ROW = np.dtype(
    [
        ("counter", "<i8"),
        ("code", "u1"),
        ("cpu", "<i2"),
        ("level", "u1"),
        ("pid", "<i4"),
        ("a", "<u8"),
        ("b", "<i8"),
        ("c", "<i8"),
        ("d", "<i8"),
    ]
)


def timeline(stream: EventStream, first: int, last: int) -> NDArray[np.void]:
    """All events that matter with ``first < counter <= last``, one row each, in global order."""
    parts: list[NDArray[np.void]] = []
    ranks: list[NDArray[np.int64]] = []
    for name, fields in _TRACEPOINTS.items():
        if name not in stream:
            continue
        source = stream[name]
        counters = source["counter"].astype(np.int64)
        inside = (counters > first) & (counters <= last)
        source = source[inside]
        rows = np.zeros(len(source), TIMELINE_ROW)
        rows["counter"] = source["counter"]
        rows["code"] = EVENT_CODES[name]
        rows["cpu"] = source["cpu"]
        rows["pid"] = source["pid"]
        rows["level"] = _levels(source["common_flags"])
        for column, wanted in zip("abcd", fields, strict=True):
            if wanted and wanted in (source.dtype.names or ()):
                rows[column] = source[wanted].astype(rows.dtype[column])
        parts.append(rows)
        ranks.append(stream.ranks[stream.full_name(name)][inside])
    if not parts:
        return np.zeros(0, TIMELINE_ROW)
    return np.concatenate(parts)[np.argsort(np.concatenate(ranks), kind="stable")]


def compactions_of(rows: NDArray[np.void]) -> list[tuple[int, int, int]]:
    """Compactions of a timeline: counters of begin and end, and the zone's first page.

    One that does not end goes on to the last event.
    """
    begin, end = EVENT_CODES["mm_compaction_begin"], EVENT_CODES["mm_compaction_end"]
    found: list[tuple[int, int, int]] = []
    open_at: dict[tuple[int, int], int] = {}
    for row in rows[(rows["code"] == begin) | (rows["code"] == end)]:
        key = int(row["pid"]), int(row["a"])
        if row["code"] == begin:
            open_at[key] = int(row["counter"])
        elif key in open_at:
            found.append((open_at.pop(key), int(row["counter"]), key[1]))
    last = int(rows["counter"][-1]) if len(rows) else 0
    return found + [(start, last, zone) for (_, zone), start in open_at.items()]


def contexts_of(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """What ran at each event, as small numbers: a task, or an interrupt level of a CPU.

    A task may move from CPU to CPU; the idle tasks, all of them pid 0, do not.
    """
    cpus, levels = rows["cpu"].astype(np.int64), rows["level"].astype(np.int64)
    pids = rows["pid"].astype(np.int64)
    bound = (levels > 0) | (pids == 0)
    tasks = 4 * (int(cpus.max(initial=0)) + 1)
    keys = np.where(bound, 4 * cpus + levels, tasks + pids)
    if len(keys) and keys.min() >= 0 and keys.max() < _LARGE_KEY:
        used = np.zeros(int(keys.max()) + 1, np.int64)
        used[keys] = 1
        return (np.cumsum(used) - 1)[keys]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Of every row of a timeline: what the same context did before and after."""

    previous: NDArray[np.int64]
    """Row of the event before, or -1."""
    after: NDArray[np.int64]
    """Counter of the last event that was surely over, or -1."""
    before: NDArray[np.int64]
    """Counter of the event after, or ``NEVER``."""


def neighbours(rows: NDArray[np.void], contexts: NDArray[np.int64]) -> Neighbours:
    """Between which events of its own context each event happened.

    A task that is switched in first clears up after the one before, which may free pages: these
    frees come in the midst of what it was about when it was switched out.

    Kernel: kernel/sched/core.c, ``finish_task_switch``.
    """
    counters = rows["counter"].astype(np.int64)
    numbers = np.arange(len(rows))
    earlier = _before_of_same(contexts)
    previous = earlier.copy()
    on_cpu = _before_of_same(rows["cpu"].astype(np.int64))
    switched = (on_cpu < 0) | (contexts[on_cpu] != contexts)
    clears = (rows["code"] == _FREE) & (rows["level"] == 0)
    for cpu in np.unique(rows["cpu"]):
        here = np.flatnonzero(rows["cpu"] == cpu)
        since = np.maximum.accumulate(np.where(switched[here], numbers[here], -1))
        other = np.maximum.accumulate(np.where(clears[here], -1, numbers[here]))
        clearing = since > other
        first = np.full(len(rows), -1)
        first[here[clearing]] = since[clearing]
        goes_on = (earlier >= 0) & (first[earlier] >= 0)
        earlier[goes_on] = previous[first[earlier[goes_on]]]
    before = np.full(len(rows), NEVER, np.int64)
    followed = previous[previous >= 0]
    before[followed] = counters[previous >= 0]
    after = np.where(earlier >= 0, counters[earlier], -1)
    return Neighbours(previous=previous, after=after, before=before)


def _before_of_same(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of every element: the place of the one before with the same key, or -1."""
    small = keys.astype(np.uint16) if keys.max(initial=0) < 1 << 16 else keys
    order = np.argsort(small, kind="stable")
    found = np.full(len(keys), -1, np.int64)
    same = keys[order][1:] == keys[order][:-1]
    found[order[1:][same]] = order[:-1][same]
    return found


def _levels(flags: NDArray[Any]) -> NDArray[np.uint8]:
    levels = np.zeros(len(flags), np.uint8)
    levels[(flags & _SOFTIRQ) != 0] = 1
    levels[(flags & _HARDIRQ) != 0] = 2
    levels[(flags & _NMI) != 0] = 3
    return levels
