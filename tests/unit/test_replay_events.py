"""Events read as operations: probes that pair, ranges, addresses, releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from analysis.memory.geometry import Geometry, geometry_of
from analysis.model.release import Release
from analysis.replay.events import Operations, operations
from analysis.replay.operation import EVENTS, Op
from analysis.replay.rules import Rules, has_pcp_list, missing_probes, rules_of
from analysis.trace import EventStream
from tests.made_window import (
    FIRST_PFN,
    PAGEBLOCK_ORDER,
    STRUCT_PAGE_BYTES,
    VMEMMAP,
    MadeKernel,
    made_window,
)

OLD, NEW = rules_of(Release(6, 1)), rules_of(Release(6, 12))
COMMON: list[tuple[str, str]] = [("counter", "<u8"), ("cpu", "<u2"), ("pid", "<i4")]

Rows = Sequence[Mapping[str, int]]


def geometry() -> Geometry:
    return geometry_of(MadeKernel().sample("w/begin"))


def stream(**events: Rows) -> EventStream:
    """Events by short name; all fields 64 bits wide, so that none is read where it lies."""
    made = made_window([], [MadeKernel().sample("w/begin")]).stream
    assert made is not None
    arrays: dict[str, Any] = {}
    for name, rows in events.items():
        fields = [key for key in rows[0] if key not in ("counter", "cpu", "pid")]
        array = np.zeros(len(rows), [*COMMON, *((field, "<u8") for field in fields)])
        for at, row in enumerate(rows):
            for key, value in {"cpu": 0, "pid": 1, **row}.items():
                array[key][at] = np.uint64(value & (1 << 64) - 1) if key in fields else value
        arrays[f"mmscope/{name}"] = array
    counters = np.unique(np.concatenate([array["counter"] for array in arrays.values()]))
    return EventStream(
        arrays=MappingProxyType(arrays),
        ranks=MappingProxyType(
            {name: np.searchsorted(counters, a["counter"]) for name, a in arrays.items()}
        ),
        formats=MappingProxyType(dict.fromkeys(arrays)),  # type: ignore[arg-type]
        clock="counter",
        readings=made.readings,
        events_by_cpu=MappingProxyType({}),
        unknown=MappingProxyType({}),
    )


def read(rules: Rules, begin: int = 0, end: int = 1000, **events: Rows) -> Operations:
    return operations(stream(**events), rules, geometry(), begin=begin, end=end)


def shown(found: Operations) -> list[tuple[str, str, int, int]]:
    return [
        (EVENTS[row["event"]], Op(row["op"]).name, int(row["pfn"]), int(row["order"]))
        for row in found.records
    ]


def page(pfn: int) -> int:
    return VMEMMAP + STRUCT_PAGE_BYTES * pfn


def test_only_events_between_the_samples_count() -> None:
    rows = [{"counter": at, "page": page(at), "order": 0, "migratetype": 1} for at in range(1, 6)]

    found = read(OLD, begin=2, end=4, putback_isolated_page=rows)

    assert [pfn for *_, pfn, _ in shown(found)] == [3, 4]


def test_isolations_count_where_they_returned_with_pages() -> None:
    found = read(
        OLD,
        isolate_free_page=[
            {"counter": 1, "cpu": 0, "page": page(8), "order": 3},
            {"counter": 2, "cpu": 1, "page": page(16), "order": 2},
            {"counter": 5, "cpu": 0, "page": page(32), "order": 1},
        ],
        isolate_free_page_return=[
            {"counter": 3, "cpu": 1, "taken": 4},
            {"counter": 4, "cpu": 0, "taken": 8},
            {"counter": 6, "cpu": 0, "taken": 0},
        ],
    )

    assert shown(found) == [
        ("isolate_free_page", "TAKE", 16, 2),
        ("isolate_free_page", "TAKE", 8, 3),
    ]
    assert not found.problems


def test_an_entry_without_a_return_is_a_problem() -> None:
    found = read(
        OLD,
        isolate_free_page=[{"counter": 1, "page": page(8), "order": 3}],
        isolate_free_page_return=[{"counter": 2, "cpu": 1, "taken": 4}],
    )

    assert found.problems == ("probe isolate_free_page: 1 entries and 1 returns do not pair",)
    assert not len(found.records)


def test_an_address_between_struct_pages_is_a_problem() -> None:
    found = read(OLD, put_page_back_buddy=[{"counter": 1, "page": page(8) + 1}])

    assert any("not that of a struct page" in problem for problem in found.problems)


def test_a_range_is_isolated_block_by_block_and_freed_when_it_failed() -> None:
    size = 1 << PAGEBLOCK_ORDER
    span = {"start_pfn": FIRST_PFN, "end_pfn": FIRST_PFN + 2 * size}
    found = read(
        NEW,
        start_isolate_page_range=[{"counter": 1, "pid": 5, **span}],
        start_isolate_page_range_return=[{"counter": 3, "cpu": 1, "pid": 5, "error": -16}],
    )

    blocks = [FIRST_PFN, FIRST_PFN + size]
    assert [(op, pfn) for _, op, pfn, _ in shown(found)] == [
        *(("ISOLATE", pfn) for pfn in blocks),
        *(("UNISOLATE", pfn) for pfn in blocks),
    ]
    assert [int(row["counter"]) for row in found.records] == [1, 1, 3, 3]


def test_blocks_go_before_ranges_where_the_kernel_shows_them() -> None:
    found = read(
        NEW,
        start_isolate_page_range=[{"counter": 1, "start_pfn": 0, "end_pfn": 1 << 20}],
        start_isolate_page_range_return=[{"counter": 9, "error": 0}],
        set_migratetype_isolate=[{"counter": 2, "page": page(FIRST_PFN)}],
        unset_migratetype_isolate=[{"counter": 10, "page": page(FIRST_PFN)}],
    )

    assert [(op, pfn) for _, op, pfn, _ in shown(found)] == [
        ("ISOLATE", FIRST_PFN),
        ("UNISOLATE", FIRST_PFN),
    ]


def test_a_free_past_the_per_cpu_lists_is_taken_once() -> None:
    free = {"zone": 1, "page": page(8), "pfn": 8, "order": 0}
    direct = [{"counter": 1, **free, "fpi_flags": 0}]
    locked = [{"counter": 2, **free, "fpi_flags": 0}]

    both = read(NEW, free_one_page=direct, split_large_buddy=locked)
    assert shown(both) == [("split_large_buddy", "GIVE_OR_SPLIT", 8, 0)]
    assert shown(read(NEW, free_one_page=direct)) == [("free_one_page", "GIVE", 8, 0)]


def test_memory_that_was_taken_away_is_a_problem() -> None:
    found = read(OLD, offline_isolated_pages=[{"counter": 1, "start_pfn": 0, "end_pfn": 64}])

    assert any("hot-remove" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("order", "lists", "kept"), [(0, 12, True), (3, 12, True), (4, 12, False), (9, 12, False)]
)
def test_orders_with_per_cpu_lists(order: int, lists: int, kept: bool) -> None:
    assert has_pcp_list(order, pcp_types=3, pcp_lists=lists, pageblock_order=9) is kept


def test_huge_pages_have_per_cpu_lists_of_their_own() -> None:
    assert has_pcp_list(9, pcp_types=3, pcp_lists=15, pageblock_order=9)
    assert not has_pcp_list(10, pcp_types=3, pcp_lists=15, pageblock_order=9)


def test_one_of_two_probes_is_enough_since_6_10() -> None:
    others = {"isolate_free_page", "isolate_free_page_return", "putback_isolated_page"}

    assert missing_probes(NEW, others | {"free_one_page"}) == []
    assert missing_probes(NEW, others) == ["split_large_buddy or free_one_page"]
    assert missing_probes(OLD, others | {"split_large_buddy"}) == ["free_one_page"]
