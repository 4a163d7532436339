"""How fast exact replay is: operations built from typed events, and applied to the free lists.

The window is made: refills and drains of a per-cpu list, pages handed out and given back, single
pages and blocks in the shares of a real anonymous load, on 2 GiB of memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry, Zone
from analysis.memory.state import FreeState
from analysis.model.release import Release
from analysis.replay.engine import Arrays, apply
from analysis.replay.events import operations
from analysis.replay.exact import start, warm_up
from analysis.replay.rules import rules_of
from analysis.trace import EventStream
from analysis.trace.counter import Readings

PAGES = 1 << 19
MAX_ORDER, PAGEBLOCK_ORDER = 10, 9
BATCH = 63
ROUNDS = 8000
MOMENTS = 200

T = TypeVar("T")
Events = dict[str, NDArray[np.void]]


def run() -> list[tuple[str, float, str]]:
    """Rows of name, value, unit."""
    stream = made_stream(made_events())
    geometry = made_geometry()
    rules = rules_of(Release(6, 1))
    arrays = fresh(geometry)
    warm_up(arrays)
    found, build_s = best(
        lambda: operations(stream, rules, geometry, begin=0, end=1 << 62), repeat=3
    )
    records = found.records
    stops = np.linspace(0, len(records), MOMENTS + 1).astype(np.int64)[1:]
    series = np.zeros((len(stops), *arrays.nr_free.shape), np.int64)
    apply_s = float("inf")
    for _ in range(3):
        arrays = fresh(geometry)
        _, spent_s = best(lambda: apply(arrays, records, 0, stops, series), repeat=1)  # noqa: B023
        apply_s = min(apply_s, spent_s)
    assert not arrays.counts[:7].any(), "the made window contradicts itself"
    count = len(records)
    return [
        ("replay: operations", count, "operations"),
        ("replay: ordered", count / build_s / 1e6, "M events/s"),
        ("replay: applied", count / apply_s / 1e6, "M events/s"),
        ("replay: both (budget 10)", count / (build_s + apply_s) / 1e6, "M events/s"),
    ]


def made_events() -> Events:
    """Events of refills, uses and drains at places that wander through memory."""
    random = np.random.default_rng(1)
    places = random.integers(0, PAGES // 64, ROUNDS) * 64
    pages = (places[:, None] + np.arange(BATCH)).ravel()
    each = len(pages)
    rounds = np.repeat(np.arange(ROUNDS), BATCH)
    within = np.tile(np.arange(BATCH), ROUNDS)
    names = ("mm_page_alloc_zone_locked", "mm_page_alloc", "mm_page_free", "mm_page_pcpu_drain")
    events: Events = {}
    for step, name in enumerate(names):
        rows = np.zeros(each, _ROW)
        rows["counter"] = 1 + rounds * 4 * BATCH + step * BATCH + within
        rows["pfn"] = pages
        rows["pid"] = 1
        rows["migratetype"] = 1
        events[f"kmem/{name}"] = rows
    return events


_ROW = np.dtype(
    {
        "names": ["counter", "cpu", "pid", "pfn", "order", "migratetype"],
        "formats": ["<u8", "<u2", "<i4", "<u8", "<u4", "<i4"],
        "offsets": [0, 8, 20, 24, 32, 36],
        "itemsize": 40,
    }
)


def made_stream(events: Events) -> EventStream:
    """The events as a decoded window."""
    nothing = np.zeros(0, np.uint64)
    formats: Mapping[str, Any] = dict.fromkeys(events)
    return EventStream(
        arrays=MappingProxyType(events),
        ranks=MappingProxyType(
            {name: rows["counter"].astype(np.int64) - 1 for name, rows in events.items()}
        ),
        formats=MappingProxyType(formats),
        clock="counter",
        readings=Readings(
            first=None,
            last=None,
            hole_after=nothing,
            hole_before=nothing,
            cause_after=nothing,
            cause_before=nothing,
            shared=0,
        ),
        events_by_cpu=MappingProxyType({}),
        unknown=MappingProxyType({}),
    )


def made_geometry() -> Geometry:
    """One zone."""
    zone = Zone(
        index=0, node=0, name="Normal", start_pfn=0, spanned_pages=PAGES, managed_pages=PAGES
    )
    return Geometry(
        first_pfn=0,
        zone_of=np.zeros(PAGES, np.int8),
        zones=(zone,),
        max_order=MAX_ORDER,
        pageblock_order=PAGEBLOCK_ORDER,
        pcp_types=3,
        pcp_lists=15,
        isolate=5,
        vmemmap=None,
        struct_page_bytes=64,
    )


def fresh(geometry: Geometry) -> Arrays:
    """Replay's arrays with all memory free."""
    head = np.zeros(PAGES, np.int8)
    head[:: 1 << MAX_ORDER] = MAX_ORDER + 1
    blocks = np.zeros((1, MAX_ORDER + 1), np.int64)
    blocks[0, MAX_ORDER] = PAGES >> MAX_ORDER
    types = np.ones(PAGES >> PAGEBLOCK_ORDER, np.int8)
    state = FreeState(
        head=head,
        free=np.ones(PAGES, np.bool_),
        on_pcp=np.zeros(PAGES, np.bool_),
        block_type=types,
        true_type=types,
        nr_free=blocks,
        free_cells=blocks,
    )
    return start(geometry, state, rules_of(Release(6, 1)), cpus=1)


def best(work: Callable[[], T], *, repeat: int) -> tuple[T, float]:
    """The result of ``work`` and the least seconds it took."""
    least_s = float("inf")
    for _ in range(repeat):
        begin_s = time.perf_counter()
        result = work()
        least_s = min(least_s, time.perf_counter() - begin_s)
    return result, least_s


if __name__ == "__main__":
    for label, value, unit in run():
        print(f"{label:<40} {value:>12.3f} {unit}")
