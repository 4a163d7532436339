"""Laws of the memory layout: sums, limits, order and units, for any memory."""

from __future__ import annotations

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.model.layout import holes
from analysis.model.layout.eras_layout import layout_era_of, layout_eras_of
from analysis.model.layout.memory_map import (
    RAM,
    MapEntry,
    end_of_ram_pfn,
    memblock_memory,
    resolved,
    retyped,
    trimmed,
    with_parameters,
)
from analysis.model.layout.memory_model import (
    flat_memmap_pages,
    huge_page_memmap_kib,
    sparse_memmap_pages,
    struct_page_bytes,
    zone_memmap_pages,
)
from analysis.model.layout.movable import highest_zone, movable_starts, required_kernelcore
from analysis.model.layout.nodes import NodeSpan, assigned, cleaned, in_pages, node_extents
from analysis.model.layout.numa_fake import NotEmulatedError, fake_nodes
from analysis.model.layout.orders import buddy_orders, pageblock_order
from analysis.model.layout.pageblocks import Validity, counted_pageblocks
from analysis.model.layout.pfn import Span, address_of, merged, pfn_of, whole_pages
from analysis.model.layout.sections import (
    memory_blocks,
    present_sections,
    x86_memory_block_bytes,
)
from analysis.model.layout.sizes import core_pages, leading_size
from analysis.model.layout.zone_limits import (
    arm64_zone_ends,
    x86_zone_ends,
    zone_names,
    zone_ranges,
)
from analysis.model.layout.zones import zone_layout
from analysis.model.release import Release

GIB = 1 << 30
NAMES = ("DMA", "DMA32", "Normal", "Movable", "Device")
PAGES = st.sampled_from([4096, 16384, 65536])
RELEASES = st.builds(Release, st.integers(4, 7), st.integers(0, 20))


@st.composite
def memories(draw: st.DrawFn) -> tuple[NodeSpan, ...]:
    """Memory in pages: ranges in order with holes between, each of a node."""
    at = draw(st.integers(1, 4096))
    ranges = []
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.integers(1, 1 << 19))
        ranges.append(NodeSpan(draw(st.integers(0, 3)), at, at + size))
        at += size + draw(st.sampled_from([0, 1, 38, 512, 5000, 1 << 18]))
    joined: list[NodeSpan] = []
    for piece in ranges:
        if joined and joined[-1].node == piece.node and joined[-1].end == piece.start:
            joined[-1] = NodeSpan(piece.node, joined[-1].start, piece.end)
        else:
            joined.append(piece)
    return tuple(joined)


@st.composite
def maps(draw: st.DrawFn) -> tuple[MapEntry, ...]:
    entries = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, 1 << 33))
        size = draw(st.integers(1, 1 << 30))
        kind = draw(st.sampled_from([RAM, RAM, 2, 3, 12]))
        entries.append(MapEntry(start=start, end=start + size, type=kind))
    return tuple(entries)


def ram_bytes(entries: tuple[MapEntry, ...]) -> int:
    return sum(entry.end - entry.start for entry in entries if entry.type == RAM)


@given(st.integers(0, 1 << 52), PAGES)
def test_pfn_and_address_are_inverse(address: int, page: int) -> None:
    assert address_of(pfn_of(address, page), page) <= address
    assert pfn_of(address_of(address, page), page) == address
    assert whole_pages(Span(address, address + page), page).size <= 1


@given(st.integers(0, 1 << 40), st.sampled_from("KMGkmg"))
def test_a_suffix_multiplies(number: int, suffix: str) -> None:
    shift = {"k": 10, "m": 20, "g": 30}[suffix.lower()]
    assert leading_size(f"{number}{suffix}") == (number << shift, "")
    assert leading_size(hex(number)) == (number, "")


@given(st.integers(0, 100), st.integers(0, 1 << 40), PAGES)
def test_a_share_is_at_most_the_whole(percent: int, total: int, page: int) -> None:
    pages = core_pages(f"{percent}%", total, page)
    assert total * percent // 100 == pages <= total


@given(maps())
def test_a_resolved_map_is_in_order_and_stays(entries: tuple[MapEntry, ...]) -> None:
    table = resolved(entries)
    for one, two in itertools.pairwise(table):
        assert one.end <= two.start
        assert one.end < two.start or one.type != two.type
    assert resolved(table) == table
    covered = merged(Span(e.start, e.end) for e in entries)
    assert merged(Span(e.start, e.end) for e in table) == covered


@given(maps(), st.integers(1, 1 << 34), st.integers(1, 1 << 34))
def test_less_mem_is_never_more_ram(entries: tuple[MapEntry, ...], one: int, two: int) -> None:
    small, large = sorted((one, two))
    table = resolved(entries)
    less = with_parameters(table, [("mem", str(small))])
    assert ram_bytes(less) <= ram_bytes(with_parameters(table, [("mem", str(large))]))
    assert end_of_ram_pfn(less, acpi_counts=False) <= small // 4096


@given(maps(), st.integers(0, 1 << 33), st.integers(1, 1 << 30))
def test_retyping_keeps_what_is_covered(
    entries: tuple[MapEntry, ...], start: int, size: int
) -> None:
    table = resolved(entries)
    changed = retyped(table, Span(start, start + size), RAM, 2)
    assert sum(e.end - e.start for e in changed) == sum(e.end - e.start for e in table)
    assert ram_bytes(changed) <= ram_bytes(table)


@given(maps(), PAGES)
def test_memory_is_whole_pages_of_ram(entries: tuple[MapEntry, ...], page: int) -> None:
    table = trimmed(resolved(entries))
    memory = memblock_memory(table, page)
    assert all(span.start % page == span.end % page == 0 for span in memory)
    assert sum(span.size for span in memory) <= ram_bytes(table)
    assert all(span.start >= 0x1000 for span in memory)
    end = end_of_ram_pfn(table, acpi_counts=False)
    assert end <= end_of_ram_pfn(table, acpi_counts=True)


@given(memories())
def test_nodes_lose_and_invent_no_memory(ranges: tuple[NodeSpan, ...]) -> None:
    memory = merged(piece.span for piece in ranges)
    blocks = cleaned(ranges, memory, Span(0, ranges[-1].end))
    pieces = assigned(memory, blocks)
    assert in_pages(pieces, 1) == ranges
    assert sum(piece.end - piece.start for piece in pieces) == sum(s.size for s in memory)


@given(memories(), st.integers(1, 12), st.sampled_from(["", "U", "M", "G"]))
def test_fake_nodes_cover_the_blocks_once(
    ranges: tuple[NodeSpan, ...], count: int, unit: str
) -> None:
    memory = [Span(p.start * 4096, p.end * 4096) for p in ranges]
    blocks = tuple(NodeSpan(p.node, p.start * 4096, p.end * 4096) for p in ranges)
    value = f"{count * 100}M" if unit == "M" else f"{count}{unit}"
    limit = memory[-1].end
    try:
        made = fake_nodes(value, blocks, ranges, limit=limit, dma32_end=4 * GIB, nodes_max=64)
    except NotEmulatedError:
        return
    covered = merged(block.span for block in made)
    assert covered == merged(block.span for block in blocks)
    assert sum(block.end - block.start for block in made) == sum(s.size for s in covered)
    if unit == "":
        assert {block.node for block in made} <= set(range(count))


@given(st.integers(1, 1 << 30), st.integers(0, 1 << 20))
def test_x86_zone_limits_follow_each_other(max_pfn: int, first: int) -> None:
    assume(first < max_pfn)
    limits = zone_ranges(NAMES, x86_zone_ends(max_pfn, max_pfn), first)
    spans = list(limits.values())
    assert spans[0].start == first
    assert all(one.end == two.start for one, two in itertools.pairwise(spans))
    assert sum(span.size for span in spans) == max_pfn - first


@given(st.integers(0, 1 << 36), st.integers(1, 1 << 40), st.integers(1, 1 << 40), PAGES)
def test_arm64_limits_never_pass_the_end(start: int, size: int, limit: int, page: int) -> None:
    ends = arm64_zone_ends([Span(start, start + size)], limit, page)
    assert ends["DMA"] <= ends["Normal"] == (start + size) // page
    assert ends["DMA32"] <= ends["Normal"]


@given(st.sets(st.sampled_from(["ZONE_DMA", "ZONE_DMA32", "HIGHMEM", "ZONE_DEVICE"])))
def test_a_zone_per_option(on: set[str]) -> None:
    assert len(zone_names(on)) == len(on) + 2


@given(memories(), st.integers(0, 1 << 21), st.sampled_from([1, 512, 1024]))
def test_present_pages_add_up_to_memory(
    ranges: tuple[NodeSpan, ...], movablecore: int, largest: int
) -> None:
    end = ranges[-1].end
    limits = zone_ranges(NAMES, x86_zone_ends(end, end), ranges[0].start)
    total = sum(piece.end - piece.start for piece in ranges)
    required = required_kernelcore(total, 0, movablecore, largest)
    lowest = limits[highest_zone(limits)].start
    movable = movable_starts(ranges, required, lowest, largest)
    zones = zone_layout(NAMES, limits, ranges, movable, highest_zone(limits))
    assert sum(zone.present_pages for zone in zones) == total
    for node, extent in node_extents(ranges).items():
        own = [zone for zone in zones if zone.node == node]
        present = sum(piece.end - piece.start for piece in ranges if piece.node == node)
        assert sum(zone.present_pages for zone in own) == present
        spanned = [zone.span for zone in own if zone.spanned_pages]
        assert all(one.end <= two.start for one, two in itertools.pairwise(spanned))
        assert all(extent.start <= span.start <= span.end <= extent.end for span in spanned)
        assert all(0 <= zone.present_pages <= zone.spanned_pages for zone in own)
    for node, start in movable.items():
        assert start % largest == 0
        assert start < node_extents(ranges)[node].end


@given(memories(), st.integers(1, 1 << 22))
def test_the_kernel_gets_what_it_needs(ranges: tuple[NodeSpan, ...], required: int) -> None:
    total = sum(piece.end - piece.start for piece in ranges)
    assume(required < total)
    starts = movable_starts(ranges, required, 0, 1)
    for_kernel = sum(
        max(0, min(piece.end, starts.get(piece.node, piece.end)) - piece.start) for piece in ranges
    )
    nodes = len(node_extents(ranges))
    assert for_kernel >= required - nodes


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_a_kernel_part_is_below_the_whole(total: int, core: int, movable: int) -> None:
    required = required_kernelcore(total, core, movable, 1024)
    assert required == 0 or core <= required < total


@given(RELEASES, st.integers(7, 14), PAGES, st.booleans(), st.booleans())
def test_pageblocks_fit_into_the_buddy(
    release: Release, orders: int, page: int, hugetlb: bool, thp: bool
) -> None:
    for era in layout_eras_of(release):
        order = pageblock_order(
            era,
            orders=orders,
            page_bytes=page,
            huge_shift=29,
            hugetlb=hugetlb,
            thp=thp,
            own_limit=None,
        )
        assert order < orders or (hugetlb and not era.pageblock_below_max_order)
    assert layout_era_of(release) in layout_eras_of(release)
    assert buddy_orders(orders, inclusive=True) == buddy_orders(orders, inclusive=False) + 1


@given(memories(), st.sampled_from([1, 512, 32768, None]))
def test_pageblocks_lie_between_memory_and_span(
    ranges: tuple[NodeSpan, ...], unit: int | None
) -> None:
    end = ranges[-1].end
    limits = zone_ranges(NAMES, x86_zone_ends(end, end), ranges[0].start)
    zones = zone_layout(NAMES, limits, ranges, {}, highest_zone(limits))
    valid = Validity(unit_pages=unit, end_pfn=end, holes_follow_memory=True)
    narrow = Validity(unit_pages=1, end_pfn=end, holes_follow_memory=True)
    for zone in zones:
        count = counted_pageblocks(zone, zones, ranges, 512, valid)
        assert counted_pageblocks(zone, zones, ranges, 512, narrow) <= count
        assert count <= -(-zone.spanned_pages // 512)
        if unit is None:
            continue
        steps = [
            pfn
            for pfn in range(zone.span.start, zone.span.end, 512)
            if any(p.node == zone.node and p.start <= pfn < p.end for p in ranges)
        ]
        assert count >= len(steps)


@given(memories(), st.sampled_from([8192, 32768]))
def test_struct_pages_of_memory_and_holes_fill_the_sections(
    ranges: tuple[NodeSpan, ...], section: int
) -> None:
    end = ranges[-1].end
    limits = zone_ranges(NAMES, x86_zone_ends(end, end), ranges[0].start)
    zones = zone_layout(NAMES, limits, ranges, {}, highest_zone(limits))
    covered = holes.covered_by_sections(ranges, section)
    found = holes.unavailable_pages(zones, ranges, covered, memmap_unit_pages=section)
    present = sum(zone.present_pages for zone in zones)
    sections = present_sections(ranges, section)
    assert present + sum(found.values()) == len(sections) * section
    flat = holes.unavailable_pages(
        zones, ranges, holes.covered_by_flatmem(end), memmap_unit_pages=None
    )
    assert present + sum(flat.values()) == end


@given(memories(), st.integers(1, 16))
def test_sections_hold_all_memory(ranges: tuple[NodeSpan, ...], per_block: int) -> None:
    sections = present_sections(ranges, 32768)
    assert all(piece.start // 32768 in sections for piece in ranges)
    assert all((piece.end - 1) // 32768 in sections for piece in ranges)
    blocks = memory_blocks(sections, per_block)
    assert len(sections) <= len(blocks) * per_block
    pages = sparse_memmap_pages(len(sections), 32768, 64, 4096)
    assert pages == len(sections) * 512
    assert flat_memmap_pages(ranges, 1024, 64, 4096) * 64 >= sum(
        piece.end - piece.start for piece in ranges
    )


@given(st.integers(0, 1 << 46), st.booleans())
def test_memory_blocks_are_powers_of_two(end: int, guest: bool) -> None:
    section = 128 << 20
    block = x86_memory_block_bytes(section, end, hypervisor=guest)
    assert section <= block <= 2 * GIB
    assert block & (block - 1) == 0
    if guest and block > section:
        assert end % block == 0


@given(st.sampled_from([32, 64]), st.booleans(), st.booleans(), st.booleans())
def test_struct_pages_are_whole_words(bits: int, memcg: bool, double: bool, pid: bool) -> None:
    size = struct_page_bytes(bits=bits, memcg=memcg, double_aligned=double, cpupid=pid)
    assert size % (bits // 8 * (2 if double else 1)) == 0
    assert size >= struct_page_bytes(bits=bits, memcg=False, double_aligned=False)


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.booleans())
def test_a_zones_guess_is_between_present_and_spanned(one: int, two: int, sparse: bool) -> None:
    present, spanned = sorted((one, two))
    pages = zone_memmap_pages(spanned, present, 64, 4096, sparse=sparse)
    assert -(-present // 64) <= pages <= -(-spanned // 64)


@given(st.integers(12, 34), PAGES, st.booleans())
def test_huge_pages_keep_one_page_of_memmap(shift: int, page: int, optimized: bool) -> None:
    assume(1 << shift >= page)
    kib = huge_page_memmap_kib(1 << shift, page, 64, optimized=optimized)
    assert 0 <= kib * 1024 <= max(0, (1 << shift) // page * 64 - page)
