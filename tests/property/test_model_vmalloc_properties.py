"""vmalloc: what holds for all sizes and all placements."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.model import vmalloc, vmalloc_space
from analysis.procfs import vmallocinfo
from analysis.procfs.vmallocinfo import VmallocArea

page_sizes = st.sampled_from([4096, 16384, 65536])
lengths = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), max_size=20)


def spans(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Areas one behind the other, with gaps."""
    found = []
    position = 1
    for length, gap in pieces:
        position += gap
        found.append((position, position + length))
        position += length
    return found


@given(st.integers(0, 1 << 30), page_sizes)
def test_size_of_an_area(pages: int, page: int) -> None:
    size = vmalloc.area_size_bytes(pages, page)
    assert size % page == 0
    assert size - vmalloc.area_size_bytes(pages, page, guard=False) == page
    assert vmalloc.area_size_bytes(pages + 1, page) - size == page
    assert (size >= vmalloc.least_area_bytes(page)) == (pages >= 1)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=16), st.integers(1, 1 << 22))
def test_a_percpu_chunk_has_an_area_for_each_group(groups: list[int], unit: int) -> None:
    sizes = vmalloc.percpu_area_sizes(groups, unit)
    assert sizes.total() == len(groups)
    assert sum(size * count for size, count in sizes.items()) == sum(groups) * unit


@given(lengths)
def test_areas_behind_each_other_do_not_overlap(pieces: list[tuple[int, int]]) -> None:
    areas = spans(pieces)
    assert vmalloc.overlaps(areas) == 0
    assert vmalloc.shared_ends(areas) == 0
    assert vmalloc.out_of_order(areas) == 0


@given(lengths.filter(len), st.data())
def test_an_area_grown_into_the_next_is_seen(
    pieces: list[tuple[int, int]], data: st.DataObject
) -> None:
    areas = [*spans(pieces), (10_000, 10_001)]
    which = data.draw(st.integers(0, len(areas) - 2))
    areas[which] = (areas[which][0], areas[which + 1][0] + 1)
    assert vmalloc.overlaps(areas) == 1


@given(lengths, st.data())
def test_overlap_does_not_depend_on_order(
    pieces: list[tuple[int, int]], data: st.DataObject
) -> None:
    areas = spans(pieces)
    shuffled = data.draw(st.permutations(areas))
    assert vmalloc.overlaps(shuffled) == 0
    adjacent = sum(a[1] == b[0] for a, b in pairwise(areas))
    assert vmalloc.out_of_order(shuffled) <= adjacent


@given(st.integers(1, 4096), page_sizes)
def test_stacks_that_come_and_go(cpus: int, page: int) -> None:
    assert vmalloc.stack_pages(page) * page >= vmalloc.STACK_BYTES_MIN
    more = vmalloc.stack_drift_pages(cpus + 1, page) - vmalloc.stack_drift_pages(cpus, page)
    assert more == vmalloc.CACHED_STACKS_PER_CPU * vmalloc.stack_pages(page)


@given(
    st.sampled_from(["low-memmap", "modules-128m-bpf", "modules-128m", "modules-2g"]),
    st.sampled_from([(39, 12, 3), (48, 12, 4), (47, 14, 3), (48, 14, 4), (42, 16, 2), (48, 16, 3)]),
)
def test_space_of_arm64_lies_in_the_upper_half(layout: str, shape: tuple[int, int, int]) -> None:
    va_bits, page_shift, levels = shape
    space = vmalloc_space.arm64(
        layout=layout, va_bits=va_bits, page_shift=page_shift, table_levels=levels
    )
    half = 1 << (va_bits - 1)
    assert (1 << 64) - half == space.lowest
    assert 0 < space.total_bytes < half
    assert space.lowest < space.highest < 1 << 64


areas = st.builds(
    VmallocArea,
    start=st.none() | st.integers(0, (1 << 64) - 1),
    end=st.none() | st.integers(0, (1 << 64) - 1),
    size_bytes=st.integers(0, 1 << 40),
    caller=st.none() | st.sampled_from(["f+0x1/0x2", "f.part.0+0x1/0x2 [mod]", "0xffff1234"]),
    pages=st.none() | st.integers(0, 1 << 40),
    phys=st.none() | st.integers(0, (1 << 64) - 1),
    flags=st.lists(
        st.sampled_from(["ioremap", "vmalloc", "vmap", "user", "dma-coherent", "vpages", "sparse"]),
        unique=True,
    ).map(tuple),
    node_pages=st.dictionaries(st.integers(0, 1023), st.integers(0, 1 << 40), max_size=4),
)


@given(st.lists(areas, min_size=1, max_size=8))
def test_render_and_parse(found: list[VmallocArea]) -> None:
    assert list(vmallocinfo.parse(vmallocinfo.render(found))) == found
