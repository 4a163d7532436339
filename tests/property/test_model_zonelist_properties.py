"""Laws of zonelists, whatever the distances."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.eras_zonelist import ZonelistEra, zonelist_era_of
from analysis.model.release import Release
from analysis.model.zonelist import (
    ZONES,
    fallback_lists,
    groups_by_mobility,
    order_without_numa,
    policy_zone,
    zonelist,
)

ERAS = [zonelist_era_of(Release(*release)) for release in ((5, 10), (5, 16), (6, 1), (6, 7))]


@st.composite
def machines(draw: st.DrawFn) -> tuple[dict[int, dict[int, int]], frozenset[int]]:
    """Distances between a few nodes, symmetric or not, and those with memory."""
    nodes = draw(st.lists(st.integers(0, 15), min_size=1, max_size=6, unique=True))
    distances = {
        a: {b: 10 if a == b else draw(st.sampled_from([11, 15, 20, 30])) for b in nodes}
        for a in nodes
    }
    with_memory = draw(st.sets(st.sampled_from(nodes), min_size=1))
    return distances, frozenset(with_memory)


@given(machine=machines(), used=st.sampled_from(ERAS))
def test_every_node_with_memory_once_and_nearest_first(
    machine: tuple[dict[int, dict[int, int]], frozenset[int]], used: ZonelistEra
) -> None:
    distances, with_memory = machine
    lists = fallback_lists(distances, with_memory=with_memory, era=used)
    assert list(lists) == sorted(distances)
    for local, choices in lists.items():
        order = [choice.node for choice in choices]
        own = {local} if not used.skips_memoryless else set()
        assert len(set(order)) == len(order)
        assert set(order) == with_memory | own
        if local in order:
            assert order[0] == local
        far = [choice.cost[0] for choice in choices if choice.node != local]
        assert far == sorted(far)


@given(machine=machines())
def test_distances_alone_decide_where_all_differ(
    machine: tuple[dict[int, dict[int, int]], frozenset[int]],
) -> None:
    distances, with_memory = machine
    spread = {
        a: {b: 10 if a == b else 10 * (1 + rank) for rank, b in enumerate(sorted(row))}
        for a, row in distances.items()
    }
    for used in ERAS:
        lists = fallback_lists(spread, with_memory=with_memory, era=used)
        for local, choices in lists.items():
            others = [choice.node for choice in choices if choice.node != local]
            assert others == sorted(others, key=lambda node: spread[local][node])


presents = st.dictionaries(
    st.tuples(st.integers(0, 3), st.sampled_from(ZONES)), st.integers(0, 1000), max_size=12
)


@given(present=presents, nodes=st.permutations(range(4)))
def test_a_zonelist_has_each_zone_with_pages_once(
    present: dict[tuple[int, str], int], nodes: list[int]
) -> None:
    found = zonelist(nodes, present)
    assert len(set(found)) == len(found)
    assert set(found) == {key for key, pages in present.items() if pages}
    for node in nodes:
        ranks = [ZONES.index(zone) for of, zone in found if of == node]
        assert ranks == sorted(ranks, reverse=True)
    assert [node for node, _ in found] == sorted((n for n, _ in found), key=nodes.index)


@given(present=presents)
def test_the_policy_zone_has_pages_and_is_not_movable(present: dict[tuple[int, str], int]) -> None:
    zone = policy_zone(present)
    candidates = {name for (_, name), pages in present.items() if pages} - {"Movable"}
    assert zone in candidates if candidates else zone == "DMA"
    assert all(ZONES.index(name) <= ZONES.index(zone) for name in candidates)


@given(nodes=st.sets(st.integers(0, 63), min_size=1), data=st.data())
def test_the_ring_begins_with_the_node_itself(nodes: set[int], data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(sorted(nodes)))
    order = order_without_numa(node, nodes)
    assert order[0] == node
    assert set(order) == nodes
    assert len(order) == len(nodes)


@given(
    pages=st.integers(0, 1 << 30),
    order=st.integers(0, 13),
    types=st.integers(4, 6),
    more=st.integers(0, 1 << 20),
)
def test_more_memory_never_turns_grouping_off(
    pages: int, order: int, types: int, more: int
) -> None:
    if groups_by_mobility(pages, order, types):
        assert groups_by_mobility(pages + more, order, types)
        assert pages >= types << order
