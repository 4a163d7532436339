"""Policies: how they are asked for, and what each changes in a small allocator."""

from __future__ import annotations

import pytest

from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.counterfactual import impose
from analysis.model.allocator.policy import KERNEL, OPTIONS, Policy, Steal, parse_policy
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from tests.allocator_model import fill, make_allocator, make_zone, request

U, M, R = Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE
HALF = 512
OLD = Release(6, 1)


def allocator_under(
    text: str, blocks: list[tuple[int, int, Migratetype]], release: Release = OLD
) -> Allocator:
    zone = make_zone(release=release)
    fill(zone, blocks)
    allocator = make_allocator(zone)
    impose(allocator, parse_policy([text] if text else []))
    return allocator


@pytest.mark.parametrize(
    "text",
    ["", "mobility", "mobility=on", "mobilty=off", "pcp_batch=0", "pcp_batch=-1", "pcp_batch=x",
     "pcp_high=", "shuffle=on:", "shuffle=on:x", "shuffle=off", "fallback=kernel", "steal=maybe"],
)  # fmt: skip
def test_what_is_no_option_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=r"may be|is none of") as refused:
        parse_policy([text])
    name = text.partition("=")[0]
    known = next((option for option in OPTIONS if option.name == name and "=" in text), None)
    expected = [known.values] if known else [option.name for option in OPTIONS]
    assert all(word in str(refused.value) for word in expected)


@pytest.mark.parametrize(
    "texts",
    [["mobility=off", "mobility=off"], ["pcp=off", "pcp_high=3"], ["shuffle=on", "freed=head"]],
)
def test_options_that_exclude_each_other(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"twice|leaves no|both say"):
        parse_policy(texts)


def test_options_add_up() -> None:
    policy = parse_policy(["steal=never", "pcp_batch=1", "shuffle=on:9"])
    assert policy == Policy(steal=Steal.NEVER, pcp_batch=1, shuffle_seed=9)


def test_the_kernels_policy_changes_nothing() -> None:
    allocator = allocator_under("", [(0, 10, M), (1024, 9, U)])
    assert allocator.zones[0].policy is KERNEL
    assert allocator.zones[0].free.pfns(10, M) == (0,)


def test_without_mobility_all_types_share_a_list() -> None:
    allocator = allocator_under("mobility=off", [(0, 10, M), (1024, 10, R), (2048, 10, U)])
    lists = allocator.zones[0].free
    assert lists.pfns(10, U) == (2048, 0, 1024)
    assert {lists.pageblock_migratetype(pfn) for pfn in range(0, 3072, HALF)} == {U}


def test_without_per_cpu_lists_a_page_comes_straight_back() -> None:
    allocator = allocator_under("pcp=off", [(1024, 10, U)])
    choice = allocator.allocate(request())
    assert choice is not None
    assert allocator.zones[0].free.free_pages == 1023
    allocator.free(0, choice.pfn, 0)
    assert allocator.zones[0].free.pfns(10, U) == (1024,)


def test_a_batch_of_one_fetches_one_page() -> None:
    allocator = allocator_under("pcp_batch=1", [(1024, 10, U)])
    allocator.allocate(request())
    assert allocator.zones[0].free.free_pages == 1023


def test_reversed_fallback_asks_the_other_type_first() -> None:
    blocks = [(0, 10, M), (1024, 10, R)]
    for text, lender in (("", 1024), ("fallback=reversed", 0)):
        choice = allocator_under(text, blocks).allocate(request(order=4))
        assert choice is not None
        assert choice.pfn == lender


@pytest.mark.parametrize("release", [Release(6, 1), Release(7, 3)])
def test_stealing_never_and_always(release: Release) -> None:
    # A pageblock of movable pages in use, but for a block of order 6 and one of order 3.
    blocks = [(64, 6, M), (8, 3, M)]
    chosen = {}
    for text in ("steal=never", "steal=always"):
        allocator = allocator_under(text, blocks, release)
        allocator.zones[0].watermarks = (0, 0, 0)
        choice = allocator.allocate(request(order=3))
        assert choice is not None
        chosen[text] = choice.pfn, allocator.zones[0].free.pageblock_migratetype(0)
    assert chosen == {"steal=never": (8, M), "steal=always": (8, U)}


@pytest.mark.parametrize(("text", "order"), [("freed=head", (0, 1024)), ("freed=tail", (1024, 0))])
def test_freed_blocks_come_to_one_end(text: str, order: tuple[int, ...]) -> None:
    allocator = allocator_under(text, [(1024, 9, M)])
    allocator.free_direct(0, 0, 9)
    assert allocator.zones[0].free.pfns(9, M) == order


def test_shuffling_keeps_the_blocks_and_is_repeatable() -> None:
    blocks = [(1024 * at, 10, U) for at in range(32)]
    orders = [
        allocator_under(text, blocks).zones[0].free.pfns(10, U)
        for text in ("shuffle=on:1", "shuffle=on:1", "shuffle=on:2")
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == [pfn for pfn, _, _ in blocks]
    assert orders[0] != tuple(sorted(orders[0]))
