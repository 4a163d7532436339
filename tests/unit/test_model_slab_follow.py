"""The three allocators followed object by object, and vmalloc's lowest gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.model.slab.kmalloc import KmallocAlignment, kmalloc_sizes, serving_size
from analysis.model.slab.place import Place
from analysis.model.slab.slab import SlabGeometry
from analysis.model.slab.slab_cpu import SlabOnCpu
from analysis.model.slab.slob_pages import SlobPages
from analysis.model.slab.slub_cpu import SlubOnCpu
from analysis.model.slab.slub_sheaves import SlubWithSheaves
from analysis.model.vmalloc import pages_array_pages
from analysis.model.vmalloc_place import lowest_gap


def slub(
    *, min_partial: int = 5, slabs: int = 2, cpu_partial_objects: int | None = None
) -> SlubOnCpu:
    return SlubOnCpu(
        objects_per_slab=4,
        min_partial=min_partial,
        cpu_partial_slabs=slabs,
        cpu_partial_objects=cpu_partial_objects,
    )


def sheaves(*, capacity: int = 6) -> SlubWithSheaves:
    return SlubWithSheaves(objects_per_slab=4, min_partial=2, capacity=capacity)


def slab(*, objects: int = 30, limit: int = 8) -> SlabOnCpu:
    geometry = SlabGeometry(order=0, objects=objects, index="object", left_bytes=0)
    batch = (limit + 1) // 2
    return SlabOnCpu(geometry=geometry, limit=limit, batchcount=batch, free_limit=2 * batch + 30)


def test_slub_hands_out_a_slab_from_its_begin() -> None:
    cache = slub()
    assert [cache.alloc() for _ in range(5)] == [*(Place(0, n) for n in range(4)), Place(1, 0)]
    assert (cache.nr_slabs, cache.nr_partial, cache.nr_cpu_slabs, cache.nr_objects) == (2, 0, 1, 8)


def test_slub_gives_back_what_came_last() -> None:
    cache = slub()
    places = [cache.alloc() for _ in range(4)]
    for place in (places[1], places[3]):
        cache.free(place)
    assert [cache.alloc(), cache.alloc()] == [places[3], places[1]]


def test_slub_moves_the_partial_slabs_of_a_cpu_when_they_are_enough() -> None:
    cache = slub()
    places = [cache.alloc() for _ in range(17)]
    for number in (0, 4):
        cache.free(places[number])
    assert (cache.nr_partial, cache.nr_cpu_partial) == (0, 2)
    cache.free(places[8])
    assert (cache.nr_partial, cache.nr_cpu_partial) == (2, 1)
    # what lies on the CPU's lists counts as in use
    assert cache.nr_objects == 20 - 2


def test_slub_of_5_10_counts_objects_instead() -> None:
    cache = slub(cpu_partial_objects=1)
    places = [cache.alloc() for _ in range(17)]
    for number in (0, 4, 8):
        cache.free(places[number])
    assert (cache.nr_partial, cache.nr_cpu_partial) == (2, 1)


def test_slub_keeps_some_empty_slabs_and_shrinks() -> None:
    cache = slub(min_partial=1)
    places = [cache.alloc() for _ in range(24)]
    for place in places:
        cache.free(place)
    assert 1 < cache.nr_slabs < 6
    cache.shrink()
    assert cache.nr_slabs == 0
    with pytest.raises(ValueError, match="was given back before its objects"):
        cache.free(places[0])


def test_slub_with_sheaves_hands_a_sheaf_out_backwards() -> None:
    cache = sheaves()
    filled = [*(Place(0, n) for n in range(4)), Place(1, 0), Place(1, 1)]
    assert [cache.alloc() for _ in range(6)] == filled[::-1]
    # the rest of the second slab waits on the node's list
    assert (cache.nr_slabs, cache.nr_partial, cache.nr_objects) == (2, 1, 6)
    assert cache.alloc() == Place(2, 3)


def test_slub_with_sheaves_keeps_what_comes_back_until_the_barn_is_full() -> None:
    cache = sheaves()
    places = [cache.alloc() for _ in range(120)]
    for place in places[:72]:
        cache.free(place)
    # two sheaves of the CPU and ten of the barn: nothing has returned to a slab yet
    assert (cache.nr_slabs, cache.nr_partial) == (30, 0)
    cache.free(places[72])
    assert cache.nr_partial > 0
    for place in places[73:]:
        cache.free(place)
    cache.shrink()
    assert cache.nr_slabs == 0


def test_slab_hands_batches_out_backwards() -> None:
    cache = slab(objects=30, limit=40)
    first = [cache.alloc().within for _ in range(30)]
    # the first refill is 16 objects, those after are half of the array
    assert first == [*range(15, -1, -1), *range(29, 15, -1)]


def test_slab_colours_begin_with_the_second() -> None:
    cache = slab()
    offsets = [
        cache.offset_bytes(Place(number, 0), size=64, colours=3, colour_bytes=64)
        for number in range(4)
    ]
    assert offsets == [64, 128, 0, 64]
    assert cache.offset_bytes(Place(7, 2), size=64, colours=1, colour_bytes=64) == 128


def test_slob_packs_a_page_and_uses_holes_in_order() -> None:
    pages = SlobPages(page_size=4096, unit_bytes=2)
    places = [pages.alloc(1024, 8) for _ in range(5)]
    assert places == [*(Place(0, 1024 * n) for n in range(4)), Place(1, 0)]
    pages.free(places[1], 1024)
    pages.free(places[2], 1024)
    # the page comes first in the list again, and its two holes are one
    assert pages.alloc(2000, 8) == Place(0, 1024)
    assert pages.alloc(1024, 8) == Place(1, 1024)


def test_slob_leaves_a_page_where_it_is_in_the_list_while_it_has_room() -> None:
    pages = SlobPages(page_size=4096, unit_bytes=2)
    places = [pages.alloc(1000, 8) for _ in range(5)]
    pages.free(places[1], 1000)
    assert pages.alloc(1000, 8) == Place(1, 1000)


def test_slob_gives_empty_pages_back() -> None:
    pages = SlobPages(page_size=4096, unit_bytes=2)
    places = [pages.alloc(2048, 8) for _ in range(2)]
    for place in places:
        pages.free(place, 2048)
    assert not pages.pages
    with pytest.raises(ValueError, match="given back before its blocks"):
        pages.free(places[0], 2048)


class _Cache(Protocol):
    def alloc(self) -> Place: ...

    def free(self, place: Place) -> None: ...


class _Slob:
    def __init__(self) -> None:
        self.pages = SlobPages(page_size=4096, unit_bytes=2)

    def alloc(self) -> Place:
        return self.pages.alloc(600, 8)

    def free(self, place: Place) -> None:
        self.pages.free(place, 600)


@pytest.mark.parametrize("make", [slub, sheaves, slab, _Slob])
@given(choices=st.lists(st.integers(min_value=-1, max_value=60), max_size=200))
def test_no_object_is_handed_out_twice(make: Callable[[], _Cache], choices: list[int]) -> None:
    """Random requests: what is live never overlaps, and all can be returned."""
    cache = make()
    live: list[Place] = []
    for choice in choices:
        if choice < 0 or not live:
            place = cache.alloc()
            assert place not in live
            if isinstance(cache, _Slob):
                same = [p.within for p in live if p.block == place.block]
                assert all(abs(place.within - other) >= 600 for other in same)
            live.append(place)
        else:
            cache.free(live.pop(choice % len(live)))
    for place in live:
        cache.free(place)


def test_the_lowest_gap() -> None:
    taken = [(0x1000, 0x3000), (0x4000, 0x5000), (0x9000, 0xA000)]
    space = {"start": 0x1000, "end": 0xC000}
    assert lowest_gap(taken, 0x1000, **space) == 0x3000
    assert lowest_gap(taken, 0x2000, **space) == 0x5000
    assert lowest_gap(taken, 0x8000, **space) is None
    assert lowest_gap([], 0x8000, **space) == 0x1000
    assert lowest_gap([*taken, (0xD000, 0xF000)], 0x2000, **space) == 0x5000


def test_a_list_of_pages_beyond_a_page_is_an_area_itself() -> None:
    assert [pages_array_pages(n, page_size_bytes=4096) for n in (512, 513, 1024)] == [0, 2, 2]


def test_the_smallest_kmalloc_cache_that_holds_a_request() -> None:
    sizes = kmalloc_sizes(KmallocAlignment(kmalloc_minalign=8, dma_minalign=1), page_size=4096)
    served = [serving_size(size, sizes) for size in (1, 65, 97, 129, 193, 8192, 8193)]
    assert served == [8, 96, 128, 192, 256, 8192, None]
