"""Laws between numbers of /proc: what holds for all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.model import vmstat_names
from analysis.model.drift import Finding, Reading, node_threshold, private_pages, settle
from analysis.model.identities import blocks, meminfo, zones
from analysis.model.release import Release

counts = st.integers(0, 1 << 40)
rows = st.lists(st.integers(0, 1 << 20), max_size=14)


@given(
    counts,
    st.integers(0, 100),
    st.integers(0, 100),
    counts,
    st.sampled_from([4096, 16384, 65536]),
)
def test_commit_limit_grows_with_its_share(
    total: int, ratio: int, percent: int, swap: int, page: int
) -> None:
    hugetlb = total * percent // 100

    def limit(ratio: int, kbytes: int = 0) -> int:
        return meminfo.commit_limit_pages(
            total_pages=total,
            hugetlb_pages=hugetlb,
            swap_pages=swap,
            overcommit_ratio=ratio,
            overcommit_kbytes=kbytes,
            page_size_bytes=page,
        )

    assert swap <= limit(ratio) <= limit(ratio + 1)
    assert limit(100) == total - hugetlb + swap
    assert limit(0) == swap
    assert limit(ratio, page // 1024) == 1 + swap


@given(st.dictionaries(st.sampled_from([64, 2048, 32768, 1048576]), st.integers(0, 1 << 20)))
def test_pools_add_up(pools: dict[int, int]) -> None:
    whole = meminfo.hugetlb_kib(pools)
    assert whole == sum(meminfo.hugetlb_kib({size: pools[size]}) for size in pools)


@given(counts, st.sampled_from([4096, 16384, 65536]))
def test_a_counter_shown_in_kib(pages: int, page: int) -> None:
    line = meminfo.LINES["MemFree"]
    assert meminfo.in_unit_of_counter(line, pages * page // 1024, page, 2048) == pages


@given(counts, counts, counts)
def test_sizes_nest_in_one_order_only(a: int, b: int, c: int) -> None:
    small, middle, large = sorted((a, b, c))
    assert zones.nests(managed_pages=small, present_pages=middle, spanned_pages=large)
    if small < middle < large:
        assert not zones.nests(managed_pages=large, present_pages=middle, spanned_pages=small)


@given(counts, st.integers(0, 256))
def test_direct_map_is_at_least_what_is_present(present: int, missing: int) -> None:
    pages = zones.direct_map_pages(present_pages=present, first_pfn=missing, lower_hole_pages=0)
    assert pages - present == missing


@given(rows, rows)
def test_free_pages_add_up(left: list[int], right: list[int]) -> None:
    both = blocks.blocks_by_type([left, right])
    assert both == blocks.pages_of_blocks(left) + blocks.pages_of_blocks(right)


@given(rows)
def test_a_split_block_keeps_its_pages(row: list[int]) -> None:
    for order in range(1, len(row)):
        if row[order]:
            split = list(row)
            split[order] -= 1
            split[order - 1] += 2
            assert blocks.pages_of_blocks(split) == blocks.pages_of_blocks(row)


@given(st.lists(counts, min_size=1, max_size=4), st.integers(1, 4096))
def test_thresholds_grow_with_memory_and_cpus(managed: list[int], cpus: int) -> None:
    threshold = node_threshold(managed, cpus, 12)
    assert threshold <= 125
    assert threshold <= node_threshold([*managed, max(managed) * 2], cpus, 12)
    assert threshold <= node_threshold(managed, cpus + 1, 12)
    assert private_pages([threshold] * cpus) == threshold * cpus


readings = st.builds(
    Reading,
    terms=st.tuples(st.integers(0, 50)),
    again=st.none() | st.tuples(st.integers(0, 50)),
)


@given(readings, readings, st.integers(0, 20), st.none() | st.integers(0, 20))
def test_equal_readings_never_fail(
    first: Reading, second: Reading, private: int, moved: int | None
) -> None:
    finding = settle(first, second, private=private, moved=moved)
    if abs(first.total - second.total) <= private:
        assert finding in (Finding.EQUAL, Finding.WITHIN)
    if finding is Finding.OFF:
        assert first.steady or second.steady
    if first.again is None and second.again is None:
        assert finding is not Finding.OFF


@given(readings, readings, st.integers(0, 20))
def test_more_room_excuses_more(first: Reading, second: Reading, private: int) -> None:
    tight = settle(first, second, private=private)
    loose = settle(first, second, private=private + 5)
    assert not (loose is Finding.OFF and tight is not Finding.OFF)
    assert (tight is Finding.EQUAL) == (loose is Finding.EQUAL) or loose is Finding.WITHIN


@given(
    st.sampled_from(vmstat_names.COMPARED),
    st.sets(
        st.sampled_from(["NUMA", "SWAP", "CMA", "KSM", "TRANSPARENT_HUGEPAGE", "HIGHMEM", "X86"])
    ),
    st.sampled_from(["NUMA", "SWAP", "CMA", "COMPACTION", "HIGHMEM", "ZONE_DEVICE"]),
)
def test_an_option_adds_counters(release: Release, options: set[str], option: str) -> None:
    base = frozenset({*options, "VM_EVENT_COUNTERS"})
    names = vmstat_names.counter_names(release, base, stack_bytes=16384)
    more = vmstat_names.counter_names(release, base | {option}, stack_bytes=16384)
    assert names <= more
