"""Zonelists, by lists worked out by hand and such that kernels printed."""

from __future__ import annotations

import pytest

from analysis.model.eras_zonelist import ZonelistEra, zonelist_era_of
from analysis.model.release import Release
from analysis.model.zonelist import (
    fallback_lists,
    groups_by_mobility,
    order_without_numa,
    policy_zone,
    zonelist,
)

OLD, MIDDLE, NEW = (zonelist_era_of(Release(*r)) for r in ((5, 10), (6, 1), (7, 3)))

FOUR = {  # 512M, 256M, none, 1G: printed by 6.1 and 6.12 on both architectures
    0: {0: 10, 1: 15, 2: 20, 3: 30},
    1: {0: 15, 1: 10, 2: 20, 3: 20},
    2: {0: 20, 1: 20, 2: 10, 3: 20},
    3: {0: 30, 1: 20, 2: 20, 3: 10},
}
FOUR_WITH_MEMORY = (0, 1, 3)


def flat(nodes: int, distance: int = 20) -> dict[int, dict[int, int]]:
    return {a: {b: 10 if a == b else distance for b in range(nodes)} for a in range(nodes)}


def orders(
    distances: dict[int, dict[int, int]],
    era: ZonelistEra,
    with_memory: tuple[int, ...] | None = None,
    with_cpus: tuple[int, ...] = (),
) -> dict[int, tuple[int, ...]]:
    lists = fallback_lists(
        distances,
        with_memory=tuple(distances) if with_memory is None else with_memory,
        with_cpus=with_cpus,
        era=era,
    )
    return {node: tuple(choice.node for choice in choices) for node, choices in lists.items()}


def test_nearest_first() -> None:
    assert orders(FOUR, MIDDLE, FOUR_WITH_MEMORY) == {
        0: (0, 1, 3),
        1: (1, 0, 3),
        2: (2, 3, 0, 1),  # 3 at 20; 0 and 1 at 20 + 1, having headed one group each
        3: (3, 1, 0),
    }


def test_a_node_without_memory_left_its_own_list() -> None:
    assert orders(FOUR, NEW, FOUR_WITH_MEMORY)[2] == (3, 0, 1)


def test_a_higher_id_comes_before_a_lower_one() -> None:
    # numa=fake: all distances are 10, so that no node ever heads a group
    assert orders(flat(4, distance=10), NEW) == {
        0: (0, 1, 2, 3),
        1: (1, 2, 3, 0),
        2: (2, 3, 0, 1),
        3: (3, 0, 1, 2),
    }


def test_equally_far_nodes_take_turns() -> None:
    # Node 0 turns to 1, 1 to 2 and 2 to 3: higher ids are nearer. Below node 3 are 0, 1 and 2,
    # at 20 + 1 each: 1 and 2 headed a group, 0 did not.
    assert orders(flat(4), NEW)[3] == (3, 0, 1, 2)
    assert orders(flat(4), NEW)[1] == (1, 2, 3, 0)


def test_load_accumulates_since_5_16() -> None:
    distances = {
        0: {0: 10, 1: 15, 2: 15, 3: 15},
        1: {0: 15, 1: 10, 2: 20, 3: 15},
        2: {0: 15, 1: 20, 2: 10, 3: 15},
        3: {0: 15, 1: 15, 2: 15, 3: 10},
    }
    old, new = orders(distances, OLD), orders(distances, NEW)
    same = {0: (0, 1, 2, 3), 1: (1, 3, 0, 2), 2: (2, 3, 0, 1)}
    assert {node: old[node] for node in same} == {node: new[node] for node in same} == same
    # Node 0's list is headed by 1; node 1's by 3, then 2 at 20; node 2's by 3, then 1 at 20 + 1.
    # For node 3 all are equally far. 0 never headed a group; 1 did twice and 2 once: 0, 2, 1.
    assert new[3] == (3, 0, 2, 1)
    # Before 5.16 the last place counted, from 4 down: 1 got 1 (4th of node 2's list) after 3, and 2
    # got 1 (4th of node 1's list): equal, so the smaller id is first.
    assert old[3] == (3, 0, 1, 2)


def test_a_ring_with_a_node_apart() -> None:
    # As read from the RAM of 5.10, 6.1 and 7.2: 0-2-3-4 are a ring, 1 has no memory and is as far
    # from all. Its list is decided by the load: each of the others headed groups before.
    ring = (0, 2, 3, 4)
    distances = {
        a: {
            b: (10, 15, 30, 15)[(ring.index(b) - ring.index(a)) % 4] if 1 not in (a, b) else 20
            for b in range(5)
        }
        for a in range(5)
    }
    distances[1][1] = 10
    assert orders(distances, OLD, ring)[1] == (1, 4, 3, 2, 0)
    assert orders(distances, MIDDLE, ring)[1] == (1, 4, 2, 3, 0)
    assert orders(distances, NEW, ring)[1] == (4, 2, 3, 0)
    for era in (OLD, MIDDLE, NEW):
        found = orders(distances, era, ring)
        assert found[0] == (0, 2, 4, 3)
        assert found[2] == (2, 3, 0, 4)
        assert found[3] == (3, 4, 2, 0)
        assert found[4] == (4, 0, 3, 2)


def test_nodes_with_cpus_come_later_when_memory_is_plugged() -> None:
    distances = {a: {b: 10 if a == b else 20 for b in range(3)} for a in range(3)}
    assert orders(distances, NEW)[0] == (0, 1, 2)
    assert orders(distances, NEW, with_cpus=(0, 1))[0] == (0, 2, 1)


def test_one_node() -> None:
    assert orders({0: {0: 10}}, NEW) == {0: (0,)}


def test_a_missing_distance_is_an_error() -> None:
    with pytest.raises(KeyError):
        fallback_lists({0: {0: 10}}, with_memory=(0, 1), era=NEW)


def test_eras() -> None:
    assert not OLD.prints_order
    assert not OLD.accumulates_load
    assert MIDDLE.prints_order
    assert MIDDLE.possible_nodes
    assert not MIDDLE.skips_memoryless
    assert NEW.skips_memoryless


def test_without_numa_the_ids_go_round() -> None:
    assert order_without_numa(1, [0, 1, 2]) == (1, 2, 0)


PRESENT = {
    (0, "DMA"): 3998,
    (0, "DMA32"): 126937,
    (0, "Normal"): 0,
    (0, "Movable"): 32768,
    (1, "Normal"): 131072,
    (1, "Movable"): 0,
}


def test_zones_go_down_within_a_node() -> None:
    assert zonelist((1, 0), PRESENT) == (
        (1, "Normal"),
        (0, "Movable"),
        (0, "DMA32"),
        (0, "DMA"),
    )


def test_the_list_without_fallback_has_one_node() -> None:
    assert zonelist((0,), PRESENT) == ((0, "Movable"), (0, "DMA32"), (0, "DMA"))


@pytest.mark.parametrize(
    ("zones", "name"),
    [
        (("DMA", "DMA32"), "DMA32"),  # a guest below 4 GiB
        (("DMA", "DMA32", "Normal", "Movable"), "Normal"),
        (("DMA",), "DMA"),  # arm64 below 4 GiB
        (("DMA", "Normal", "HighMem", "Movable"), "HighMem"),
        ((), "DMA"),
    ],
)
def test_policy_zone(zones: tuple[str, ...], name: str) -> None:
    assert policy_zone({(0, zone): 1 for zone in zones}) == name


def test_mobility_grouping_needs_a_pageblock_for_each_type() -> None:
    assert groups_by_mobility(2560, 9, 5)
    assert not groups_by_mobility(2559, 9, 5)
    # 64 KiB pages: pageblocks of 512 MiB, so 6 types need 3 GiB
    assert not groups_by_mobility(16384, 13, 6)
    assert groups_by_mobility(49152, 13, 6)
