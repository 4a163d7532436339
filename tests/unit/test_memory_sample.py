"""From a made guest to a finished sample, whole and damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import MemoryReadError, MissingSymbolError, WrongTypesError
from harness.record.memory import MemorySample, load_memory_sample, save_memory_sample
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.sampler import MAX_RETRIES, MAX_UNSOUND
from tests.made_allocator import KERNEL, PAGES, VMEMMAP, ZONES, MadeGuest

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, CMA, ISOLATE = range(6)


class Brake:
    """Counts stops; ``before`` runs while the guest stands, as if it had stopped there."""

    def __init__(self) -> None:
        self.stops = 0
        self.before: Callable[[int], None] = lambda _: None

    def stop(self) -> None:
        self.stops += 1
        self.before(self.stops)

    def go(self) -> float:
        return 1.5


class Setup:
    def __init__(self, *, new: bool, directory: Path) -> None:
        self.guest = MadeGuest(new=new)
        self.brake = Brake()
        self.directory = directory
        guest = self.guest
        guest.free(0, 0, UNMOVABLE, [33, 17, 99])
        guest.free(0, 3, MOVABLE, [512, 256])
        guest.free(1, 10, MOVABLE, [7168, 6144])
        guest.free(1, 0, RECLAIMABLE, [4100, 4096])
        guest.keep(1, 0, 1, [5000, 5002, 5001])
        guest.keep(1, 0, 3, [5008], order=1)
        guest.keep(1, 1, 13, [5120], order=9)
        for number in range(PAGES >> 9):
            guest.pageblock(number, MOVABLE if number > 1 else UNMOVABLE)

    def sampler(self) -> MemorySampler:
        return MemorySampler.of(
            self.guest.made.ram(), self.brake, self.guest.package(self.directory)
        )

    def sample(self, *, full: bool = False) -> MemorySample:
        with self.sampler() as sampler:
            return sampler.sample("made/now", full=full)


@pytest.fixture(params=[False, True], ids=["6.1", "7.2"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setup]:
    setup = Setup(new=request.param, directory=tmp_path)
    yield setup
    setup.guest.close()


def test_a_whole_sample(made: Setup, tmp_path: Path) -> None:
    guest = made.guest
    guest.count(1, pending={0: -5, 1: 3})
    sample = made.sample()
    assert sample.sound, sample.meta["problems"]
    rows = sample.blocks[["zone", "order", "migratetype", "position", "pfn"]].tolist()
    assert sorted(rows) == [
        (0, 0, UNMOVABLE, 0, 33), (0, 0, UNMOVABLE, 1, 17), (0, 0, UNMOVABLE, 2, 99),
        (0, 3, MOVABLE, 0, 512), (0, 3, MOVABLE, 1, 256),
        (1, 0, RECLAIMABLE, 0, 4100), (1, 0, RECLAIMABLE, 1, 4096),
        (1, 10, MOVABLE, 0, 7168), (1, 10, MOVABLE, 1, 6144),
    ]  # fmt: skip
    kept = sample.pcp_pages[["zone", "cpu", "pindex", "position", "pfn"]].tolist()
    assert kept == [
        (1, 0, 1, 0, 5000), (1, 0, 1, 1, 5002), (1, 0, 1, 2, 5001), (1, 0, 3, 0, 5008),
        (1, 1, 13, 0, 5120),
    ]  # fmt: skip
    for zone, (number, name, start, end) in zip(sample.zones, ZONES, strict=True):
        assert (zone["zone"], zone["node"], zone["name"]) == (number, 0, name.encode())
        assert (zone["start_pfn"], zone["spanned_pages"]) == (start, end - start)
        assert zone["managed_pages"] == end - start - 8
        assert [zone[f"watermark_{mark}"] for mark in ("min", "low", "high", "promo")] == [
            *(100, 125, 150, 175)
        ]
        assert (zone["watermark_boost"], zone["flags"]) == (3, 2)
        assert zone["lowmem_reserve"].tolist() == [0, 32 - 32 * number, -1, -1, -1, -1]
    assert sample.zones["nr_free_pages"].tolist() == [3 + 16, 2 + 2048 + 2]
    assert sample.pcps["count"].tolist() == [0, 0, 5, 512]
    assert sample.pcps["diff_free_pages"].tolist() == [0, 0, -5, 3]
    assert set(sample.pcps["stat_threshold"].tolist()) == {12}
    assert sample.zonelists.tolist() == [(0, f, p, 1 - p) for f in (1, 0) for p in (0, 1)]
    assert sample.cpus.tolist() == [(0, 0), (1, 0)]
    assert sample.pageblocks["pfn"].tolist() == [512 * number for number in range(16)]
    assert sample.pageblocks["migratetype"].tolist() == [UNMOVABLE] * 2 + [MOVABLE] * 14
    meta = sample.meta
    assert (meta["trace_counter"], meta["retries"], meta["stopped_ms"]) == (4711, 0, 1.5)
    assert (meta["max_order"], meta["pageblock_order"]) == (10, 9)
    assert (meta["vmemmap"], meta["struct_page_bytes"]) == (VMEMMAP, 64)
    assert meta["zone_addresses"] == [guest.zone(0), guest.zone(1)]
    save_memory_sample(sample, tmp_path / "made.npz")
    assert load_memory_sample(tmp_path / "made.npz").meta == meta


def test_what_a_release_lacks_is_minus_one(made: Setup) -> None:
    sample = made.sample()
    lacking = ("high_min", "high_max", "flags", "alloc_factor", "free_count")
    for name in lacking:
        assert (sample.pcps[name] == -1).all() != made.guest.new
    assert (sample.pcps["free_factor"] == -1).all() == made.guest.new
    assert (sample.zones["nr_free_highatomic"] == -1).all() != made.guest.new
    assert (sample.pcp_pages["pcp_migratetype"] == -1).all() == made.guest.new


def test_the_migratetype_that_a_page_keeps_on_a_per_cpu_list(tmp_path: Path) -> None:
    setup = Setup(new=False, directory=tmp_path)
    setup.guest.poke_page(5002, "index", CMA)
    assert setup.sample().pcp_pages["pcp_migratetype"].tolist() == [0, CMA, 0, 0, 0]
    setup.guest.close()


def test_isolation_in_a_bit_or_as_a_type(made: Setup) -> None:
    guest = made.guest
    guest.pageblock(9, MOVABLE | 1 << 4 if guest.new else ISOLATE)
    guest.pageblock(10, MOVABLE | 1 << 3)
    guest.free(1, 0, ISOLATE, [4610])
    sample = made.sample()
    assert sample.sound, sample.meta["problems"]
    block = sample.pageblocks[9]
    assert (block["isolated"], block["migratetype"]) == (1, MOVABLE if guest.new else ISOLATE)
    assert sample.pageblocks["isolated"].sum() == 1
    assert np.flatnonzero(sample.pageblocks["skip"]).tolist() == [10]
    assert sample.zones["nr_free_pages"][1] == 2 + 2048, "isolated pages are not counted free"


def test_frames_of_a_full_sample(made: Setup) -> None:
    guest = made.guest
    guest.poke_page(4200, "flags", 1 << 53 | 1 << 4)
    guest.poke_page(4200, "mapping", 0xFFFF_8880_0000_1001)
    sample = made.sample(full=True)
    assert sample.frame_ranges.tolist() == [(16, PAGES - 16)]
    at = 4200 - 16
    assert (sample.frame_flags[at], sample.frame_mapping[at]) == (1 << 4, 1)
    heads = np.flatnonzero(sample.frame_type == guest.buddy) + 16
    assert heads.tolist() == sorted(sample.blocks["pfn"].tolist())
    light = made.sample()
    assert not len(light.frame_flags)
    assert not light.meta["full"]


# damage: each must be said, and none may raise or be lost


def damage_order(guest: MadeGuest) -> None:
    guest.poke_page(256, "private", 4)


def damage_absurd_order(guest: MadeGuest) -> None:
    guest.poke_page(256, "private", 1 << 40)


def damage_prev(guest: MadeGuest) -> None:
    guest.poke_page(17, "lru", guest.links(99), more=8)


def damage_tail(guest: MadeGuest) -> None:
    guest.word(guest.area(0, 0) + 8, guest.links(17))


def damage_next(guest: MadeGuest) -> None:
    guest.poke_page(17, "lru", guest.links(40))


def damage_next_wild(guest: MadeGuest) -> None:
    guest.poke_page(17, "lru", 0xDEAD_0000_0000_0100)


def damage_loop(guest: MadeGuest) -> None:
    guest.poke_page(99, "lru", guest.links(33))


def damage_type(guest: MadeGuest) -> None:
    guest.poke_page(17, "page_type", 0xFFFF_FFFF, 4)


def damage_stray(guest: MadeGuest) -> None:
    guest.poke_page(1000, "page_type", guest.buddy, 4)
    guest.poke_page(1000, "private", 0)


def damage_nr_free(guest: MadeGuest) -> None:
    guest.word(guest.area(0, 3) + guest.shapes["free_area"].at["nr_free"], 3)


def damage_counter(guest: MadeGuest) -> None:
    guest.word(guest.zone(0) + guest.shapes["zone"].at["vm_stat"], 20)


def damage_cma(guest: MadeGuest) -> None:
    guest.word(guest.zone(0) + guest.shapes["zone"].at["vm_stat"] + 16, 1)


def damage_alignment(guest: MadeGuest) -> None:
    guest.poke_page(256, "page_type", 0xFFFF_FFFF, 4)
    guest.free(0, 3, MOVABLE, [512, 260])


def damage_overlap(guest: MadeGuest) -> None:
    guest.free(0, 3, RECLAIMABLE, [508])


def damage_zone(guest: MadeGuest) -> None:
    guest.free(0, 2, MOVABLE, [4600])


def damage_flags(guest: MadeGuest) -> None:
    guest.poke_page(17, "flags", 1 << 53)


def damage_pcp_count(guest: MadeGuest) -> None:
    guest.poke("per_cpu_pages", guest.pcp(1, 0), "count", 6, 4)


def damage_pcp_next(guest: MadeGuest) -> None:
    guest.poke_page(5002, "lru", 0)


def damage_pcp_prev(guest: MadeGuest) -> None:
    guest.poke_page(5002, "lru", 0, more=8)


def damage_pcp_loop(guest: MadeGuest) -> None:
    guest.poke_page(5001, "lru", guest.links(5000))


def damage_zonelist(guest: MadeGuest) -> None:
    at = guest.node + guest.shapes["pglist_data"].at["node_zonelists"]
    guest.word(at, KERNEL + 0x10)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_order, "holds a block of another order"),
        (damage_absurd_order, "holds a block of another order"),
        (damage_prev, "order 0 Unmovable: the free list has a prev link"),
        (damage_tail, "order 0 Unmovable: the free list has a prev link"),
        (damage_next, "zone DMA order 0 Unmovable: the free list leads to what is no free block"),
        (damage_next_wild, "leads to what is no free block"),
        (damage_loop, "leads to a block that is on a list already"),
        (damage_type, "leads to what is no free block"),
        (damage_stray, "1 free blocks in the memmap are on no list (pfn 0x3e8 order 0)"),
        (damage_nr_free, "zone DMA order 3: nr_free is 3, its lists hold 2"),
        (damage_counter, "NR_FREE_PAGES is 20 with all CPUs' differences, the free lists hold 19"),
        (damage_cma, "NR_FREE_CMA_PAGES is 1"),
        (damage_alignment, "1 free blocks are not aligned to their size (pfn 0x104)"),
        (damage_overlap, "1 free blocks are not aligned to their size (pfn 0x1fc)"),
        (damage_zone, "1 free blocks are not inside their zone (pfn 0x11f8)"),
        (damage_flags, "1 free blocks are of another zone by their page flags (pfn 0x11)"),
        (damage_pcp_count, "zone Normal cpu 0: per-cpu pages: count is 6, its lists hold 5 pages"),
        (damage_pcp_next, "zone Normal cpu 0: per-cpu pages: list 1 leads out of the memmap"),
        (damage_pcp_prev, "list 1 has a prev link that does not lead back"),
        (damage_pcp_loop, "list 1 does not end"),
        (damage_zonelist, "a zonelist of node 0 has a zone without pages"),
    ],
)
def test_damage_is_said_and_the_data_kept(
    made: Setup, damage: Callable[[MadeGuest], None], said: str
) -> None:
    damage(made.guest)
    sample = made.sample()
    assert not sample.sound
    assert said in "\n".join(sample.meta["problems"])
    assert len(sample.blocks) >= 6, "what can be read is kept"
    assert made.brake.stops == MAX_UNSOUND + 1, "it may have been a passing state"


def test_a_passing_state_is_sampled_again(made: Setup) -> None:
    guest = made.guest

    def before(stop: int) -> None:
        stat = guest.zone(0) + guest.shapes["zone"].at["vm_stat"]
        guest.word(stat, 18 if stop == 1 else 19)

    made.brake.before = before
    sample = made.sample()
    assert sample.sound, sample.meta["problems"]
    assert (made.brake.stops, sample.meta["retries"]) == (2, 1)


@pytest.mark.parametrize("which", ["zone", "pcp"])
def test_a_held_lock_is_waited_for(made: Setup, which: str) -> None:
    guest = made.guest

    def hold(stop: int) -> None:
        held = int(stop <= 3)
        if which == "zone":
            guest.poke("zone", guest.zone(1), "lock", held, 4)
        else:
            guest.poke("per_cpu_pages", guest.pcp(0, 1), "lock", held << 8, 4)

    made.brake.before = hold
    sample = made.sample()
    assert sample.sound, sample.meta["problems"]
    assert (made.brake.stops, sample.meta["retries"]) == (4, 3)


def test_a_lock_that_is_never_free(made: Setup) -> None:
    made.guest.poke("zone", made.guest.zone(1), "lock", 1, 4)
    sample = made.sample()
    assert not sample.sound
    assert f"was held at each of {MAX_RETRIES + 1} stops" in sample.meta["problems"][-1]
    assert len(sample.blocks) == 9


def test_a_cpu_that_goes_offline_is_noticed(made: Setup) -> None:
    with made.sampler() as sampler:
        assert len(sampler.sample("made/two").pcps) == 4
        made.guest.word(made.guest.symbols["__cpu_online_mask"], 1)
        sample = sampler.sample("made/one")
    assert sample.sound, sample.meta["problems"]
    assert sample.pcps["cpu"].tolist() == [0, 0]
    assert sample.meta["retries"] == 1
    assert sample.meta["sequence"] == 1


def test_ram_cut_short_between_samples(made: Setup) -> None:
    with made.sampler() as sampler:
        sampler.sample("made/before")
        os.truncate(made.guest.made.files[0], 4096)
        stops = made.brake.stops
        with pytest.raises(MemoryReadError, match="memory of node 0 is truncated"):
            sampler.sample("made/after")
        assert made.brake.stops == stops, "the guest was not stopped for it"


def test_the_guest_goes_on_when_reading_fails(made: Setup) -> None:
    with made.sampler() as sampler:
        went: list[bool] = []
        made.brake.go = lambda: went.append(True) or 0.0  # type: ignore[func-returns-value,method-assign]
        sampler._scanner.heads = None  # type: ignore[assignment,method-assign]
        with pytest.raises(TypeError):
            sampler.sample("made/fails")
        assert went == [True]


def test_types_of_another_kernel_in_the_guest(made: Setup) -> None:
    other = MadeGuest(new=not made.guest.new)
    types = other.types.btf.bytes
    made.guest.put(made.guest.symbols["__start_BTF"], types)
    with pytest.raises((WrongTypesError, MissingSymbolError)):
        made.sample()
    other.close()


def test_a_kernel_without_a_needed_symbol(made: Setup) -> None:
    guest = made.guest
    names = sorted(guest.symbols)
    at = 0
    coded = guest.made.ram()
    data = bytes(coded.array)
    at = data.index(b"D__per_cpu_offset")
    coded.close()
    guest.made.write(at, b"D__per_cpu_offsex")
    assert "__per_cpu_offset" in names
    with pytest.raises(MissingSymbolError, match=r"_etext and _sinittext are not in kallsyms"):
        made.sample()
