"""Films of made windows, with what the made kernel's memory really was at every quiet moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.replay.film import Film, film_window
from analysis.replay.model_snapshot import ModelSnapshot
from analysis.replay.window import Window
from tests.made_window import FIRST_PFN, MAX_ORDER, PAGES, MadeKernel, made_window


@dataclass(slots=True)
class Truth:
    """What lies free, and on the per-cpu list, after every request; by counter."""

    free: dict[int, dict[int, int]] = field(default_factory=dict)
    """First page of every free block → order."""
    pcp: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def note(self, kernel: MadeKernel) -> None:
        """The state that the kernel is in now."""
        blocks = {block.pfn: block.order for block in kernel.zone.blocks()}
        self.free[kernel.counter] = blocks
        self.pcp[kernel.counter] = tuple(kernel.pcp)

    def at(self, counter: int) -> int:
        """The last noted counter up to this one."""
        return max(noted for noted in self.free if noted <= counter)

    def states(self, _: Window, geometry: Geometry, counters: Sequence[int]) -> list[ModelSnapshot]:
        """A model that is always right (``ModelStates``)."""
        return [self.snapshot(geometry, self.at(counter)) for counter in counters]

    def snapshot(self, geometry: Geometry, counter: int) -> ModelSnapshot:
        """The state noted at a counter."""
        head = np.zeros(geometry.pages, np.int8)
        on_pcp = np.zeros(geometry.pages, np.bool_)
        nr_free = np.zeros((1, MAX_ORDER + 1), np.int64)
        for pfn, order in self.free[counter].items():
            head[pfn - geometry.first_pfn] = order + 1
            nr_free[0, order] += 1
        for pfn in self.pcp[counter]:
            on_pcp[pfn - geometry.first_pfn] = True
        return ModelSnapshot(head=head, on_pcp=on_pcp, nr_free=nr_free)

    def free_orders(self, counter: int) -> NDArray[np.int64]:
        """The order of the block that a page lies free in, by page from ``FIRST_PFN``; or -1."""
        orders = np.full(PAGES, -1, np.int64)
        for pfn, order in self.free[counter].items():
            orders[pfn - FIRST_PFN : pfn - FIRST_PFN + (1 << order)] = order
        return orders


def busy_window() -> tuple[Window, Truth, MadeKernel]:
    """A window of a hundred and twenty requests of several orders, and what was true meanwhile."""
    kernel, truth = MadeKernel(), Truth()
    samples = [kernel.sample("w/begin")]
    truth.note(kernel)
    held: list[int] = []
    for number in range(120):
        if number % 3 == 2 and held:
            kernel.free(held.pop(number % len(held)))
        elif (pfn := kernel.allocate((0, 0, 1, 0, 2)[number % 5])) is not None:
            held.append(pfn)
        truth.note(kernel)
    # So that the per-cpu list is not empty in the end.
    kernel.free(next(pfn for pfn, order in kernel.held.items() if order == 0))
    samples.append(kernel.sample("w/end"))
    truth.note(kernel)
    return made_window(kernel.events, samples), truth, kernel


def made_film(*, predicted: bool = True, moments: int = 8) -> Film:
    """A film of ``busy_window``, with the model that is always right, or none."""
    window, truth, _ = busy_window()
    return film_window(window, moments=moments, model=truth.states if predicted else None)


def spoiled(film: Film, pages: Sequence[int], number: int = -1) -> Film:
    """The film with some pages (indices) otherwise in the model, at one moment."""
    moments = list(film.moments)
    moment = moments[number]
    assert moment.model is not None
    model = moment.model.copy()
    model[list(pages)] = np.where(model[list(pages)] == 3, 4, 3)
    moments[number] = dataclasses.replace(moment, model=model)
    return dataclasses.replace(film, moments=tuple(moments))
