"""The steps of a window as prediction looks them up, and what it notes of pages meanwhile.

Two forms each: of ``Step`` objects, and (``analysis.replay.step_arrays``) of arrays, for the
compiled loop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

from analysis.replay.step import Kind, Step


class Steps(Protocol):
    """All steps of a window, by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Step: ...

    def count_until(self, counter: int) -> int:
        """How many took effect up to a counter."""

    def next_allocation(self, pfn: int, event: int) -> Step | None:
        """The first, by effect, that got a page and whose own event comes after one."""

    def interrupted_by(self, step: Step, most: int) -> Iterator[Step]:
        """Allocations on the step's CPU whose contexts ran before it and tell of them later, and
        which fetched nothing; among the ``most`` next ones."""


class ListSteps:
    """``Steps`` of a list, by effect."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._by_pfn: dict[int, list[Step]] = {}
        self._by_cpu: dict[int, list[Step]] = {}
        for number, step in enumerate(steps):
            step.number = number
            if step.kind is Kind.ALLOCATE:
                self._by_pfn.setdefault(step.pfn, []).append(step)
                self._by_cpu.setdefault(step.cpu, []).append(step)
        for by_cpu in self._by_cpu.values():
            by_cpu.sort(key=lambda step: step.event)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> Step:
        return self._steps[number]

    def count_until(self, counter: int) -> int:
        return bisect_right(self._steps, counter, key=lambda step: step.effect)

    def next_allocation(self, pfn: int, event: int) -> Step | None:
        return next((step for step in self._by_pfn.get(pfn, ()) if step.event > event), None)

    def interrupted_by(self, step: Step, most: int) -> Iterator[Step]:
        by_cpu = self._by_cpu.get(step.cpu, [])
        first = bisect_right(by_cpu, step.event, key=lambda other: other.event)
        for other in by_cpu[first : first + most]:
            if (
                other.after < step.effect
                and not other.locked
                and (other.pid, other.level) != (step.pid, step.level)
            ):
                yield other


class PageNotes(Protocol):
    """What is known of blocks by their first page."""

    def hand_out(self, pfn: int, order: int) -> None: ...
    def take_back(self, pfn: int, order: int) -> None:
        """Nobody holds any of these pages now."""

    def order(self, pfn: int) -> int:
        """Of a block handed out; 0 where none was."""

    def is_held(self, pfn: int) -> bool:
        """Whether just this page was handed out."""

    def note_free(self, pfn: int, step: int) -> None:
        """A block came to a per-cpu list."""

    def last_free(self, pfn: int) -> int:
        """Number of the step that brought it there last, or -1."""

    def lose(self, pfn: int) -> None:
        """Something took a block unseen."""

    def is_lost(self, pfn: int) -> bool: ...
    def find(self, pfn: int) -> None:
        """A lost block is seen again, or one that was not lost."""

    def forget_frees(self) -> None:
        """Steps are numbered anew."""


class DictNotes:
    """``PageNotes`` of any pages."""

    def __init__(self) -> None:
        self._orders: dict[int, int] = {}
        self._frees: dict[int, int] = {}
        self._lost: set[int] = set()

    def hand_out(self, pfn: int, order: int) -> None:
        self._orders[pfn] = order

    def take_back(self, pfn: int, order: int) -> None:
        for page in range(pfn, pfn + (1 << order)):
            self._orders.pop(page, None)

    def order(self, pfn: int) -> int:
        return self._orders.get(pfn, 0)

    def is_held(self, pfn: int) -> bool:
        return self._orders.get(pfn) == 0

    def note_free(self, pfn: int, step: int) -> None:
        self._frees[pfn] = step

    def last_free(self, pfn: int) -> int:
        return self._frees.get(pfn, -1)

    def lose(self, pfn: int) -> None:
        self._lost.add(pfn)

    def is_lost(self, pfn: int) -> bool:
        return pfn in self._lost

    def find(self, pfn: int) -> None:
        self._lost.discard(pfn)

    def forget_frees(self) -> None:
        self._frees.clear()
