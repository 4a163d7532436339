"""Laws of the slab model, whatever the object."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.model.eras_slab import SlabEra, slab_era_of
from analysis.model.release import Release
from analysis.model.slab.kmalloc import (
    KmallocAlignment,
    boot_align,
    cache_align,
    kmalloc_sizes,
    short_name,
)
from analysis.model.slab.merging import unique_id
from analysis.model.slab.partial import cpu_partial, cpu_partial_slabs, min_partial
from analysis.model.slab.sheaves import sheaf_capacity
from analysis.model.slab.slab import SlabMachine, slab_geometry, slab_tunables
from analysis.model.slab.slob import block_bytes
from analysis.model.slab.slub_layout import SlabFlags, align_up, slub_layout
from analysis.model.slab.slub_order import (
    OBJECTS_MAX,
    OrderLimits,
    page_order,
    slub_order,
    wanted_objects,
)

sizes = st.integers(1, 1 << 17)
words = st.sampled_from([4, 8])
aligns = st.sampled_from([8, 16, 32, 64, 128, 4096])
page_sizes = st.sampled_from([4096, 16384, 65536])
cpu_counts = st.integers(1, 8192)
eras = st.sampled_from(
    [(4, 18), (5, 10), (5, 11), (5, 15), (6, 1), (6, 6), (6, 12), (6, 18), (7, 2), (7, 3)]
).map(lambda release: slab_era_of(Release(*release)))
slab_flags = st.builds(
    SlabFlags,
    destroy_by_rcu=st.booleans(),
    constructor=st.booleans(),
    red_zone=st.booleans(),
    poison=st.booleans(),
    store_user=st.booleans(),
    kmalloc=st.booleans(),
)


@given(
    size=sizes,
    more=sizes,
    align=aligns,
    flags=slab_flags,
    era=eras,
    word=words,
    stack=st.booleans(),
)
def test_an_object_and_all_beside_it_fit(
    size: int,
    more: int,
    align: int,
    flags: SlabFlags,
    era: SlabEra,
    word: int,
    stack: bool,
) -> None:
    def layout(of: int, with_: SlabFlags) -> int:
        made = slub_layout(of, align, with_, era=era, word_bytes=word, stack=stack)
        assert of <= made.inuse_bytes <= made.size_bytes
        assert made.size_bytes % align == 0
        assert made.inuse_bytes + made.tracking_bytes + made.red_left_pad_bytes <= made.size_bytes
        assert made.red_left_pad_bytes % align == 0
        if made.free_pointer_offset is not None:
            assert made.free_pointer_offset % word == 0
            assert made.free_pointer_offset + word <= made.size_bytes
        return made.size_bytes

    assert layout(size, flags) <= layout(size + more, flags)
    assert layout(size, SlabFlags()) <= layout(size, flags)
    assert layout(size, SlabFlags()) == align_up(align_up(size, word), align)
    assert layout(size, flags) <= layout(size, replace(flags, store_user=True))


@given(
    size=st.integers(8, 1 << 15),
    cpus=cpu_counts,
    page_size=page_sizes,
    era=eras,
    max_order=st.integers(0, 5),
    min_objects=st.sampled_from([0, 1, 20]),
)
def test_a_slab_holds_its_objects_within_the_limits(
    size: int, cpus: int, page_size: int, era: SlabEra, max_order: int, min_objects: int
) -> None:
    limits = OrderLimits(max_order=max_order, min_objects=min_objects)
    made = slub_order(size, cpus=cpus, limits=limits, page_size=page_size, era=era)
    slab_bytes = page_size << made.order
    assert made.objects == slab_bytes // size
    assert 1 <= made.objects <= OBJECTS_MAX
    assert made.fallback_order <= made.order
    assert 1 <= made.fallback_objects <= made.objects
    if size <= page_size << max_order:
        assert made.order <= max_order
    else:
        assert made.order == page_order(size, page_size)


@given(size=st.integers(8, 4096), cpus=cpu_counts, more=cpu_counts, page_size=page_sizes)
def test_more_cpus_never_want_smaller_slabs_from_6_7(
    size: int, cpus: int, more: int, page_size: int
) -> None:
    assert wanted_objects(cpus) <= wanted_objects(cpus + more)
    era = slab_era_of(Release(6, 7))
    orders = [
        slub_order(size, cpus=of, limits=OrderLimits(), page_size=page_size, era=era).order
        for of in (cpus, cpus + more)
    ]
    assert orders[0] <= orders[1]


@given(size=st.integers(8, 32768), cpus=cpu_counts, page_size=page_sizes)
def test_rules_before_and_after_6_7_agree_unless_waste_is_above_a_quarter(
    size: int, cpus: int, page_size: int
) -> None:
    old, new = (
        slub_order(
            size,
            cpus=cpus,
            limits=OrderLimits(),
            page_size=page_size,
            era=replace(slab_era_of(Release(6, 1)), gives_up_objects=gives_up),
        )
        for gives_up in (True, False)
    )
    if old.order != new.order:
        slab_bytes = page_size << new.order
        wanted = min(wanted_objects(cpus), (page_size << 3) // size)
        assert slab_bytes % size > slab_bytes // 4 or old.objects < wanted


@given(size=st.integers(1, 1 << 22), page_size=page_sizes)
def test_page_order_is_the_smallest_that_holds(size: int, page_size: int) -> None:
    order = page_order(size, page_size)
    assert page_size << order >= size
    assert order == 0 or page_size << (order - 1) < size


@given(size=sizes, more=sizes, era=eras, page_size=page_sizes)
def test_larger_objects_keep_fewer_on_a_cpu_and_more_slabs_on_a_node(
    size: int, more: int, era: SlabEra, page_size: int
) -> None:
    kept = [
        cpu_partial(of, era=era, page_size=page_size, configured=True, debugging=False)
        for of in (size, size + more)
    ]
    assert kept[0] >= kept[1]
    assert 5 <= min_partial(size, tiny=False) <= min_partial(size + more, tiny=False) <= 10
    assert cpu_partial_slabs(kept[0], 1) >= cpu_partial_slabs(kept[1], 1)


@given(size=sizes, page_size=page_sizes, word=words)
def test_a_sheaf_fills_a_kmalloc_object(size: int, page_size: int, word: int) -> None:
    made = kmalloc_sizes(KmallocAlignment(kmalloc_minalign=8, dma_minalign=1), page_size=page_size)
    capacity = sheaf_capacity(
        "x",
        size,
        era=slab_era_of(Release(7, 2)),
        page_size=page_size,
        word_bytes=word,
        kmalloc_sizes=made,
        debugging=False,
        tiny=False,
    )
    bytes_ = 3 * word + 8 + capacity * word
    assert any(0 <= of - bytes_ < word for of in made)
    assert capacity >= 4


@given(
    minalign=st.sampled_from([8, 16, 32, 64, 128]),
    dma=st.sampled_from([1, 32, 64, 128]),
    page_size=page_sizes,
    era=eras,
)
def test_every_request_up_to_two_pages_has_a_class(
    minalign: int, dma: int, page_size: int, era: SlabEra
) -> None:
    made = kmalloc_sizes(
        KmallocAlignment(kmalloc_minalign=minalign, dma_minalign=dma), page_size=page_size
    )
    assert made == tuple(sorted(set(made)))
    assert made[-1] == 2 * page_size
    assert made[0] >= minalign
    assert all(size % max(minalign, dma) == 0 or size in (96, 192) for size in made)
    assert all(larger <= 2 * smaller for smaller, larger in pairwise(made))
    assert len({short_name(size, era) for size in made}) == len(made)


@given(
    size=st.integers(1, 8192),
    line=st.sampled_from([32, 64, 128, 256]),
    asked=st.sampled_from([0, 8, 64]),
)
def test_an_alignment_is_what_was_asked_for_or_more(size: int, line: int, asked: int) -> None:
    align = cache_align(size, asked, cache_line=line, slab_minalign=8, word_bytes=8)
    assert align >= max(asked, 8)
    assert align & (align - 1) == 0
    assert align <= max(line, asked)
    if size >= line:
        assert align >= line


@given(era=eras, bit=st.integers(3, 13))
def test_powers_of_two_are_aligned_to_themselves(era: SlabEra, bit: int) -> None:
    align = boot_align(
        1 << bit,
        era=era,
        alignment=KmallocAlignment(kmalloc_minalign=8, dma_minalign=1),
        kmalloc=True,
        cache_line=None,
        slab_minalign=8,
        word_bytes=8,
    )
    assert align == 1 << bit


@given(size=st.integers(1, 9999999), flags=slab_flags, account=st.booleans())
def test_an_id_says_its_size(size: int, flags: SlabFlags, account: bool) -> None:
    text = unique_id(size, flags, account=account)
    assert text.startswith(":")
    assert int(text[-7:]) == size
    assert ("A" in text) == account


@given(
    size=st.integers(8, 1 << 14),
    max_order=st.integers(0, 3),
    reclaim=st.booleans(),
    inside=st.booleans(),
)
def test_slab_fits_objects_and_index(
    size: int, max_order: int, reclaim: bool, inside: bool
) -> None:
    size = align_up(size, 16)
    machine = SlabMachine(
        page_size=4096,
        max_order=max_order,
        index_bytes=1,
        kmalloc_sizes=(32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192),
    )
    made = slab_geometry(size, size, machine, reclaim_account=reclaim, index_in_object=inside)
    assert made is not None
    slab_bytes = 4096 << made.order
    assert made.objects * (size + (made.index == "on")) + made.left_bytes == slab_bytes
    assert 1 <= made.objects <= 255
    assert made.left_bytes * 8 <= slab_bytes or made.order >= max_order or reclaim
    if made.index == "object":
        assert made.objects <= size
        assert inside


@given(size=sizes, more=sizes, cpus=cpu_counts, debug=st.booleans(), page_size=page_sizes)
def test_tunables_fall_with_the_size(
    size: int, more: int, cpus: int, debug: bool, page_size: int
) -> None:
    small, large = (
        slab_tunables(of, page_size=page_size, possible_cpus=cpus, debug=debug)
        for of in (size, size + more)
    )
    assert small.limit >= large.limit >= 1
    assert small.shared >= large.shared
    assert 2 * small.batchcount - small.limit in (0, 1)


@given(size=st.integers(1, 1 << 16), kmalloc=st.booleans())
def test_slob_blocks_hold_what_was_asked_for(size: int, kmalloc: bool) -> None:
    block = block_bytes(size, page_size=4096, minalign=8, kmalloc=kmalloc)
    assert block >= size
    assume(size < 4000)
    assert block <= size + 10
