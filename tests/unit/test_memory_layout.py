"""Rules that differ between releases and configurations, and how the memmap is cut up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import MissingSymbolError
from harness.sampling.memory.btf import Btf
from harness.sampling.memory.layout import (
    PageblockBits,
    buddy_type,
    migratetype_names,
    page_flag_bits,
    pageblock_bits,
    pageblock_order,
    release_numbers,
)
from harness.sampling.memory.scan import RUN_OFFSET, RUN_PAGES, RUN_PFN, scan_heads
from harness.sampling.memory.scanner import split_runs
from harness.sampling.memory.topology import frame_ranges
from tests.made_btf import MadeBtf


def enum_btf(name: str, values: dict[str, int]) -> Btf:
    made = MadeBtf()
    made.enum(name, values)
    return Btf(made.bytes, "made")


@pytest.mark.parametrize(
    ("release", "numbers"),
    [("6.1.0-56-amd64", (6, 1)), ("6.12.95+deb12-arm64-16k", (6, 12)), ("7.3-amd64", (7, 3))],
)
def test_release_numbers(release: str, numbers: tuple[int, int]) -> None:
    assert release_numbers(release) == numbers


def test_a_release_without_numbers() -> None:
    with pytest.raises(MissingSymbolError, match="'next' does not begin with two numbers"):
        release_numbers("next")


@pytest.mark.parametrize(
    ("stated", "free", "others"),
    [
        # up to 6.11: bits cleared in a word of ones; guard and table pages, and no type at all
        (-129, [0xFFFF_FF7F], [0xFFFF_FFFF, 0xFFFF_FDFF, 0xFFFF_FBFF, 0]),
        # later: the highest byte; a mapcount of any size, slab, and no type at all
        (-268435456, [0xF000_0000, 0xF000_0001], [0xFFFF_FFFF, 0, 41, 0xF500_0000]),
    ],
)
def test_free_pages_by_their_type(stated: int, free: list[int], others: list[int]) -> None:
    mask, value = buddy_type(stated)
    assert all(word & mask == value for word in free)
    assert not any(word & mask == value for word in others)


def test_migratetypes_in_the_kernels_order() -> None:
    types = {"MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_RECLAIMABLE": 2}
    types |= {"MIGRATE_PCPTYPES": 3, "MIGRATE_HIGHATOMIC": 3}
    plain = {**types, "MIGRATE_ISOLATE": 4, "MIGRATE_TYPES": 5}
    assert migratetype_names(plain) == (
        *("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"),
    )
    new = {**types, "MIGRATE_CMA": 4, "__MIGRATE_TYPE_END": 4, "MIGRATE_ISOLATE": 5}
    assert migratetype_names({**new, "MIGRATE_TYPES": 6})[4:] == ("CMA", "Isolate")
    with pytest.raises(MissingSymbolError, match="values that are not known"):
        migratetype_names({**types, "MIGRATE_FUTURE": 4, "MIGRATE_TYPES": 5})


@pytest.mark.parametrize(
    ("config", "pmd_order", "max_order", "expected"),
    [
        ({"CONFIG_HUGETLB_PAGE": "y"}, 9, 10, 9),  # 4 KiB pages, stock
        ({"CONFIG_HUGETLB_PAGE": "y"}, 11, 11, 11),  # arm64 16 KiB
        ({"CONFIG_HUGETLB_PAGE": "y"}, 13, 13, 13),  # arm64 64 KiB
        ({"CONFIG_TRANSPARENT_HUGEPAGE": "y"}, 9, 10, 9),
        ({"CONFIG_HUGETLB_PAGE": "n"}, 9, 10, 10),
        ({"CONFIG_HUGETLB_PAGE": "y", "CONFIG_PAGE_BLOCK_MAX_ORDER": "10"}, 9, 10, 9),
        ({"CONFIG_HUGETLB_PAGE": "y", "CONFIG_PAGE_BLOCK_MAX_ORDER": "6"}, 9, 10, 6),
        ({"CONFIG_PAGE_BLOCK_MAX_ORDER": "7"}, 9, 10, 7),
    ],
)
def test_pageblock_order(
    config: dict[str, str], pmd_order: int, max_order: int, expected: int
) -> None:
    assert pageblock_order(config, pmd_order, max_order) == expected


def test_pageblock_bits_of_old_and_new_kernels() -> None:
    old = {"PB_migrate": 0, "PB_migrate_end": 2, "PB_migrate_skip": 3, "NR_PAGEBLOCK_BITS": 4}
    assert pageblock_bits(enum_btf("pageblock_bits", old)) == PageblockBits(
        bits=4, migratetype_mask=7, skip_bit=3, isolate_bit=-1
    )
    names = ["PB_migrate_0", "PB_migrate_1", "PB_migrate_2", "PB_compact_skip"]
    new = [*names, "PB_migrate_isolate", "__NR_PAGEBLOCK_BITS"]
    assert pageblock_bits(
        enum_btf("pageblock_bits", {name: number for number, name in enumerate(new)})
    ) == PageblockBits(bits=8, migratetype_mask=7, skip_bit=3, isolate_bit=4)
    plain = [*names, "__NR_PAGEBLOCK_BITS"]
    assert pageblock_bits(
        enum_btf("pageblock_bits", {name: number for number, name in enumerate(plain)})
    ) == PageblockBits(bits=4, migratetype_mask=7, skip_bit=3, isolate_bit=-1)


def test_page_flags_keep_aliases_and_drop_counts() -> None:
    flags = {"PG_locked": 0, "PG_reclaim": 18, "__NR_PAGEFLAGS": 23, "PG_readahead": 18}
    found = page_flag_bits(enum_btf("pageflags", {**flags, "PG_head_mask": 1}))
    assert found == {"locked": 0, "reclaim": 18, "readahead": 18}


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=4),
)
def test_frame_ranges_are_what_is_in_a_zone_and_has_a_memmap(
    zones: list[tuple[int, int]], valid: list[tuple[int, int]]
) -> None:
    zones = [(start, start + size) for start, size in zones]
    valid = [(start, start + size) for start, size in valid]
    rows = frame_ranges(zones, valid).tolist()
    covered = [pfn for start, pages in rows for pfn in range(start, start + pages)]
    inside = {pfn for start, end in zones for pfn in range(start, end)}
    mapped = {pfn for start, end in valid for pfn in range(start, end)}
    assert covered == sorted(inside & mapped)
    assert all(a + b < c for (a, b), (c, _) in itertools.pairwise(rows))


MAX_ORDER, PAGE_BYTES, BUDDY = 3, 64, 0xF000_0000
PAGE = np.array([PAGE_BYTES, 0, 8, 24, 40, 48, -1, 0xFF00_0000, BUDDY, MAX_ORDER])


@given(
    st.lists(st.integers(-1, MAX_ORDER + 1), min_size=1, max_size=60),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_every_head_is_found_in_any_number_of_parts(
    layout: list[int], gaps: list[int], parts: int
) -> None:
    """Blocks (-1: a page in use; beyond the largest order: damage) in runs with holes between."""
    ram = np.full(1 << 16, 0xFF, np.uint8)
    words, halves = ram.view(np.uint64), ram.view(np.uint32)
    runs: list[tuple[int, int, int]] = []
    expected: list[tuple[int, int]] = []
    pfn = row = 0
    for gap, orders in zip(gaps, np.array_split(layout, len(gaps)), strict=True):
        first, first_row = pfn, row
        for order in orders.tolist():
            size = 1 << order if 0 <= order <= MAX_ORDER else 1
            if order >= 0 and pfn % size == 0:
                halves[(row * PAGE_BYTES + 48) // 4] = BUDDY
                words[(row * PAGE_BYTES + 40) // 8] = order
                expected.append((pfn, order))
            else:
                size = 1
            pfn, row = pfn + size, row + size
        if row > first_row:
            runs.append((first, row - first_row, first_row * PAGE_BYTES))
        pfn += gap << MAX_ORDER
        pfn += -pfn % (1 << MAX_ORDER)
    split = split_runs(np.array(runs, np.int64).reshape(-1, 3), parts, MAX_ORDER, PAGE_BYTES)
    assert len(split) == parts
    assert sum(int(part[:, RUN_PAGES].sum()) for part in split) == row
    for part in split:
        for run in part:
            whole = next(r for r in reversed(runs) if r[0] <= run[RUN_PFN])
            assert run[RUN_OFFSET] == whole[2] + (run[RUN_PFN] - whole[0]) * PAGE_BYTES
    found: list[tuple[int, int]] = []
    for part in split:
        heads = np.zeros((100, 5), np.uint64)
        count = scan_heads(words, halves, part, PAGE, heads)
        found += [(int(pfn), int(order)) for pfn, order in heads[:count, :2]]
    assert found == expected


def test_a_full_table_of_heads_stops_the_scan() -> None:
    ram = np.zeros(PAGE_BYTES * 8, np.uint8)
    halves = ram.view(np.uint32)
    halves[12::16] = BUDDY
    heads = np.zeros((5, 5), np.uint64)
    runs = np.array([[0, 8, 0]], np.int64)
    assert scan_heads(ram.view(np.uint64), halves, runs, PAGE, heads) == 5
