"""From events to requests: whose blocks are whose, what was interrupted, and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.model.eras import era_of
from analysis.model.release import Release
from analysis.replay.requests import RequestReader
from analysis.replay.step import Kind, Step
from analysis.replay.timeline import EVENT_CODES, TIMELINE_ROW, PageAddresses

MEMMAP = 0xFFFFEA0000000000
GFP_KERNEL = 0xCC0


def rows(*events: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Events as (name, a, b, c, d, {cpu, pid, level}), one counter after the other."""
    made = np.zeros(len(events), TIMELINE_ROW)
    for number, (name, *values) in enumerate(events):
        where = values.pop() if values and isinstance(values[-1], dict) else {}
        made[number]["counter"] = number + 1
        made[number]["code"] = EVENT_CODES[name]
        made[number]["pid"] = where.get("pid", 7)
        made[number]["cpu"] = where.get("cpu", 0)
        made[number]["level"] = where.get("level", 0)
        for column, value in zip("abcd", values, strict=False):
            made[number][column] = value
    return made


def read(
    *events: tuple[Any, ...],
    release: tuple[int, int] | None = None,
    zone_starts: tuple[int, ...] = (),
) -> list[Step]:
    reader = RequestReader(
        PageAddresses(vmemmap_base=MEMMAP, struct_page_bytes=64),
        huge_order=9,
        era=era_of(Release(*(release or (6, 1)))),
        zone_starts=zone_starts,
    )
    return reader.read(rows(*events))


def alloc(pfn: int, order: int = 0, migratetype: int = 0, **where: int) -> tuple[Any, ...]:
    return ("mm_page_alloc", pfn, order, GFP_KERNEL, migratetype, where)


def test_blocks_fetched_before_an_allocation_are_its_refill() -> None:
    steps = read(
        ("mm_page_alloc_zone_locked", 64, 0, 0),
        ("mm_page_alloc_zone_locked", 65, 0, 0),
        alloc(64),
        alloc(65),
    )
    assert [step.kind for step in steps] == [Kind.ALLOCATE, Kind.ALLOCATE]
    assert steps[0].locked == [(64, 0), (65, 0)]
    assert (steps[0].effect, steps[0].event) == (1, 3)
    assert steps[1].locked == []


def test_refills_of_an_interrupt_are_the_interrupts() -> None:
    steps = read(
        ("mm_page_alloc_zone_locked", 64, 0, 0),
        ("mm_page_alloc_zone_locked", 96, 0, 0, {"level": 1}),
        alloc(96, level=1),
        alloc(64),
    )
    by_pfn = {step.pfn: step for step in steps}
    assert by_pfn[64].locked == [(64, 0)]
    assert by_pfn[96].locked == [(96, 0)]
    assert [step.pfn for step in steps] == [64, 96]


def test_failed_allocations_ask_for_nothing() -> None:
    assert read(alloc((1 << 64) - 1)) == []


def test_a_batched_free_takes_effect_when_its_turn_comes() -> None:
    steps = read(
        ("mm_page_free", 10, 0),
        ("mm_page_free", 11, 0),
        ("mm_page_free_batched", 10),
        ("mm_page_pcpu_drain", 99, 0, 1),
        ("mm_page_free_batched", 11),
    )
    assert [(step.pfn, step.effect, step.drained) for step in steps] == [
        (10, 4, [(99, 0)]),
        (11, 5, []),
    ]


def test_large_frees_go_straight_to_the_zone() -> None:
    (step,) = read(("mm_page_free", 64, 6))
    assert step.kind is Kind.FREE_DIRECT


def test_a_free_past_the_lists_is_direct_where_the_probe_says_so() -> None:
    (step,) = read(("mm_page_free", 10, 0), ("free_one_page", 10, 0, 0))
    assert (step.kind, step.effect) == (Kind.FREE_DIRECT, 2)


def test_pages_freed_as_one_range_become_blocks() -> None:
    steps = read(
        *(("mm_page_free", pfn, 0) for pfn in range(4, 11)),
        ("free_prepared_range", MEMMAP + 64 * 4, 7),
        ("mm_page_pcpu_drain", 4, 2, 0),
    )
    (step,) = steps
    assert step.kind is Kind.FREE_RANGE
    assert step.pieces == [(4, 2), (8, 1), (10, 0)]
    assert step.drained == [(4, 2)]


def test_isolation_counts_only_when_the_block_was_given() -> None:
    page = MEMMAP + 64 * 512
    (step,) = read(
        ("isolate_free_page", page, 3),
        ("isolate_free_page_return", 0),
        ("isolate_free_page", page, 4),
        ("isolate_free_page_return", 16),
    )
    assert (step.kind, step.pfn, step.order) == (Kind.ISOLATE, 512, 4)


def test_a_bulk_knows_what_it_got_and_fetched() -> None:
    (step,) = read(
        ("alloc_pages_bulk", GFP_KERNEL, 0, 4),
        ("mm_page_alloc_zone_locked", 64, 0, 0),
        ("alloc_pages_bulk_return", 4),
    )
    assert (step.kind, step.count, step.locked) == (Kind.BULK, 4, [(64, 0)])


def test_a_bulk_that_fell_back_to_one_page_leaves_it_to_that_request() -> None:
    steps = read(
        ("alloc_pages_bulk", GFP_KERNEL, 0, 4),
        alloc(64),
        ("alloc_pages_bulk_return", 1),
    )
    counts = {step.kind: step.count for step in steps}
    assert counts == {Kind.BULK: 0, Kind.ALLOCATE: 0}


def test_drains_belong_to_whoever_drains() -> None:
    steps = read(
        ("mm_page_free", 10, 0),
        ("drain_pages_zone", 0x1234, 1),
        ("mm_page_pcpu_drain", 20, 0, 1),
        ("mm_page_pcpu_drain", 30, 0, 1, {"pid": 8}),
    )
    assert [(step.kind, step.drained) for step in steps] == [
        (Kind.FREE, []),
        (Kind.DRAIN_ALL, [(20, 0)]),
        (Kind.UNKNOWN_DRAIN, [(30, 0)]),
    ]
    assert (steps[1].pointer, steps[1].count) == (0x1234, 1)


def test_captured_blocks_come_from_the_tasks_own_frees() -> None:
    steps = read(
        ("mm_page_free", 32, 5),
        alloc(32, 5),
    )
    assert [step.kind for step in steps] == [Kind.FREE_DIRECT, Kind.CAPTURED]
    assert steps[0].captured == {32: 5}


def test_a_page_that_left_the_lists_again_was_not_captured() -> None:
    steps = read(
        ("mm_page_free", 4, 2),
        ("drain_pages_zone", 0x1234, 0),
        ("mm_page_pcpu_drain", 4, 2, 0),
        ("mm_page_alloc_zone_locked", 4, 2, 0, {"pid": 9}),
        ("mm_page_alloc_zone_locked", 8, 2, 0, {"pid": 9}),
        alloc(8, 2, pid=9),
        alloc(4, 2),
    )
    assert [step.kind for step in steps][-1] is Kind.ALLOCATE


def test_fallbacks_that_take_without_the_usual_event_are_seen_since_6_12() -> None:
    steal = ("mm_page_alloc_extfrag", 64, 0, 5)
    (step,) = read(steal, alloc(64), release=(6, 12))
    assert step.locked == [(64, 0)]
    (step,) = read(("mm_page_alloc_zone_locked", 64, 0, 0), steal, alloc(64), release=(6, 12))
    assert step.locked == [(64, 0)]
    assert step.borrowed == [64]


def test_bounds_are_the_contexts_own_events() -> None:
    steps = read(
        alloc(1),
        alloc(2, level=1),
        alloc(3, pid=8),
        alloc(4),
    )
    bounds = {step.pfn: (step.after, step.before) for step in steps}
    assert bounds[1] == (-1, 4)
    assert bounds[4][0] == 1
    assert bounds[3] == (-1, 1 << 62)


def test_pageblocks_are_set_apart_only_when_their_free_pages_move() -> None:
    first, second = MEMMAP + 64 * 512, MEMMAP + 64 * 1024
    steps = read(
        ("set_migratetype_isolate", first),
        ("unset_migratetype_isolate", first),
        ("set_migratetype_isolate", second),
        ("move_freepages_block",),
    )
    assert [(step.kind, step.pfn) for step in steps] == [
        (Kind.UNISOLATE_PAGEBLOCK, 512),
        (Kind.ISOLATE_PAGEBLOCK, 1024),
    ]


def test_movable_lists_are_open_at_each_use_while_compaction_runs() -> None:
    steps = read(
        ("mm_compaction_begin", 4096, {"pid": 27}),
        ("mm_page_alloc_zone_locked", 64, 0, 1),
        alloc(64, migratetype=1),
        ("mm_page_alloc_zone_locked", 65, 0, 0),
        alloc(65),
        ("mm_compaction_end", 4096, {"pid": 27}),
    )
    kinds = [(step.kind, step.effect) for step in steps]
    assert kinds == [
        (Kind.COMPACTION, 1),
        (Kind.COMPACTION, 2),
        (Kind.ALLOCATE, 2),
        (Kind.ALLOCATE, 4),
        (Kind.COMPACTION, 6),
    ]


def test_kswapd_is_known_by_its_own_events() -> None:
    steps = read(
        ("mm_vmscan_kswapd_wake", 1, {"pid": 50}),
        ("set_pgdat_percpu_threshold", 0xABC, 0, {"pid": 50}),
        ("balance_pgdat", 0xABC, {"pid": 50}),
        ("balance_pgdat_return", {"pid": 50}),
        ("mm_vmscan_kswapd_sleep", 1, {"pid": 50}),
        ("set_pgdat_percpu_threshold", 0xABC, 0, {"pid": 50}),
        ("mm_vmscan_wakeup_kswapd", 1),
    )
    assert [(step.kind, step.node, step.count) for step in steps] == [
        (Kind.KSWAPD_WAKE, 1, 0),
        (Kind.THRESHOLD, 1, 1),
        (Kind.BALANCE_BEGIN, 1, 0),
        (Kind.BALANCE_END, 1, 1),
        (Kind.KSWAPD_SLEEP, 1, 0),
        (Kind.THRESHOLD, 1, 0),
        (Kind.KSWAPD_WAKE, 1, 0),
    ]


def test_boosts_end_and_kswapd_queues_up_when_it_wakes_kcompactd() -> None:
    steps = read(
        ("wakeup_kcompactd", 0xABC, {"pid": 9}),
        ("mm_vmscan_kswapd_wake", 1, {"pid": 50}),
        ("balance_pgdat", 0xABC, {"pid": 50}),
        ("wakeup_kcompactd", 0xDEF, {"pid": 50}),
        ("wakeup_kcompactd", 0xABC, {"pid": 50}),
        ("balance_pgdat_return", {"pid": 50}),
        ("wakeup_kcompactd", 0xABC, {"pid": 50}),
    )
    assert [(step.kind, step.effect, step.count) for step in steps] == [
        (Kind.KSWAPD_WAKE, 2, 0),
        (Kind.BALANCE_BEGIN, 3, 0),
        (Kind.BOOST_END, 5, 0),
        (Kind.BALANCE_END, 6, 0),
        (Kind.KSWAPD_SLEEP, 7, 0),
    ]


def test_what_a_task_has_under_way_goes_with_it_to_another_cpu() -> None:
    steps = read(
        ("alloc_pages", 1, 0, GFP_KERNEL, {"cpu": 1}),
        ("mm_page_alloc_zone_locked", 64, 0, 0, {"cpu": 1}),
        ("mm_page_alloc_zone_locked", 65, 0, 0, {"cpu": 1}),
        alloc(64, cpu=0),
        alloc(66, cpu=0),
    )
    assert [(step.pfn, step.cpu, step.node, step.count, step.effect) for step in steps] == [
        (64, 1, 1, 0, 2),
        (66, 0, -1, 0, 5),
    ]


def test_the_lists_that_served_a_task_that_moved_are_those_its_page_was_on() -> None:
    steps = read(
        ("mm_page_free", 64, 0, {"cpu": 1}),
        ("mm_page_free", 65, 0, {"cpu": 0, "pid": 8}),
        ("alloc_pages", 0, 0, GFP_KERNEL, {"cpu": 1}),
        alloc(64, cpu=0),
        ("alloc_pages", 0, 0, GFP_KERNEL, {"cpu": 1}),
        alloc(65, cpu=0),
    )
    allocations = [step for step in steps if step.kind is Kind.ALLOCATE]
    assert [(step.pfn, step.cpu, step.count, step.effect) for step in allocations] == [
        (64, 1, 1, 3),
        (65, 0, 1, 6),
    ]


def test_idle_tasks_of_two_cpus_are_not_one_task() -> None:
    steps = read(
        ("mm_page_alloc_zone_locked", 64, 0, 0, {"cpu": 0, "pid": 0}),
        ("mm_page_alloc_zone_locked", 96, 0, 0, {"cpu": 1, "pid": 0}),
        alloc(96, cpu=1, pid=0),
        alloc(64, cpu=0, pid=0),
    )
    assert {step.pfn: step.locked for step in steps} == {64: [(64, 0)], 96: [(96, 0)]}


def test_a_free_goes_on_after_another_task_ran_between_its_batches() -> None:
    events = (
        ("mm_page_free", 64, 0),
        ("mm_page_pcpu_drain", 70, 0, 1),
        ("mm_page_pcpu_drain", 72, 1, 1),
        alloc(80, pid=8),
        ("mm_page_pcpu_drain", 71, 0, 1),
    )
    whole = read(*events)
    parts = read(*events, release=(7, 3))
    assert [(step.kind, step.drained) for step in whole if step.drained] == [
        (Kind.FREE, [(70, 0), (72, 1), (71, 0)])
    ]
    assert [(step.kind, step.drained, step.stop_after) for step in parts if step.drained] == [
        (Kind.FREE, [(70, 0), (72, 1)], 3),
        (Kind.DRAIN_REST, [(71, 0)], 0),
    ]


def test_an_announced_page_came_to_the_lists_where_it_is_found() -> None:
    def freed_on(*later: tuple[Any, ...]) -> tuple[int, int]:
        steps = read(("mm_page_free", 64, 0, {"cpu": 1}), ("mm_page_free", 65, 0), *later)
        return next((step.cpu, step.effect) for step in steps if step.pfn == 64)

    assert freed_on() == (1, 1)
    assert freed_on(("mm_page_pcpu_drain", 64, 0, 1)) == (0, 2)
    assert freed_on(alloc(64, pid=8)) == (0, 2)
    assert freed_on(alloc(64, pid=8, cpu=1)) == (1, 1)
    assert freed_on(("mm_page_free", 64, 0, {"pid": 8}), alloc(64, pid=8)) == (1, 1)
    assert freed_on(("drain_pages_zone", 0xABC, 1), ("mm_page_pcpu_drain", 64, 0, 1)) == (1, 1)


def test_an_announced_page_that_was_drained_before_its_task_moved_stays_where_it_was() -> None:
    steps = read(
        ("mm_page_free", 64, 0, {"cpu": 1}),
        ("mm_page_free", 70, 0, {"cpu": 1, "level": 1}),
        ("mm_page_pcpu_drain", 64, 0, 1, {"cpu": 1, "level": 1}),
        ("mm_page_free", 65, 0),
        alloc(64, pid=8),
    )
    assert [(step.cpu, step.effect) for step in steps if step.kind is Kind.FREE] == [
        (1, 1),
        (1, 3),
        (0, 4),
    ]


def test_a_free_gives_up_on_another_cpu() -> None:
    steps = read(
        ("mm_page_free", 64, 0, {"cpu": 0}),
        ("mm_page_pcpu_drain", 70, 0, 1, {"cpu": 0}),
        ("mm_page_free", 65, 0, {"cpu": 1}),
        release=(7, 3),
    )
    assert [(step.pfn, step.cpu, step.stop_after) for step in steps] == [(64, 0, 1), (65, 1, 0)]


def test_a_drain_goes_on_after_another_cpu_had_the_same_zone() -> None:
    def drained(other: int) -> list[list[tuple[int, int]]]:
        steps = read(
            ("drain_pages_zone", 0xABC, 0),
            ("mm_page_pcpu_drain", 70, 0, 1),
            ("mm_page_alloc_zone_locked", other, 0, 0, {"cpu": 1, "pid": 8}),
            ("mm_page_pcpu_drain", 71, 0, 1),
            zone_starts=(0, 4096),
        )
        return [step.drained for step in steps if step.drained]

    assert drained(99) == [[(70, 0)], [(71, 0)]]
    assert drained(5000) == [[(70, 0), (71, 0)]]


def test_pages_that_go_back_to_compaction_are_not_freed() -> None:
    steps = read(
        ("compaction_free", MEMMAP + 64 * 64),
        ("mm_page_free", 64, 0),
        ("compaction_free", MEMMAP + 64 * 70),
        ("mm_page_free", 65, 0),
        ("mm_page_free", 70, 0),
    )
    assert [step.pfn for step in steps] == [65, 70]


def test_a_folio_that_was_moved_is_as_large_as_the_old_one() -> None:
    steps = read(
        ("mm_lru_insertion", 60),
        ("mm_page_free", 30, 1),
        ("mm_compaction_begin", 0),
        ("mm_lru_insertion", 64),
        ("mm_lru_insertion", 96),
        ("mm_page_free", 32, 4),
        ("mm_lru_insertion", 128),
        alloc(130),
        ("mm_page_free", 48, 4),
    )
    inserted = [(step.pfn, step.order) for step in steps if step.kind is Kind.ON_LRU]
    assert inserted == [(60, 0), (64, 0), (96, 4), (128, 0)]


def test_clearing_up_after_another_task_does_not_bound_what_a_task_was_about() -> None:
    steps = read(
        alloc(64),
        alloc(65, pid=8),
        ("mm_page_free", 99, 0),
        alloc(66),
        alloc(67),
    )
    bounds = {step.pfn: (step.after, step.before) for step in steps}
    assert bounds[66] == (1, 5)
    assert bounds[67] == (4, 1 << 62)
    assert bounds[99] == (1, 4)


def test_a_bulk_request_came_before_the_interrupt_whose_page_it_left_there() -> None:
    def effect(*later: tuple[Any, ...]) -> int:
        steps = read(
            ("alloc_pages_bulk", GFP_KERNEL, 0, 4),
            ("mm_page_free", 64, 0, {"level": 1}),
            ("mm_page_free", 65, 0, {"level": 1}),
            ("alloc_pages_bulk_return", 4),
            *later,
        )
        return next(step.effect for step in steps if step.kind is Kind.BULK)

    assert effect(alloc(65)) == 1
    assert effect(alloc(64)) == 4
    assert effect(("mm_page_free", 65, 0), alloc(65)) == 4
