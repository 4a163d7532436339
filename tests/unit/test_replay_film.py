"""Films of windows: what every page is at chosen moments, held against what really was."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from analysis.errors import BundleError
from analysis.memory.geometry import Geometry, geometry_of
from analysis.memory.state import free_state
from analysis.model.compiled.pack import pack
from analysis.model.freelist import Migratetype
from analysis.replay.film import film_window
from analysis.replay.model_snapshot import ModelSnapshot, snapshot_of, snapshot_of_memory
from analysis.replay.operation import EVENTS, OPERATION, Op
from analysis.replay.page_use import FREE, PageUse, use_in_sample
from analysis.replay.predicted_states import plainly_predicted_states, predicted_states
from analysis.replay.quiet import choose_moments, quiet_places
from analysis.replay.window import Window
from harness.record.memory import FRAME_RANGE
from tests.allocator_model import GFP_USER_MOVABLE, fill, make_allocator, make_zone, request
from tests.made_film import busy_window, made_film
from tests.made_window import FIRST_PFN, PAGES, MadeKernel, made_window


def test_every_moment_is_what_the_kernel_was() -> None:
    window, truth, _ = busy_window()

    film = film_window(window, moments=12)

    assert len(film.moments) == 14
    assert [moment.sample for moment in film.moments[1:-1]] == [None] * 12
    assert (film.moments[0].sample, film.moments[-1].sample) == ("w/begin", "w/end")
    for moment in film.moments:
        assert moment.counter in truth.free, "a moment lies within a request"
        orders = truth.free_orders(moment.counter)
        pages = moment.kernel[film.pages(film.zones[0])].astype(np.int64)
        assert np.array_equal(np.where(pages >= FREE, pages - FREE, -1), orders)
        blocks = np.bincount(list(truth.free[moment.counter].values()), minlength=film.orders)
        assert moment.nr_free[0].tolist() == blocks.tolist()


def test_pages_in_use_are_what_they_were_asked_for_as() -> None:
    window, truth, kernel = busy_window()

    end = film_window(window).moments[-1].kernel

    held = [pfn + at for pfn, order in kernel.held.items() for at in range(1 << order)]
    assert {int(end[pfn - FIRST_PFN]) for pfn in held} == {PageUse.MOVABLE}
    listed = truth.pcp[truth.at(kernel.counter)]
    assert listed
    assert {int(end[pfn - FIRST_PFN]) for pfn in listed} == {PageUse.OFF_LISTS}


def test_the_curve_goes_through_the_moments() -> None:
    film = made_film(moments=6)

    for moment in film.moments:
        row = int(np.searchsorted(film.curve_operations, moment.operations))
        assert film.curve_operations[row] == moment.operations
        assert np.array_equal(film.curve[row], moment.nr_free)


def test_a_model_that_is_right_differs_nowhere() -> None:
    film = made_film()

    assert film.predicted
    assert [len(moment.differing) for moment in film.moments] == [0] * len(film.moments)


@pytest.mark.parametrize("kind", ["free", "used", "other order", "on a list"])
def test_every_way_to_be_wrong_is_counted(kind: str) -> None:
    window, truth, kernel = busy_window()
    held = next(iter(kernel.held)) - FIRST_PFN

    def wrong(window: Window, geometry: Geometry, counters: Sequence[int]) -> list[ModelSnapshot]:
        states = truth.states(window, geometry, counters)
        last = states[-1]
        large = int(np.flatnonzero(last.head == last.head.max())[0])
        if kind == "free":
            last.head[held] = 1
        elif kind == "used":
            last.head[large] = 0
        elif kind == "other order":
            half = 1 << int(last.head[large]) - 2
            last.head[large] -= 1
            last.head[large + half] = last.head[large]
        else:
            last.on_pcp[held] = True
        return states

    film = film_window(window, moments=3, model=wrong)

    *before, last = film.moments
    assert not any(len(moment.differing) for moment in before)
    block = 1 << int(truth.free_orders(truth.at(last.counter)).max())
    assert len(last.differing) == (1 if kind in ("free", "on a list") else block)
    assert film.differing(last, film.zones[0]) == len(last.differing)
    assert film.touched(film.zones[0])


def test_between_samples_a_page_taken_in_bulk_is_no_difference() -> None:
    """Exact replay cannot tell it from one on a per-cpu list; at a sample it can be told."""
    window, truth, kernel = busy_window()

    def bulk(window: Window, geometry: Geometry, counters: Sequence[int]) -> list[ModelSnapshot]:
        states = truth.states(window, geometry, counters)
        for state in states:
            state.on_pcp[:] = False
        return states

    film = film_window(window, moments=3, model=bulk)

    assert [len(moment.differing) for moment in film.moments[1:-1]] == [0, 0, 0]
    assert len(film.moments[-1].differing) == len(kernel.pcp) > 0


def test_without_events_there_is_no_film() -> None:
    window, _, _ = busy_window()
    with pytest.raises(BundleError, match="no film"):
        film_window(window.without_events())


@pytest.mark.parametrize("states", [predicted_states, plainly_predicted_states])
def test_a_light_sample_cannot_be_predicted_from(states: object) -> None:
    window, _, _ = busy_window()
    with pytest.raises(BundleError, match="which pages are movable"):
        film_window(window, model=states)  # type: ignore[arg-type]


def records_of(*rows: tuple[int, str, Op]) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    records = np.zeros(len(rows), OPERATION)
    for at, (cpu, event, op) in enumerate(rows):
        records[at]["counter"], records[at]["cpu"] = at + 1, cpu
        records[at]["event"], records[at]["op"] = EVENTS.index(event), op
    return records


LOCKED = ("mm_page_alloc_zone_locked", Op.TAKE)
ALLOC = ("mm_page_alloc", Op.ALLOCATE)
FREED = ("mm_page_free", Op.FREE)
DRAIN = ("mm_page_pcpu_drain", Op.GIVE)


def test_no_moment_lies_within_a_refill_or_a_drain() -> None:
    refill = records_of((0, *LOCKED), (0, *LOCKED), (0, *ALLOC), (0, *FREED))
    assert quiet_places(refill).tolist() == [True, False, False, True, True]

    borrowed = records_of((0, *LOCKED), (0, "mm_page_alloc_extfrag", Op.FALLBACK), (0, *LOCKED))
    assert quiet_places(borrowed).tolist() == [True, False, False, False]

    drain = records_of((0, *FREED), (0, *DRAIN), (0, *DRAIN), (0, *ALLOC))
    assert quiet_places(drain).tolist() == [True, False, False, True, True]

    other_cpu = records_of((0, *LOCKED), (1, *ALLOC), (1, *FREED), (0, *ALLOC), (1, *DRAIN))
    assert quiet_places(other_cpu).tolist() == [True, False, False, False, False, True]


def test_moments_move_to_the_nearest_quiet_place() -> None:
    rows = [(0, *ALLOC)] * 4 + [(0, *LOCKED)] * 5 + [(0, *ALLOC)] * 3
    records = records_of(*rows)
    assert choose_moments(records, 1).tolist() == [4]
    assert choose_moments(records[:0], 3).tolist() == []
    records["counter"][:4] = 1
    assert 2 not in choose_moments(records, 12).tolist()


def test_page_flags_tell_the_use_of_pages_before_any_event() -> None:
    kernel = MadeKernel(free_pages=0)
    flags = np.zeros(PAGES, np.uint32)
    flags[8] = 1 << 4
    flags[16] = 1 << 4 | 1 << 6
    flags[40] = 1 << 12
    flags[19] = 1 << 0
    sample = dataclasses.replace(
        kernel.sample("w/begin", page_flag_bits={"locked": 0, "lru": 4, "head": 6, "reserved": 12}),
        frame_ranges=np.array([(FIRST_PFN, PAGES - 64)], FRAME_RANGE),
        frame_flags=flags[: PAGES - 64],
        frame_mapping=np.zeros(PAGES - 64, np.uint8),
    )
    sample.frame_mapping[100] = 2
    sample.pageblocks["migratetype"][:2] = 0
    sample.pageblocks["migratetype"][2] = 2
    geometry = geometry_of(sample)

    use = use_in_sample(sample, free_state(sample, geometry), geometry)

    movable = {8, 16, 17, 18, 100}
    assert set(np.flatnonzero(use == PageUse.MOVABLE).tolist()) == movable
    assert np.flatnonzero(use == PageUse.RESERVED).tolist() == [40]
    assert set(use[64:96].tolist()) == {PageUse.RECLAIMABLE}
    assert set(use[PAGES - 64 :].tolist()) == {PageUse.NONE}
    assert use[9] == use[19] == use[200] == PageUse.UNMOVABLE


def test_plain_and_compiled_snapshots_of_one_model_are_equal() -> None:
    zone = make_zone(cpus=2)
    fill(zone, [(at << 10, 10, Migratetype.MOVABLE) for at in range(16)])
    allocator = make_allocator(zone, cpus=2)
    for cpu, order in ((0, 0), (1, 0), (0, 3), (1, 1), (0, 5)):
        assert allocator.allocate(
            request(order, Migratetype.MOVABLE, gfp=GFP_USER_MOVABLE, cpu=cpu)
        )
    sample = MadeKernel().sample("w/begin")
    sample.zones["start_pfn"] = zone.free.start_pfn
    sample.zones["spanned_pages"] = zone.free.end_pfn - zone.free.start_pfn
    sample.meta.update(max_order=zone.free.max_order, pageblock_order=zone.free.pageblock_order)
    geometry = geometry_of(sample)

    plain = snapshot_of(allocator, geometry)
    compiled = snapshot_of_memory(pack(allocator), geometry)

    assert plain.nr_free.sum() > 0
    assert plain.on_pcp.sum() > 2
    assert np.array_equal(plain.head, compiled.head)
    assert np.array_equal(plain.on_pcp, compiled.on_pcp)
    assert np.array_equal(plain.nr_free, compiled.nr_free)


def test_a_window_with_another_sample_in_between_shows_it() -> None:
    kernel = MadeKernel()
    samples = [kernel.sample("w/begin")]
    for _ in range(6):
        kernel.allocate(1)
    samples.append(kernel.sample("w/1"))
    for _ in range(6):
        kernel.allocate(0)
    samples.append(kernel.sample("w/end"))

    film = film_window(made_window(kernel.events, samples), moments=2)

    labels = [moment.sample for moment in film.moments if moment.sample]
    assert labels == ["w/begin", "w/1", "w/end"]
