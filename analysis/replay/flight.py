"""Frees that were announced when the guest stopped and had not yet happened.

Some events are recorded before the zone's lock is taken. A guest that is stopped right then has
the event in its trace and not yet the pages on its free lists. Such an event is the last one of
its CPU before the stop, whatever else is traced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.replay.events import operations
from analysis.replay.operation import DELAYED, EVENTS, OPERATION, Op
from analysis.replay.rules import Rules
from analysis.trace import EventStream

_TAIL = 4096
"""The last event of a CPU is looked for among so many of each type."""


def announced(
    stream: EventStream, rules: Rules, geometry: Geometry, *, cut: int
) -> NDArray[np.void]:
    """Frees that may still be on their way at ``cut``, as operations.

    Kernel: mm/page_alloc.c, ``free_one_page`` and (6.1) ``__free_pages_ok``: the probe, or the
        tracepoint in ``free_pages_prepare``, comes before the lock; 6.1 to 7.3. Where
        ``split_large_buddy`` is probed, which runs under the lock, nothing is announced.
    """
    found = []
    for name, counter in _last_events(stream, cut).values():
        if name.partition("/")[2] not in _DELAYED_NAMES:
            continue
        records = operations(stream, rules, geometry, begin=counter - 1, end=cut).records
        if not len(records) or records[0]["op"] not in (Op.GIVE, Op.FREE_AND_GIVE):
            continue
        if not 0 <= records[0]["pfn"] - geometry.first_pfn < geometry.pages:
            continue
        own, others = records[0], records[1:]
        first, last = own["pfn"], own["pfn"] + (1 << int(own["order"]))
        end = others["pfn"] + np.left_shift(np.int64(1), others["order"].astype(np.int64))
        if not ((others["pfn"] < last) & (end > first)).any():
            found.append(own)
    return np.array(found, OPERATION)


def all_free(
    records: NDArray[np.void], free: NDArray[np.bool_], geometry: Geometry
) -> NDArray[np.bool_]:
    """For each operation, whether all of its pages are free in ``free`` (by page index)."""
    index = records["pfn"] - geometry.first_pfn
    spans = zip(index.tolist(), records["order"].tolist(), strict=True)
    return np.array([bool(free[at : at + (1 << order)].all()) for at, order in spans], np.bool_)


_DELAYED_NAMES = frozenset(EVENTS[number] for number in DELAYED)


def _last_events(stream: EventStream, cut: int) -> dict[int, tuple[str, int]]:
    """CPU → name and counter of its last event up to ``cut``."""
    last: dict[int, tuple[str, int]] = {}
    for name, array in stream.arrays.items():
        high = int(np.searchsorted(array["counter"], np.uint64(cut), "right"))
        tail = array[max(0, high - _TAIL) : high]
        for cpu in np.unique(tail["cpu"]).tolist():
            counter = int(tail["counter"][np.flatnonzero(tail["cpu"] == cpu)[-1]])
            if cpu not in last or counter > last[cpu][1]:
                last[cpu] = (name, counter)
    return last
