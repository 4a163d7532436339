"""memblock keeps a set of addresses; the hand-over keeps every page once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.handover import boot_lines, freed
from analysis.model.handover.memblock import Region, RegionList, add, covered, remove, set_node
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span
from analysis.model.layout.zones import ZoneLayout

MOST = 64
SPANS = st.tuples(st.integers(0, MOST), st.integers(1, 16)).map(lambda s: Span(s[0], s[0] + s[1]))
STEPS = st.lists(st.tuples(st.booleans(), SPANS), max_size=20)


def addresses(spans: Iterable[Span]) -> set[int]:
    return {address for span in spans for address in range(span.start, span.end)}


def run(steps: Iterable[tuple[bool, Span]]) -> tuple[RegionList, set[int]]:
    memory, expected = RegionList(), set[int]()
    for adds, span in steps:
        if adds:
            memory = add(memory, Region(span.start, span.end))
            expected |= addresses([span])
        else:
            memory = remove(memory, span)
            expected -= addresses([span])
    return memory, expected


@given(STEPS)
def test_a_list_is_a_set_of_addresses(steps: list[tuple[bool, Span]]) -> None:
    memory, expected = run(steps)
    assert addresses(covered(memory.regions)) == expected
    assert memory.total_bytes == len(expected)
    for before, after in pairwise(memory.regions):
        assert before.end <= after.base


@given(STEPS, SPANS, st.integers(0, 3))
def test_a_node_changes_no_address(steps: list[tuple[bool, Span]], span: Span, node: int) -> None:
    memory, expected = run(steps)
    given_node = set_node(memory, span, node)
    assert addresses(covered(given_node.regions)) == expected
    inside = [r for r in given_node.regions if r.base >= span.start and r.end <= span.end]
    assert all(region.node == node for region in inside)


@given(STEPS, st.sampled_from([1, 2, 4]))
def test_each_page_is_reserved_or_handed_over(steps: list[tuple[bool, Span]], page: int) -> None:
    reserved, bytes_held = run(steps)
    pages = (MOST + 16) // page
    handed = freed.handed_over([NodeSpan(0, 0, pages)], reserved.regions, page)
    free = addresses(Span(start, end) for _, start, end in handed)
    touched = {address // page for address in bytes_held}
    assert free == set(range(pages)) - touched


@given(STEPS, SPANS)
def test_reserving_more_never_hands_over_more(steps: list[tuple[bool, Span]], more: Span) -> None:
    reserved, _ = run(steps)
    memory = [NodeSpan(0, 0, MOST)]
    less = addresses(
        Span(s, e)
        for _, s, e in freed.handed_over(
            memory, add(reserved, Region(more.start, more.end)).regions, 1
        )
    )
    assert less <= addresses(
        Span(s, e) for _, s, e in freed.handed_over(memory, reserved.regions, 1)
    )


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 13))
def test_first_blocks_cover_a_range_once(start: int, size: int, max_order: int) -> None:
    blocks = list(freed.first_blocks(Span(start, start + size), max_order))
    pfn = start
    for block in blocks:
        assert block.pfn == pfn
        assert block.pfn % (1 << block.order) == 0
        assert block.order <= max_order
        # no larger block would fit here
        larger = 1 << (block.order + 1)
        assert block.order == max_order or pfn % larger or pfn + larger > start + size
        pfn += 1 << block.order
    assert pfn == start + size


@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 4))
def test_a_node_makes_more_than_a_section_at_once(sections: int, start: int, parts: int) -> None:
    section = 16
    end = start + sections * section
    zones = [
        ZoneLayout(
            node=0,
            zone="Normal",
            start_pfn=start,
            spanned_pages=end - start,
            present_pages=end - start,
        )
    ]
    step = max(1, (end - start) // parts)
    edges = [*range(start, end, step), end]
    memory = [NodeSpan(0, a, b) for a, b in pairwise(edges) if a < b]
    deferred = freed.first_deferred(memory, zones, section)
    if 0 in deferred:
        made = deferred[0] - start
        assert section <= made < 2 * section
        assert deferred[0] % section == 0
    else:
        assert end - start <= 2 * section


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 10**5))
def test_managed_is_at_most_present(present: int, memmap: int, reserved: int) -> None:
    managed = boot_lines.managed_before_handover(present, memmap, reserved_pages=reserved)
    assert 0 <= managed <= present
    assert boot_lines.managed_before_handover(present, memmap) >= managed


@given(st.integers(1, 30), st.integers(0, 40), st.integers(1, 40))
def test_holes_are_frames_without_memory(first: int, gap: int, second: int) -> None:
    memory = [
        NodeSpan(0, first, first + 20),
        NodeSpan(0, first + 20 + gap, first + 20 + gap + second),
    ]
    end = memory[-1].end
    zones = [
        ZoneLayout(
            node=0,
            zone="Normal",
            start_pfn=first,
            spanned_pages=end - first,
            present_pages=20 + second,
        )
    ]
    told = boot_lines.unavailable_ranges(
        memory, zones, end_align=8, block_pages=4, valid=lambda _: True
    )
    assert sum(hole.pages for hole in told) == first + gap + (-end) % 8
