"""The steps of a window as arrays, for the compiled loop; and as ``Step`` objects one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.model.compiled.layout import MOVE_ORDER, MOVE_PFN
from analysis.replay.step import Kind, Step

STEP = np.dtype(
    [
        ("effect", "<i8"),
        ("event", "<i8"),
        ("after", "<i8"),
        ("before", "<i8"),
        ("pfn", "<i8"),
        ("pointer", "<u8"),
        ("count", "<i8"),
        ("gfp", "<i8"),
        ("blocks", "<i8"),  # where its blocks begin; those locked first, then as listed here
        ("locked", "<i4"),
        ("drained", "<i4"),
        ("borrowed", "<i4"),
        ("pieces", "<i4"),
        ("captured", "<i4"),
        ("order", "<i4"),
        ("pid", "<i4"),
        ("alloc_flags", "<i4"),
        ("attempts", "<i4"),
        ("stop_after", "<i4"),
        ("cpu", "<i2"),
        ("node", "<i2"),
        ("zone", "<i2"),  # of a drain, where the probe's pointer or a block tells; else -1
        ("kind", "u1"),
        ("level", "u1"),
        ("migratetype", "i1"),
    ],
    align=True,
)
"""``analysis.replay.requests.Step``; the lists of it are numbers of blocks in ``blocks``."""

LISTS = ("locked", "drained", "borrowed", "pieces", "captured")
_NUMBERS = tuple(name for name in STEP.names or () if name not in ("blocks", "zone", *LISTS))


@dataclass(frozen=True, kw_only=True)
class ArraySteps:
    """``Steps`` of arrays, by effect."""

    rows: NDArray[np.void]
    """STEP."""
    blocks: NDArray[np.int64]
    """pfn << MOVE_PFN | order."""
    made: dict[int, Step] = field(default_factory=dict)
    """Steps that were asked for."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Step:
        step = self.made.get(number)
        if step is None:
            step = self.made[number] = self._make(number)
        return step

    def __iter__(self) -> Iterator[Step]:
        return map(self.__getitem__, range(len(self)))

    def count_until(self, counter: int) -> int:
        return int(np.searchsorted(self.rows["effect"], counter, "right"))

    def next_allocation(self, pfn: int, event: int) -> Step | None:
        pfns, events, numbers = self._by_pfn
        first, last = np.searchsorted(pfns, pfn), np.searchsorted(pfns, pfn, "right")
        later = np.flatnonzero(events[first:last] > event)
        return self[int(numbers[first + later[0]])] if len(later) else None

    def interrupted_by(self, step: Step, most: int) -> Iterator[Step]:
        if step.cpu not in self._by_cpu:
            return
        events, numbers = self._by_cpu[step.cpu]
        first = np.searchsorted(events, step.event, "right")
        candidates = numbers[first : first + most]
        rows = self.rows[candidates]
        fits = (rows["after"] < step.effect) & (rows["locked"] == 0)
        fits &= (rows["pid"] != step.pid) | (rows["level"] != step.level)
        for number in candidates[fits].tolist():
            yield self[number]

    @cached_property
    def _allocations(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.rows["kind"] == Kind.ALLOCATE)

    @cached_property
    def _by_pfn(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Sorted pfns with the events and numbers of the steps that got them."""
        pfns = self.rows["pfn"][self._allocations]
        order = np.argsort(pfns, kind="stable")
        numbers = self._allocations[order]
        return pfns[order], self.rows["event"][numbers], numbers

    @cached_property
    def _by_cpu(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Sorted events with the numbers of the steps."""
        cpus = self.rows["cpu"][self._allocations]
        found: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for cpu in np.unique(cpus).tolist():
            numbers = self._allocations[cpus == cpu]
            events = self.rows["event"][numbers]
            order = np.argsort(events, kind="stable")
            found[cpu] = events[order], numbers[order]
        return found

    def _make(self, number: int) -> Step:
        row = self.rows[number]
        at = int(row["blocks"])
        lists: dict[str, list[tuple[int, int]]] = {}
        for name in LISTS:
            packed = self.blocks[at : at + int(row[name])].tolist()
            lists[name] = [(block >> MOVE_PFN, block & MOVE_ORDER) for block in packed]
            at += len(packed)
        numbers = {name: int(row[name]) for name in _NUMBERS}
        return Step(
            **(numbers | {"kind": Kind(numbers["kind"])}),  # type: ignore[arg-type]
            number=number,
            locked=lists["locked"],
            drained=lists["drained"],
            borrowed=[pfn for pfn, _ in lists["borrowed"]],
            pieces=lists["pieces"],
            captured=dict(lists["captured"]),
        )


def pack_steps(steps: Sequence[Step]) -> ArraySteps:
    """Arrays of the same steps."""
    rows = np.zeros(len(steps), STEP)
    rows["zone"] = -1
    for name in _NUMBERS:
        rows[name] = [getattr(step, name) for step in steps]
    blocks: list[int] = []
    for row, step in zip(rows, steps, strict=True):
        row["blocks"] = len(blocks)
        lists = {
            "locked": step.locked,
            "drained": step.drained,
            "borrowed": [(pfn, 0) for pfn in step.borrowed],
            "pieces": step.pieces,
            "captured": list(step.captured.items()),
        }
        for name in LISTS:
            row[name] = len(lists[name])
            blocks += (pfn << MOVE_PFN | order for pfn, order in lists[name])
    return ArraySteps(rows=rows, blocks=np.array(blocks, np.int64))


def join_steps(one: ArraySteps, other: ArraySteps) -> ArraySteps:
    """The steps of both, by effect; of two with the same, the first one's first."""
    rows = np.empty(len(one) + len(other), STEP)  # concatenate would pack the fields anew
    rows[: len(one)], rows[len(one) :] = one.rows, other.rows
    rows["blocks"][len(one.rows) :] += len(one.blocks)
    rows = rows[np.argsort(rows["effect"], kind="stable")]
    return ArraySteps(rows=rows, blocks=np.concatenate([one.blocks, other.blocks]))
