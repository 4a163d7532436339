"""Free runs over random histories: exact under the kernel's rules, sound under any others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.policy import KERNEL, parse_policy
from analysis.replay.allocator_state import compare_allocator, load_allocator
from analysis.replay.free_run import blocks_of, run_freely
from analysis.replay.request_stream import follow
from analysis.replay.stream_files import read_stream, write_stream
from tests.made_stream import made_stream

RELEASES = ("6.1.0", "6.12.0", "7.3.0")
POLICIES = (
    "pcp=off", "pcp_batch=1", "pcp_high=3", "mobility=off", "fallback=reversed", "steal=never",
    "steal=always", "freed=head", "freed=tail", "shuffle=on", "shuffle=on:7", "nofragment=off",
    "boost=off",
)  # fmt: skip
Acts = list[tuple[int, int]]
histories = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 5000)), min_size=20, max_size=120)
releases = st.sampled_from(RELEASES)


def not_allocated(allocator: Allocator) -> set[int]:
    """Pages on the lists of zones and CPUs; asserts that none is on two."""
    pages: list[int] = []
    for zone in allocator.zones:
        zone.free.check()
        for block in zone.free.blocks():
            pages += range(block.pfn, block.pfn + (1 << block.order))
    for pcp in allocator.pcps.values():
        listed = 0
        for pindex, blocks in enumerate(pcp.lists):
            for pfn in blocks:
                pages += range(pfn, pfn + (1 << pcp.order(pindex)))
                listed += 1 << pcp.order(pindex)
        assert listed == pcp.count
    assert len(set(pages)) == len(pages)
    return set(pages)


@settings(max_examples=60, deadline=None)
@given(histories, histories, releases)
def test_under_the_kernels_rules_a_free_run_ends_where_the_kernel_did(
    before: Acts, history: Acts, release: str
) -> None:
    stream, _ = made_stream(before, history, release)
    followed = follow(stream)
    assert followed.result.exact == followed.result.requests
    run = run_freely(stream, followed)
    assert run.same_page == run.requests
    assert not run.aside
    assert stream.end is not None
    end = compare_allocator(run.allocator, stream.end)
    assert end.lists_in_order
    assert not end.counters_differing


@settings(max_examples=120, deadline=None)
@given(histories, histories, releases, st.sampled_from(POLICIES))
def test_pages_are_conserved_under_every_policy(
    before: Acts, history: Acts, release: str, policy: str
) -> None:
    stream, kernel = made_stream(before, history, release)
    run = run_freely(stream, follow(stream), parse_policy([policy]))
    not_there = {
        what: count for what, count in run.aside.items() if what.startswith("isolated blocks")
    }
    free, kernels = not_allocated(run.allocator), not_allocated(kernel.allocator)
    if run.aside == not_there:  # every request was served
        assert len(free) == len(kernels)
    exact = run.allocator.zones[0].nr_free.exact()
    assert exact == run.allocator.zones[0].free.free_pages


@settings(max_examples=20, deadline=None)
@given(histories, histories, releases)
def test_a_stream_written_and_read_is_predicted_alike(
    before: Acts, history: Acts, release: str
) -> None:
    stream, _ = made_stream(before, history, release)
    followed = follow(stream)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "w.requests"
        write_stream(stream, followed, path)
        again = read_stream(path)
    assert again.end is not None
    assert compare_allocator(load_allocator(again.begin), stream.begin).lists_in_order
    other = follow(again)
    assert other.result == followed.result
    assert other.comparison == followed.comparison
    assert other.bulk_pages == followed.bulk_pages
    assert other.turns.tolist() == followed.turns.tolist()
    for mine, theirs in zip(stream.steps, again.steps, strict=True):
        assert (mine.kind, mine.pfn, mine.order, mine.effect) == (
            theirs.kind,
            theirs.pfn,
            theirs.order,
            theirs.effect,
        )
        assert mine.locked == theirs.locked
        assert mine.drained == theirs.drained


@given(st.lists(st.integers(-1, 40), max_size=40))
def test_blocks_of_pages_are_those_pages_in_order(pages: list[int]) -> None:
    blocks = list(blocks_of(pages))
    assert all(pfn % (1 << order) == 0 for pfn, order in blocks)
    told = [page for pfn, order in blocks for page in range(pfn, pfn + (1 << order))]
    assert told == [page for page in pages if page >= 0]


def test_no_option_is_the_kernels_own_policy() -> None:
    assert parse_policy([]) == KERNEL


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_differs_from_the_kernels(policy: str) -> None:
    assert parse_policy([policy]) != KERNEL
