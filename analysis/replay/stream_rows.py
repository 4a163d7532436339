"""Steps as rows of a table and back: pages by allocation, the kernel's answers apart."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from analysis.bundle import MemorySample
from analysis.replay.request_stream import Followed, RequestStream
from analysis.replay.step import Kind, Step
from analysis.replay.stream_columns import REQUESTS

_CONTEXTS = ("task", "softirq", "hardirq", "nmi")
_BLOCKS = pa.list_(pa.struct([("pfn", pa.int64()), ("order", pa.int8())]))
_PFNS = pa.list_(pa.int64())
_NAMES = pa.dictionary(pa.int8(), pa.string())
_TYPES: Mapping[str, pa.DataType] = {
    "number": pa.int64(), "op": _NAMES, "counter": pa.int64(), "event": pa.int64(),
    "cpu": pa.int16(), "pid": pa.int32(), "context": _NAMES, "order": pa.int8(),
    "pages": pa.int64(), "gfp": pa.uint32(), "migratetype": _NAMES, "node": pa.int16(),
    "zone": pa.int16(), "allocation": pa.int64(), "first_page": pa.int64(), "pfn": pa.int64(),
    "alloc_flags": pa.int64(), "argument": pa.int64(), "stop_after": pa.int64(),
    "pieces": _BLOCKS, "after": pa.int64(),
    "before": pa.int64(), "kernel_pfn": pa.int64(), "kernel_pages": _PFNS,
    "kernel_node": pa.int16(), "kernel_fetched": _BLOCKS, "kernel_drained": _BLOCKS,
    "kernel_borrowed": _PFNS, "kernel_captured": _BLOCKS,
}  # fmt: skip
_GIVEN_OUT = (Kind.ALLOCATE, Kind.CAPTURED, Kind.BULK, Kind.ISOLATE)
"""Steps after which pages belong to somebody."""
_ABOUT_PAGES = (Kind.FREE, Kind.FREE_DIRECT, Kind.FREE_RANGE, Kind.PUT_BACK, Kind.ON_LRU)
_ORDERED = (Kind.ALLOCATE, Kind.CAPTURED, Kind.ISOLATE, Kind.FREE, Kind.FREE_DIRECT, Kind.PUT_BACK)
_OF_A_NODE = (Kind.BALANCE_BEGIN, Kind.BALANCE_END, Kind.THRESHOLD)
_OF_A_ZONE = (Kind.DRAIN_ALL, Kind.DRAIN_BATCH, Kind.DECAY)
_NEVER = 1 << 62


class _Owners:
    """Which allocation every page belongs to, as the stream goes on."""

    def __init__(self, sample: MemorySample) -> None:
        zones = sample.zones
        self._first = int(zones["start_pfn"].min())
        pages = int((zones["start_pfn"] + zones["spanned_pages"]).max()) - self._first
        self._ids = array("q", [-1]) * pages
        self._offsets = array("q", [0]) * pages

    def give(self, allocation: int, pages: Iterable[int]) -> None:
        for offset, pfn in enumerate(pages):
            self._ids[pfn - self._first] = allocation
            self._offsets[pfn - self._first] = offset

    def of(self, pages: Sequence[int]) -> tuple[int, int] | None:
        """Allocation and first page, if they all follow one another in one."""
        at = pages[0] - self._first
        allocation, first = self._ids[at], self._offsets[at]
        if allocation < 0:
            return None
        for number, pfn in enumerate(pages):
            at = pfn - self._first
            if self._ids[at] != allocation or self._offsets[at] != first + number:
                return None
        return allocation, first

    def forget(self, pages: Iterable[int]) -> None:
        for pfn in pages:
            self._ids[pfn - self._first] = -1


def request_columns(stream: RequestStream, followed: Followed) -> dict[str, pa.Array]:
    """The stream's steps in the order to be replayed; those that never had a turn come last."""
    turns = followed.turns.tolist()
    had = set(turns)
    order = turns + [step.number for step in stream.steps if step.number not in had]
    types = [str(name) for name in stream.begin.meta["migratetypes"]]
    owners = _Owners(stream.begin)
    columns: dict[str, list[Any]] = {name: [] for name in REQUESTS}
    for number in order:
        step = stream.steps[number]
        row = _row(stream, step, followed, types)
        pages = _pages(step, followed)
        if step.kind in _GIVEN_OUT:
            row["allocation"] = step.number
            owners.give(step.number, pages)
        elif step.kind in _ABOUT_PAGES:
            owner = owners.of(pages)
            if owner is not None:
                row["allocation"], row["first_page"] = owner
                row["pfn"] = None
            if step.kind is not Kind.ON_LRU:
                owners.forget(pages)
        for name, column in columns.items():
            column.append(row.get(name))
    return {name: pa.array(column, _TYPES[name]) for name, column in columns.items()}


def _pages(step: Step, followed: Followed) -> Sequence[int]:
    if step.kind is Kind.BULK:
        return followed.bulk_pages.get(step.number, ())
    if step.kind is Kind.FREE_RANGE:
        return [page for pfn, order in step.pieces for page in range(pfn, pfn + (1 << order))] or [
            step.pfn
        ]
    return range(step.pfn, step.pfn + (1 << (step.order if step.kind in _ORDERED else 0)))


def _row(
    stream: RequestStream, step: Step, followed: Followed, types: Sequence[str]
) -> dict[str, Any]:
    kind = step.kind
    row: dict[str, Any] = {
        "number": step.number,
        "op": kind.name.lower(),
        "counter": step.effect,
        "event": step.event,
        "cpu": step.cpu,
        "pid": step.pid,
        "context": _CONTEXTS[step.level],
        "argument": step.count or None,
        "stop_after": step.stop_after or None,
        "after": step.after if step.after >= 0 else None,
        "before": step.before if step.before < _NEVER else None,
        "kernel_fetched": _blocks(step.locked),
        "kernel_drained": _blocks(step.drained),
        "kernel_borrowed": step.borrowed or None,
        "kernel_captured": _blocks(step.captured.items()),
        "kernel_node": followed.nodes.get(step.number),
        "pieces": _blocks(step.pieces),
    }
    node = step.node
    if kind in _OF_A_NODE and node < 0:
        node = stream.node_pointers.get(step.pointer, -1)
    row["node"] = node if node >= 0 else None
    if kind in _OF_A_ZONE:
        row["zone"] = stream.zone_pointers.get(step.pointer)
    if kind in _ORDERED:
        row["order"], row["pages"] = step.order, 1 << step.order
    elif kind is Kind.ON_LRU:
        row["order"] = step.order or None
    if kind in (Kind.ALLOCATE, Kind.CAPTURED):
        row["kernel_pfn"] = step.pfn
        row["alloc_flags"] = step.alloc_flags if step.alloc_flags >= 0 else None
    elif step.pfn >= 0:
        row["pfn"] = step.pfn
    if kind in (Kind.ALLOCATE, Kind.CAPTURED, Kind.BULK):
        row["gfp"] = step.gfp
    if kind is Kind.BULK:
        row["pages"], row["argument"] = step.count, step.order
        row["kernel_pages"] = followed.bulk_pages.get(step.number, ()) or None
    if step.migratetype >= 0:
        row["migratetype"] = types[step.migratetype]
    return row


def _blocks(blocks: Iterable[tuple[int, int]]) -> list[dict[str, int]] | None:
    return [{"pfn": pfn, "order": order} for pfn, order in blocks] or None


def steps_of(table: pa.Table, begin: MemorySample) -> list[Step]:
    """The steps of a table that ``request_columns`` made, by number.

    Raises:
        ValueError, KeyError, IndexError, TypeError: rows that contradict themselves.
    """
    types = {str(name): number for number, name in enumerate(begin.meta["migratetypes"])}
    columns = {name: table[name].to_pylist() for name in REQUESTS}
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    pages: dict[int, int | list[int]] = {}
    steps: list[Step] = []
    for row in rows:
        step = _step(row, types)
        if step.kind in _GIVEN_OUT:
            many = row["kernel_pages"]
            pages[row["allocation"]] = (many or []) if step.kind is Kind.BULK else step.pfn
        elif row["allocation"] is not None:
            first = pages[row["allocation"]]
            if isinstance(first, int):
                step.pfn = first + row["first_page"]
            else:
                step.pfn = first[row["first_page"]]
        steps.append(step)
    steps.sort(key=lambda step: step.number)
    if [step.number for step in steps] != list(range(len(steps))):
        raise ValueError("the numbers of the steps are not 0, 1, 2 …")
    return steps


def _step(row: Mapping[str, Any], types: Mapping[str, int]) -> Step:
    kind = Kind[row["op"].upper()]
    step = Step(
        kind, row["counter"], row["event"], row["cpu"], row["pid"], _CONTEXTS.index(row["context"])
    )
    step.number = row["number"]
    pfn = row["kernel_pfn"] if row["kernel_pfn"] is not None else row["pfn"]
    step.pfn = -1 if pfn is None else pfn
    step.order, step.gfp = row["order"] or 0, row["gfp"] or 0
    step.migratetype = -1 if row["migratetype"] is None else types[row["migratetype"]]
    step.node = -1 if row["node"] is None else row["node"]
    step.count = row["argument"] or 0
    step.stop_after = row["stop_after"] or 0
    step.pointer = 0 if row["zone"] is None else row["zone"] + 1
    step.alloc_flags = -1 if row["alloc_flags"] is None else row["alloc_flags"]
    if kind is Kind.BULK:
        step.count, step.order = row["pages"], row["argument"] or 0
    step.after = -1 if row["after"] is None else row["after"]
    step.before = _NEVER if row["before"] is None else row["before"]
    step.locked = _pairs(row["kernel_fetched"])
    step.drained = _pairs(row["kernel_drained"])
    step.borrowed = row["kernel_borrowed"] or []
    step.captured = dict(_pairs(row["kernel_captured"]))
    step.pieces = _pairs(row["pieces"])
    return step


def _pairs(blocks: list[dict[str, int]] | None) -> list[tuple[int, int]]:
    return [(block["pfn"], block["order"]) for block in blocks or ()]
