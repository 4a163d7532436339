"""Columns of one event type, written as operations to their places in the global order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.replay.operation import EVENTS, OPERATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The operations that one event type gives, column by column."""

    event: str
    op: NDArray[np.uint8]
    pfn: NDArray[np.int64]
    order: NDArray[np.int8]
    migratetype: NDArray[np.int8]
    rows: NDArray[np.void]
    """Where counter, cpu and pid stand."""
    rank: NDArray[np.int64]

    def fill(
        self, records: NDArray[np.void], places: NDArray[np.int64], rank: NDArray[np.int64]
    ) -> None:
        """Writes the records at the places that their ranks have."""
        _fill(
            records,
            places,
            rank,
            np.ascontiguousarray(self.rows["counter"], np.int64),
            np.ascontiguousarray(self.rows["pid"], np.int32),
            np.ascontiguousarray(self.rows["cpu"], np.int16),
            self.pfn,
            self.op,
            self.order,
            self.migratetype,
            EVENTS.index(self.event),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePart:
    """An operation for each row of a tracepoint with many events, read where it lies."""

    event: str
    op_of_order: NDArray[np.uint8]
    order: str
    migratetype: str | None
    rows: NDArray[np.void]
    rank: NDArray[np.int64]

    def fill(
        self, records: NDArray[np.void], places: NDArray[np.int64], rank: NDArray[np.int64]
    ) -> None:
        """Writes the records at the places that their ranks have."""
        words = self.rows.view(np.int32).reshape(len(self.rows), -1)
        _fill_words(
            records,
            places,
            rank,
            words,
            self._word("counter"),
            self._word("cpu"),
            self._word("pid"),
            self._word("pfn"),
            self._word(self.order),
            -1 if self.migratetype is None else self._word(self.migratetype),
            self.op_of_order,
            EVENTS.index(self.event),
        )

    def _word(self, name: str) -> int:
        return _word_of(self.rows.dtype, name)


def merge(parts: Sequence[Part | WholePart]) -> NDArray[np.void]:
    """All parts' operations in the order of their events (``OPERATION``).

    Operations of one event follow each other as they stand in their part.
    """
    first = min((int(part.rank.min()) for part in parts if len(part.rank)), default=0)
    last = max((int(part.rank.max()) for part in parts if len(part.rank)), default=-1)
    # Before: how many operations an event gives. After: the place of its first.
    places = np.zeros(last - first + 2, np.int64)
    ranks = [part.rank - first for part in parts]
    for rank in ranks:
        _count(places, rank)
    np.cumsum(places, out=places)
    records = np.zeros(sum(map(len, ranks)), OPERATION)
    for part, rank in zip(parts, ranks, strict=True):
        if len(rank):
            part.fill(records, places, rank)
    return records


def compile_merge() -> None:
    """Compiles what ``merge`` runs, so that no measured time holds it."""
    none = np.zeros(0, np.int64)
    small, narrow, pids = np.zeros(0, np.int8), np.zeros(0, np.int16), np.zeros(0, np.int32)
    op = np.zeros(0, np.uint8)
    records = np.zeros(0, OPERATION)
    _count(none, none)
    _fill(records, none, none, none, pids, narrow, none, op, small, small, 0)
    words = np.zeros((0, 1), np.int32)
    _fill_words(records, none, none, words, 0, 0, 0, 0, 0, 0, op, 0)


@numba.njit(cache=True, nogil=True)
def _count(places: Any, rank: Any) -> None:
    for one in rank:
        places[one + 1] += 1


@numba.njit(cache=True, nogil=True)
def _fill(
    records: Any,
    places: Any,
    rank: Any,
    counter: Any,
    pid: Any,
    cpu: Any,
    pfn: Any,
    op: Any,
    order: Any,
    migratetype: Any,
    event: int,
) -> None:
    for at in range(len(rank)):
        # Several operations of one event follow each other.
        place = places[rank[at]]
        places[rank[at]] += 1
        record = records[place]
        record["counter"] = counter[at]
        record["pid"] = pid[at]
        record["cpu"] = cpu[at]
        record["pfn"] = pfn[at]
        record["op"] = op[at]
        record["order"] = order[at]
        record["migratetype"] = migratetype[at]
        record["event"] = event


@numba.njit(cache=True, nogil=True)
def _fill_words(
    records: Any,
    places: Any,
    rank: Any,
    words: Any,
    counter: int,
    cpu: int,
    pid: int,
    pfn: int,
    order: int,
    migratetype: int,
    op_of_order: Any,
    event: int,
) -> None:
    """Numbers of fields are those of 32-bit words in a row; ``migratetype`` -1: there is none."""
    low = np.int64(0xFFFFFFFF)
    for at in range(len(rank)):
        row = words[at]
        record = records[places[rank[at]]]
        places[rank[at]] += 1
        record["counter"] = np.int64(row[counter]) & low | np.int64(row[counter + 1]) << 32
        record["pid"] = row[pid]
        record["cpu"] = row[cpu]
        record["pfn"] = np.int64(row[pfn]) & low | np.int64(row[pfn + 1]) << 32
        size = row[order]
        if size < 0 or size >= len(op_of_order):
            size = -1
        record["op"] = op_of_order[size]
        record["order"] = size
        record["migratetype"] = row[migratetype] if migratetype >= 0 else -1
        record["event"] = event


def _word_of(dtype: np.dtype[Any], name: str) -> int:
    """Number of the 32-bit word at which a field of a row begins; its high half follows."""
    assert dtype.fields is not None
    kind, offset = dtype.fields[name][:2]
    assert offset % 4 == 0, f"{name} lies at byte {offset}"
    assert kind.itemsize >= 4 or name == "cpu", f"{name} has {kind.itemsize} bytes"
    return offset // 4
