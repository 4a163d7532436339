"""The slab model against examples worked out by hand from the kernel's rules."""

from __future__ import annotations

import pytest

from analysis.model.eras_slab import SlabEra, slab_era_of
from analysis.model.release import Release
from analysis.model.slab.kmalloc import (
    KmallocAlignment,
    boot_align,
    cache_align,
    kmalloc_alignment,
    kmalloc_kinds,
    kmalloc_sizes,
    short_name,
)
from analysis.model.slab.merging import merging_on, reason_alone, stays_alone, unique_id
from analysis.model.slab.partial import cpu_partial, cpu_partial_slabs, min_partial
from analysis.model.slab.sheaves import sheaf_capacity
from analysis.model.slab.slab import (
    SlabMachine,
    index_bytes,
    kmalloc_largest,
    slab_geometry,
    slab_size,
    slab_tunables,
)
from analysis.model.slab.slob import block_bytes, page_list, unit_bytes
from analysis.model.slab.slub_layout import (
    SlabFlags,
    free_pointer_inside,
    slub_layout,
    track_bytes,
)
from analysis.model.slab.slub_order import (
    OrderLimits,
    counted_cpus,
    order_limits,
    page_order,
    slub_order,
    wanted_objects,
)


def era(version: int, patchlevel: int) -> SlabEra:
    return slab_era_of(Release(version, patchlevel))


def size_of(
    object_size: int, align: int, flags: SlabFlags, of: SlabEra, *, inside: bool = False
) -> int:
    return slub_layout(
        object_size, align, flags, era=of, word_bytes=8, stack=True, free_pointer_inside=inside
    ).size_bytes


class TestLayout:
    def test_a_plain_object_is_rounded_to_its_alignment_and_holds_the_free_pointer(self) -> None:
        layout = slub_layout(100, 64, SlabFlags(), era=era(6, 1), word_bytes=8, stack=True)
        # 104 in whole words, then 128 for lines of 64; the pointer in the middle word (100/2 = 50)
        assert (layout.inuse_bytes, layout.free_pointer_offset, layout.size_bytes) == (104, 48, 128)

    @pytest.mark.parametrize(
        "flags", [SlabFlags(destroy_by_rcu=True), SlabFlags(constructor=True)], ids=["rcu", "ctor"]
    )
    def test_an_object_that_must_not_change_has_the_free_pointer_behind(
        self, flags: SlabFlags
    ) -> None:
        layout = slub_layout(104, 8, flags, era=era(6, 1), word_bytes=8, stack=True)
        assert (layout.free_pointer_offset, layout.size_bytes) == (104, 112)

    def test_a_place_for_the_free_pointer_saves_the_word(self) -> None:
        # struct file, 6.12: 184 bytes in lines of 64 are 192 with and 192 without; 192 are not
        flags = SlabFlags(destroy_by_rcu=True)
        assert size_of(192, 64, flags, era(6, 12)) == 256
        assert size_of(192, 64, flags, era(6, 12), inside=True) == 192

    def test_poison_moves_the_free_pointer_out_even_then(self) -> None:
        flags = SlabFlags(destroy_by_rcu=True, poison=True)
        assert size_of(192, 64, flags, era(6, 12), inside=True) == 256

    def test_full_debugging_of_kmalloc_64(self) -> None:
        # 64 + 8 right red zone, 8 free pointer, tracking, 8 padding, 64 left red zone
        flags = SlabFlags(
            sanity_checks=True, red_zone=True, poison=True, store_user=True, kmalloc=True
        )
        with_addresses = 64 + 8 + 8 + 2 * 152 + 8 + 64
        assert size_of(64, 64, flags, era(5, 10)) == -(-with_addresses // 64) * 64
        with_handle = 64 + 8 + 8 + 2 * 32 + 8 + 8 + 64
        assert size_of(64, 64, flags, era(6, 1)) == -(-with_handle // 64) * 64

    def test_a_red_zone_needs_no_word_where_rounding_left_one(self) -> None:
        # 60 bytes leave 4 to 64 for it; 64 do not
        assert size_of(60, 8, SlabFlags(red_zone=True), era(6, 1)) == 64 + 8 + 8
        assert size_of(64, 8, SlabFlags(red_zone=True), era(6, 1)) == 72 + 8 + 8

    def test_the_size_asked_for_moves_the_free_pointer_from_6_2(self) -> None:
        flags = SlabFlags(red_zone=True, store_user=True, kmalloc=True)
        places = [
            slub_layout(64, 8, flags, era=of, word_bytes=8, stack=True).free_pointer_offset
            for of in (era(6, 1), era(6, 2))
        ]
        assert places == [32, 72]

    @pytest.mark.parametrize(
        ("of", "word", "stack", "bytes_"),
        [
            (era(5, 10), 8, True, 152),  # 8 + 16*8, two ints, 8
            (era(5, 10), 8, False, 24),
            (era(5, 10), 4, True, 80),
            (era(6, 1), 8, True, 32),  # 8 + 3 ints, padded, 8
            (era(6, 1), 8, False, 24),
            (era(6, 1), 4, True, 20),
        ],
    )
    def test_tracking_records(self, of: SlabEra, word: int, stack: bool, bytes_: int) -> None:
        assert track_bytes(of, word_bytes=word, stack=stack) == bytes_

    def test_who_names_a_place_is_known_only_of_compared_releases(self) -> None:
        assert free_pointer_inside("filp", Release(6, 1)) == (False,)
        assert free_pointer_inside("filp", Release(6, 12)) == (True,)
        assert free_pointer_inside("vm_area_struct", Release(6, 12)) == (False,)
        assert free_pointer_inside("io_kiocb", Release(6, 16)) == (False, True)
        assert free_pointer_inside("vm_area_struct", Release(7, 2)) == (True,)
        assert free_pointer_inside("anon_vma", Release(7, 2)) == (False,)


class TestOrder:
    def order(
        self,
        size: int,
        cpus: int,
        of: SlabEra,
        *,
        page_size: int = 4096,
        limits: OrderLimits | None = None,
    ) -> tuple[int, int]:
        made = slub_order(
            size, cpus=cpus, limits=limits or OrderLimits(), page_size=page_size, era=of
        )
        return made.order, made.objects

    def test_wanted_objects_grow_with_the_bits_of_the_number_of_cpus(self) -> None:
        assert [wanted_objects(cpus) for cpus in (1, 2, 3, 4, 64)] == [8, 12, 12, 16, 32]

    def test_present_cpus_count_from_5_11_unless_it_is_just_one(self) -> None:
        assert counted_cpus(era(5, 10), possible=64, present=4) == 64
        assert counted_cpus(era(6, 1), possible=64, present=4) == 4
        assert counted_cpus(era(6, 1), possible=64, present=1) == 64

    def test_one_cpu_and_192_bytes_fit_one_page(self) -> None:
        # 8 wanted are 1536 bytes; 21 fit, 64 left over is less than 4096/16
        assert self.order(192, 1, era(6, 1)) == (0, 21)

    def test_too_much_left_over_goes_to_the_next_order(self) -> None:
        # 1 page leaves 4096 - 5*704 = 576 > 256; of two pages 11 leave 448 <= 512
        assert self.order(704, 1, era(6, 1))[0] >= 1

    def test_task_struct_of_two_cpus(self) -> None:
        # 12 of 6208 do not fit 8 pages, 5 do: the most that order 3 holds; 1728 of 32768 left over
        assert self.order(6208, 2, era(6, 1)) == (3, 5)

    def test_waste_of_a_third_is_accepted_only_from_6_7(self) -> None:
        # two of 12000 bytes leave 8768 of 32768: more than a quarter, less than a half
        assert self.order(12000, 2, era(6, 12)) == (3, 2)
        # before, one of 12000 in 16384 leaves 4384, more than a quarter too, in 32768 2 fit and
        # leave as much; so one object in the smallest order
        assert self.order(12000, 2, era(6, 1)) == (2, 1)

    def test_larger_than_the_largest_order(self) -> None:
        for of in (era(6, 1), era(7, 2)):
            assert self.order(40000, 2, of) == (4, 1)

    def test_pages_of_16_kib(self) -> None:
        assert self.order(256, 2, era(6, 12), page_size=16384) == (0, 64)

    def test_more_than_32767_objects_do_not_fit_a_slab(self) -> None:
        limits = OrderLimits(min_order=8, max_order=9)
        for of in (era(6, 1), era(7, 2)):
            order, objects = self.order(8, 2, of, limits=limits)
            assert (order, objects) == (5, 16384)

    def test_the_fallback_is_the_smallest_order_for_one_object(self) -> None:
        made = slub_order(1024, cpus=2, limits=OrderLimits(), page_size=4096, era=era(6, 1))
        assert (made.order, made.objects) == (2, 16)
        assert (made.fallback_order, made.fallback_objects) == (0, 4)

    def test_page_order(self) -> None:
        assert [page_order(size, 4096) for size in (1, 4096, 4097, 8192, 8193)] == [0, 0, 1, 1, 2]

    def test_parameters_in_their_order(self) -> None:
        old, new = era(6, 1), era(6, 12)
        given = {"min_order": 4}
        assert order_limits(given, old, tiny=False, page_order_max=10).max_order == 3
        assert order_limits(given, new, tiny=False, page_order_max=10).max_order == 4
        both = {"min_order": 4, "max_order": 2}
        assert order_limits(both, new, tiny=False, page_order_max=10) == OrderLimits(
            min_order=2, max_order=2
        )
        assert order_limits({"max_order": 99}, old, tiny=False, page_order_max=10).max_order == 10
        guard = {"debug_guardpage_minorder": 1}
        assert order_limits(guard, old, tiny=False, page_order_max=10).max_order == 0
        assert order_limits({}, new, tiny=True, page_order_max=10).max_order == 1
        assert (
            order_limits({"min_objects": 20}, new, tiny=False, page_order_max=10).min_objects == 20
        )


class TestPartial:
    def test_min_partial_is_half_the_logarithm_within_5_and_10(self) -> None:
        assert [min_partial(size, tiny=False) for size in (8, 2048, 4096, 1 << 22)] == [5, 5, 6, 10]
        assert min_partial(4096, tiny=True) == 0

    @pytest.mark.parametrize(
        ("of", "expected"),
        [(era(5, 10), [30, 13, 6, 2]), (era(6, 1), [120, 52, 24, 6]), (era(7, 2), [0, 0, 0, 0])],
    )
    def test_cpu_partial_by_size(self, of: SlabEra, expected: list[int]) -> None:
        got = [
            cpu_partial(size, era=of, page_size=4096, configured=True, debugging=False)
            for size in (255, 256, 1024, 4096)
        ]
        assert got == expected

    def test_no_cpu_partial_with_debugging_or_without_configuration(self) -> None:
        for configured, debugging in ((True, True), (False, False)):
            assert (
                cpu_partial(
                    64, era=era(6, 1), page_size=4096, configured=configured, debugging=debugging
                )
                == 0
            )

    def test_slabs_take_half_of_their_objects_to_be_used(self) -> None:
        assert cpu_partial_slabs(120, 64) == 4
        assert cpu_partial_slabs(6, 5) == 3

    def test_a_large_page_makes_more_sizes_smaller_than_a_page(self) -> None:
        assert (
            cpu_partial(8192, era=era(6, 12), page_size=16384, configured=True, debugging=False)
            == 24
        )


class TestSheaves:
    SIZES = kmalloc_sizes(KmallocAlignment(kmalloc_minalign=8, dma_minalign=1), page_size=4096)

    def capacity(self, name: str, size: int, **more: bool) -> int:
        return sheaf_capacity(
            name,
            size,
            era=era(6, 18) if more.get("first") else era(7, 2),
            page_size=4096,
            word_bytes=8,
            kmalloc_sizes=self.SIZES,
            debugging=more.get("debugging", False),
            tiny=False,
        )

    def test_a_sheaf_fills_its_kmalloc_object(self) -> None:
        # header 32: 60 pointers make 512 exactly; 26 make 240, so 256 hold 28; 12 make 128; 4, 64
        assert [self.capacity("x", size) for size in (64, 256, 1024, 4096)] == [60, 28, 12, 4]

    def test_a_user_may_ask_for_more(self) -> None:
        assert self.capacity("maple_node", 256) == 32
        assert self.capacity("vm_area_struct", 192) == 60

    def test_in_6_18_just_what_was_asked_for(self) -> None:
        assert [self.capacity(name, 64, first=True) for name in ("x", "vm_area_struct")] == [0, 32]

    def test_none_with_debugging_and_for_the_first_caches(self) -> None:
        assert self.capacity("x", 64, debugging=True) == 0
        assert self.capacity("kmem_cache", 256) == 0


class TestKmalloc:
    X86 = KmallocAlignment(kmalloc_minalign=8, dma_minalign=1)

    def test_sizes_of_x86_and_of_arm64(self) -> None:
        assert kmalloc_sizes(self.X86, page_size=4096) == (
            8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
        )  # fmt: skip
        old = KmallocAlignment(kmalloc_minalign=128, dma_minalign=1)
        assert kmalloc_sizes(old, page_size=4096) == (128, 256, 512, 1024, 2048, 4096, 8192)
        lines = KmallocAlignment(kmalloc_minalign=8, dma_minalign=64)
        assert kmalloc_sizes(lines, page_size=4096)[:4] == (64, 128, 192, 256)

    def test_sizes_follow_the_page(self) -> None:
        assert kmalloc_sizes(self.X86, page_size=65536)[-1] == 131072

    def test_of_a_smallest_size_of_64_there_is_192_and_no_96(self) -> None:
        arm = KmallocAlignment(kmalloc_minalign=64, dma_minalign=1)
        assert kmalloc_sizes(arm, page_size=4096)[:4] == (64, 128, 192, 256)

    def test_what_architectures_want(self) -> None:
        def wants(arch: str, of: SlabEra, *, noncoherent: bool, line: int | None) -> object:
            return kmalloc_alignment(
                arch, of, l1_cache_shift=None, noncoherent=noncoherent, cache_line=line
            )

        assert wants("x86_64", era(5, 10), noncoherent=False, line=None) == self.X86
        assert wants("arm64", era(6, 1), noncoherent=False, line=None) == KmallocAlignment(
            kmalloc_minalign=128, dma_minalign=1
        )
        assert wants("arm64", era(6, 12), noncoherent=False, line=None) == self.X86
        assert wants("arm64", era(6, 12), noncoherent=True, line=None) is None
        assert wants("arm64", era(6, 12), noncoherent=True, line=64) == KmallocAlignment(
            kmalloc_minalign=8, dma_minalign=64
        )
        assert wants("arm", era(6, 1), noncoherent=False, line=None) is None
        assert wants("riscv64", era(6, 1), noncoherent=True, line=None) is None

    def test_names(self) -> None:
        assert [short_name(size, era(6, 1)) for size in (96, 512, 1024, 8192, 1 << 21)] == [
            "96", "512", "1k", "8k", "2M",
        ]  # fmt: skip
        assert short_name(1024, era(4, 18)) == "1024"

    def test_kinds_by_release_and_configuration(self) -> None:
        def kinds(of: SlabEra, **more: bool) -> tuple[str, ...]:
            given = {
                "zone_dma": True, "accounting": True, "kmem_off": False, "tiny": False,
                "random": False, "partitions": False, "buckets": False,
            }  # fmt: skip
            return kmalloc_kinds(of, **{**given, **more})

        assert kinds(era(5, 10)) == ("kmalloc-", "kmalloc-rcl-", "dma-kmalloc-")
        assert "kmalloc-cg-" in kinds(era(5, 14))
        assert "kmalloc-cg-" not in kinds(era(6, 1), kmem_off=True)
        assert "kmalloc-rcl-" not in kinds(era(6, 12), tiny=True)
        assert "dma-kmalloc-" not in kinds(era(6, 12), zone_dma=False)
        assert kinds(era(6, 12), random=True)[-15::14] == ("kmalloc-rnd-01-", "kmalloc-rnd-15-")
        assert kinds(era(6, 12), buckets=True)[-2:] == ("memdup_user-", "msg_msg-")
        assert kinds(era(6, 1), buckets=True) == kinds(era(6, 1))

    def test_alignment_of_kmalloc_caches(self) -> None:
        def align(size: int, of: SlabEra) -> int:
            return boot_align(
                size, era=of, alignment=self.X86, kmalloc=True, cache_line=None,
                slab_minalign=8, word_bytes=8,
            )  # fmt: skip

        assert [align(size, era(6, 1)) for size in (64, 96, 192, 8192)] == [64, 8, 8, 8192]
        assert [align(size, era(6, 12)) for size in (64, 96, 192, 8192)] == [64, 32, 64, 8192]

    def test_cache_lines_are_halved_for_small_objects(self) -> None:
        def align(size: int) -> int:
            return cache_align(size, 0, cache_line=64, slab_minalign=8, word_bytes=8)

        assert [align(size) for size in (65, 64, 33, 32, 20, 16, 8, 4)] == [
            64, 64, 64, 32, 32, 16, 8, 8,
        ]  # fmt: skip
        assert cache_align(24, 0, cache_line=None, slab_minalign=8, word_bytes=8) == 8


class TestMerging:
    def test_ids(self) -> None:
        assert unique_id(64, SlabFlags()) == ":0000064"
        flags = SlabFlags(reclaim_account=True, cache_dma=True, sanity_checks=True)
        assert unique_id(104, flags, account=True) == ":daFA-0000104"

    def test_the_last_parameter_counts(self) -> None:
        assert not merging_on(("slab_nomerge",), era(5, 10), by_default=True)
        assert not merging_on(("slub_nomerge", "slab_merge"), era(5, 10), by_default=True)
        assert merging_on(("slub_nomerge", "slab_merge"), era(6, 1), by_default=True)
        assert not merging_on((), era(6, 1), by_default=False)

    @pytest.mark.parametrize(
        "flags",
        [
            SlabFlags(red_zone=True), SlabFlags(poison=True), SlabFlags(store_user=True),
            SlabFlags(trace=True), SlabFlags(destroy_by_rcu=True), SlabFlags(constructor=True),
        ],
        ids=str,
    )  # fmt: skip
    def test_flags_that_keep_a_cache_alone(self, flags: SlabFlags) -> None:
        assert self.reason("x", flags, era(6, 1)) is not None

    def reason(self, name: str, flags: SlabFlags, of: SlabEra, **more: int) -> str | None:
        return reason_alone(
            name,
            flags,
            era=of,
            usersize=more.get("usersize", 0),
            failslab=False,
            accounting=True,
        )

    def test_names_that_stay_alone(self) -> None:
        plain = SlabFlags(sanity_checks=True, reclaim_account=True)
        assert self.reason("x", plain, era(6, 1)) is None
        assert self.reason("x", plain, era(6, 1), usersize=8)
        assert self.reason("kmem_cache", plain, era(6, 1))
        assert self.reason("kmalloc-64", plain, era(6, 1))
        assert self.reason("kmalloc-64", plain, era(5, 10)) is None
        assert self.reason("kmalloc-rcl-64", plain, era(6, 1)) is None
        assert self.reason("kmalloc-rnd-03-64", plain, era(6, 12))
        assert stays_alone("maple_node", Release(6, 12)) == (False,)
        assert stays_alone("key_jar", Release(7, 0)) == (False, True)
        assert stays_alone("maple_node", Release(7, 2)) == (True,)
        assert stays_alone("dentry", Release(7, 2)) == (False,)


class TestSlab:
    MACHINE = SlabMachine(
        page_size=4096,
        max_order=1,
        index_bytes=1,
        kmalloc_sizes=(32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192),
    )

    def geometry(self, size: int, **more: bool) -> tuple[int, int, str]:
        made = slab_geometry(
            size,
            size,
            self.MACHINE,
            reclaim_account=more.get("reclaim_account", False),
            index_in_object=more.get("index_in_object", True),
        )
        assert made is not None
        return made.order, made.objects, made.index

    def test_a_page_of_64_byte_objects_keeps_its_index_in_a_free_one(self) -> None:
        assert self.geometry(64) == (0, 64, "object")

    def test_128_entries_do_not_fit_32_bytes_nor_pay_outside(self) -> None:
        # 4096 / 33 = 124 objects and the index behind them
        assert self.geometry(32) == (0, 124, "on")

    def test_large_objects_with_a_constructor_keep_it_outside(self) -> None:
        # 8 of 1024 in... one page: 4 objects, nothing left; an index of 4 bytes lies in kmalloc-32
        assert self.geometry(1024, index_in_object=False) == (0, 4, "off")

    def test_an_eighth_may_be_left_over(self) -> None:
        # one of 3000 leaves 1096 > 512; two pages hold 2 and leave 2192 > 1024, but that is the end
        assert self.geometry(3000) == (1, 2, "object")
        assert self.geometry(3000, reclaim_account=True) == (0, 1, "object")

    def test_kmalloc_96_takes_two_cache_lines(self) -> None:
        def size(object_size: int, align: int) -> int:
            return slab_size(
                object_size, align, word_bytes=8, index_entry_bytes=1, smallest_object=32
            )

        assert [size(96, 64), size(32, 32), size(20, 8), size(4, 8)] == [128, 32, 24, 16]

    def test_index_entries(self) -> None:
        assert index_bytes(page_size=4096, smallest_object=32) == 1
        assert index_bytes(page_size=4096, smallest_object=8) == 2
        assert index_bytes(page_size=65536, smallest_object=128) == 2

    def test_kmalloc_ended_at_32_mib_or_the_largest_block_to_6_0(self) -> None:
        assert kmalloc_largest(era(5, 10), page_size=4096, page_order_max=10) == 4 << 20
        assert kmalloc_largest(era(5, 10), page_size=65536, page_order_max=13) == 32 << 20
        assert kmalloc_largest(era(6, 1), page_size=4096, page_order_max=10) == 8192

    def test_nothing_fits_when_objects_are_larger_than_every_block(self) -> None:
        assert (
            slab_geometry(
                8 << 20, 8 << 20, self.MACHINE, reclaim_account=False, index_in_object=True
            )
            is None
        )

    @pytest.mark.parametrize(
        ("size", "limit", "batch", "shared"),
        [
            (256, 120, 60, 8),
            (257, 54, 27, 8),
            (1025, 24, 12, 8),
            (4097, 8, 4, 0),
            (131073, 1, 1, 0),
        ],
    )
    def test_tunables(self, size: int, limit: int, batch: int, shared: int) -> None:
        made = slab_tunables(size, page_size=4096, possible_cpus=2, debug=False)
        assert (made.limit, made.batchcount, made.shared) == (limit, batch, shared)

    def test_tunables_of_one_cpu_and_of_debugging(self) -> None:
        made = slab_tunables(64, page_size=4096, possible_cpus=1, debug=True)
        assert (made.limit, made.batchcount, made.shared) == (32, 16, 0)


class TestSlob:
    def test_units_and_lists(self) -> None:
        assert (unit_bytes(4096), unit_bytes(65536)) == (2, 4)
        assert [page_list(size) for size in (255, 256, 1024)] == ["small", "medium", "large"]

    def test_blocks(self) -> None:
        def block(size: int, *, kmalloc: bool) -> int:
            return block_bytes(size, page_size=4096, minalign=8, kmalloc=kmalloc)

        assert [block(size, kmalloc=False) for size in (1, 10, 4095, 4096)] == [2, 10, 4096, 4096]
        assert [block(size, kmalloc=True) for size in (10, 4087, 4088, 8192)] == [
            18, 4096, 4096, 8192,
        ]  # fmt: skip
