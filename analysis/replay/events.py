"""From the typed events of a window to operations in global order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.replay.operation import Op
from analysis.replay.parts import Part, WholePart, merge
from analysis.replay.rules import Rules, has_pcp_list
from analysis.trace import EventStream

_NO_ROWS = [("counter", "<u8"), ("cpu", "<u2"), ("pid", "<i4")]
_COMPACTION = ("mm_compaction_begin", "mm_compaction_end")
_NO_PAGE = np.uint64((1 << 64) - 1)
"""``pfn`` of an allocation that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """What a window's events come to."""

    records: NDArray[np.void]
    """``OPERATION``, in global order."""
    problems: tuple[str, ...]
    """Events that cannot be read as operations; with any, no verdict may hold."""


def operations(
    stream: EventStream, rules: Rules, geometry: Geometry, *, begin: int, end: int
) -> Operations:
    """The operations of all events whose counter is above ``begin`` and at most ``end``."""
    reader = _Reader(stream, rules, geometry, begin, end)
    records = merge(list(reader.parts()))
    for pid, first, last in reader.compactions():
        low, high = np.searchsorted(records["counter"], [first, last])
        records["compacting"][low:high] |= records["pid"][low:high] == pid
    return Operations(records=records, problems=tuple(reader.problems))


class _Reader:
    """Reads one window's events by the rules of its release."""

    def __init__(
        self, stream: EventStream, rules: Rules, geometry: Geometry, begin: int, end: int
    ) -> None:
        self._stream = stream
        self._rules = rules
        self._geometry = geometry
        self._begin = begin
        self._end = end
        self.problems: list[str] = []
        self._vmemmap = geometry.vmemmap
        if self._vmemmap is None:
            self._vmemmap = self._vmemmap_from_pairs()

    def parts(self) -> Iterator[Part | WholePart]:
        """The parts of all event types that matter."""
        yield from self._whole("mm_page_alloc_zone_locked", Op.TAKE, migratetype="migratetype")
        yield from self._whole("mm_page_pcpu_drain", Op.GIVE, migratetype="migratetype")
        yield from self._whole("mm_page_alloc", Op.ALLOCATE)
        yield from self._whole("mm_page_free", Op.FREE)
        if self._rules.fallback_takes:
            yield from self._whole("mm_page_alloc_extfrag", Op.FALLBACK, order="alloc_order")
        yield from self._direct_frees()
        yield from self._pairs("isolate_free_page")
        yield from self._pairs("take_page_off_buddy")
        yield from self._plain("putback_isolated_page", Op.GIVE, migratetype="migratetype")
        yield from self._plain("put_page_back_buddy", Op.GIVE, order=None)
        yield from self._plain("split_free_page", Op.SPLIT)
        yield from self._isolations()
        self._refuse("offline_isolated_pages", "memory was taken away (hot-remove)")

    def compactions(self) -> Iterator[tuple[int, int, int]]:
        """pid, first and last counter of every time that a task compacted a zone."""
        begun: dict[int, int] = {}
        moments = [
            (int(row["counter"]), int(row["pid"]), event == _COMPACTION[0])
            for event in _COMPACTION
            for row in self._all_rows(event)
        ]
        for counter, pid, begins in sorted(moments):
            if begins:
                begun[pid] = counter
            elif pid in begun:
                yield pid, begun.pop(pid), counter
        for pid, counter in begun.items():
            yield pid, counter, self._end

    def _whole(
        self, event: str, op: Op, *, order: str = "order", migratetype: str | None = None
    ) -> Iterator[WholePart]:
        """One operation an event of a tracepoint."""
        rows, rank = self._rows(event)
        if not len(rows):
            return
        if op is Op.ALLOCATE:
            got = rows["pfn"] != _NO_PAGE
            if not got.all():
                rows, rank = rows[got], rank[got]
        op_of_order = np.full(64, op, np.uint8)
        if op is Op.FREE and self._rules.free_gives:
            op_of_order[~self._has_pcp_list()] = Op.FREE_AND_GIVE
        yield WholePart(
            event=event,
            op_of_order=op_of_order,
            order=order,
            migratetype=migratetype,
            rows=rows,
            rank=rank,
        )

    def _has_pcp_list(self) -> NDArray[np.bool_]:
        """Whether blocks of each order are kept on per-cpu lists."""
        geometry = self._geometry
        return np.array(
            [
                has_pcp_list(
                    order,
                    pcp_types=geometry.pcp_types,
                    pcp_lists=geometry.pcp_lists,
                    pageblock_order=geometry.pageblock_order,
                )
                for order in range(64)
            ]
        )

    def _plain(
        self,
        event: str,
        op: Op,
        *,
        order: str | None = "order",
        migratetype: str | None = None,
    ) -> Iterator[Part]:
        """One operation an event, fields by name; ``order`` None: a single page."""
        rows, rank = self._rows(event)
        if len(rows):
            orders = np.zeros(len(rows), np.int8) if order is None else _order(rows[order])
            types = None if migratetype is None else rows[migratetype].astype(np.int8)
            yield from self._part(event, op, self._pfn(event, rows), orders, rows, rank, types)

    def _part(
        self,
        event: str,
        op: Op | NDArray[np.uint8],
        pfn: NDArray[np.int64],
        order: NDArray[np.int8],
        rows: NDArray[np.void],
        rank: NDArray[np.int64],
        migratetype: NDArray[np.int8] | None = None,
    ) -> Iterator[Part]:
        yield Part(
            event=event,
            op=np.full(len(pfn), op, np.uint8) if isinstance(op, Op) else op,
            pfn=pfn,
            order=order,
            migratetype=(np.full(len(pfn), -1, np.int8) if migratetype is None else migratetype),
            rows=rows,
            rank=rank,
        )

    def _direct_frees(self) -> Iterator[Part]:
        """Frees past the per-cpu lists; under the zone's lock if the kernel shows them there."""
        if self._name("split_large_buddy") is not None:
            yield from self._plain("split_large_buddy", Op.GIVE_OR_SPLIT)
        else:
            types = None if self._rules.retypes else "migratetype"
            yield from self._plain("free_one_page", Op.GIVE, migratetype=types)

    def _pairs(self, event: str) -> Iterator[Part]:
        """TAKE at the return of a function that says whether it took the pages.

        Both functions hold the zone's lock with interrupts off, or take it, and do not nest: on a
        CPU entry and return alternate.
        """
        entry, done, rank = self._paired(event, "cpu")
        if not len(done):
            return
        taken = done["taken"] != 0
        pages, rows, rank = entry[taken], done[taken], rank[taken]
        order = _order(pages["order"]) if "order" in pages.dtype.names else None
        yield from self._part(
            event,
            Op.TAKE,
            self._pfn(event, pages),
            np.zeros(len(pages), np.int8) if order is None else order,
            rows,
            rank,
        )

    def _paired(
        self, event: str, key: str
    ) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.int64]]:
        """Entries and returns of a function that pair up by CPU or pid; ranks of the returns."""
        entry, entry_rank = self._rows(event)
        done, done_rank = self._rows(f"{event}_return")
        whose = np.concatenate([entry[key], done[key]]).astype(np.int64)
        order = np.lexsort((np.concatenate([entry_rank, done_rank]), whose))
        is_entry = order < len(entry)
        follows = is_entry[:-1] & ~is_entry[1:] & (np.diff(whose[order]) == 0)
        if np.count_nonzero(follows) * 2 != len(order):
            self.problems.append(
                f"probe {event}: {len(entry)} entries and {len(done)} returns do not pair"
            )
        at = np.flatnonzero(follows)
        last = order[at + 1] - len(entry)
        return entry[order[at]], done[last], done_rank[last]

    def _isolations(self) -> Iterator[Part]:
        """Pageblocks that become isolated or cease to be, by block where the kernel shows it."""
        started = "start_isolate_page_range"
        if self._name("set_migratetype_isolate") is not None:
            yield from self._blocks("set_migratetype_isolate", Op.ISOLATE)
        else:
            rows, rank = self._rows(started)
            yield from self._ranges(started, Op.ISOLATE, rows, rows, rank)
        ranges, done, rank = self._paired(started, "pid")
        failed = done["error"] != 0 if len(done) else np.zeros(0, np.bool_)
        yield from self._ranges(started, Op.UNISOLATE, ranges[failed], done[failed], rank[failed])
        if self._name("unset_migratetype_isolate") is not None:
            yield from self._blocks("unset_migratetype_isolate", Op.UNISOLATE)
        else:
            rows, rank = self._rows("undo_isolate_page_range")
            yield from self._ranges("undo_isolate_page_range", Op.UNISOLATE, rows, rows, rank)

    def _blocks(self, event: str, op: Op) -> Iterator[Part]:
        rows, rank = self._rows(event)
        if len(rows):
            pfn = self._pfn(event, rows)
            yield from self._part(event, op, pfn, np.zeros(len(rows), np.int8), rows, rank)

    def _ranges(
        self,
        event: str,
        op: Op,
        ranges: NDArray[np.void],
        rows: NDArray[np.void],
        rank: NDArray[np.int64],
    ) -> Iterator[Part]:
        """An operation for each pageblock of ``ranges``, at the time of ``rows``."""
        if not len(rows):
            return
        size = 1 << self._geometry.pageblock_order
        start = ranges["start_pfn"].astype(np.int64)
        blocks = (ranges["end_pfn"].astype(np.int64) - start + size - 1) // size
        if (blocks < 0).any() or (blocks > self._geometry.pages).any():
            self.problems.append(f"probe {event}: a range that cannot be")
            return
        which = np.repeat(np.arange(len(rows)), blocks)
        step = np.arange(len(which)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        pfn = start[which] + step * size
        yield from self._part(event, op, pfn, np.zeros(len(pfn), np.int8), rows[which], rank[which])

    def _refuse(self, event: str, what: str) -> None:
        rows, _ = self._rows(event)
        if len(rows):
            self.problems.append(f"{what}, which replay does not follow")

    def _pfn(self, event: str, rows: NDArray[np.void]) -> NDArray[np.int64]:
        """Page frame of each event: told, or from the address of its struct page."""
        names = rows.dtype.names or ()
        if "pfn" in names:
            return rows["pfn"].astype(np.int64)
        if self._vmemmap is None:
            self.problems.append(f"probe {event}: where struct pages lie is not known")
            return np.full(len(rows), -1, np.int64)
        size = self._geometry.struct_page_bytes
        distance = (rows["page"] - np.uint64(self._vmemmap)).astype(np.int64)
        pfn, rest = np.divmod(distance, size)
        if rest.any():
            self.problems.append(f"probe {event}: an address that is not that of a struct page")
        return np.asarray(pfn, np.int64)

    def _vmemmap_from_pairs(self) -> int | None:
        """Where page frame 0 has its struct page, from events that tell address and number."""
        for event in ("split_large_buddy", "free_one_page"):
            name = self._name(event)
            rows = None if name is None else self._stream.arrays.get(name)
            if rows is not None and len(rows):
                size = np.uint64(self._geometry.struct_page_bytes)
                return int(rows["page"][0] - rows["pfn"][0].astype(np.uint64) * size)
        return None

    def _rows(self, event: str) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """The events of a type within the window, and their ranks; empty where it has none."""
        array = self._all_rows(event)
        if not len(array):
            return array, np.zeros(0, np.int64)
        name = self._name(event)
        assert name is not None
        low = int(np.searchsorted(array["counter"], np.uint64(self._begin), "right"))
        high = int(np.searchsorted(array["counter"], np.uint64(self._end), "right"))
        return array[low:high], self._stream.ranks[name][low:high]

    def _all_rows(self, event: str) -> NDArray[np.void]:
        """The events of a type in the whole trace; empty where it has none."""
        name = self._name(event)
        array = None if name is None else self._stream.arrays.get(name)
        return np.zeros(0, _NO_ROWS) if array is None else array

    def _name(self, event: str) -> str | None:
        """Full name of an event that was traced; None where it was not."""
        try:
            return self._stream.full_name(event)
        except KeyError:
            return None


def _order(values: NDArray[Any]) -> NDArray[np.int8]:
    """Orders as small numbers; what cannot be one becomes -1, so that replay refuses it."""
    return np.where((values >= 0) & (values < 64), values.astype(np.int64), -1).astype(np.int8)
