"""Request streams made by the allocator model itself, standing in for a kernel that is known.

The model runs random histories; every request is written down with what it answered, and the
state before and after as memory samples, as if a host had read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.pcp import LOW_ORDER_LISTS, pcp_allowed
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from analysis.replay.model_state import PlainState
from analysis.replay.request_stream import RequestStream
from analysis.replay.step import Kind, Step
from harness.record.memory import (
    AREA,
    BLOCK,
    CPU,
    FRAME_RANGE,
    LOWMEM_RESERVES,
    PAGEBLOCK,
    PCP,
    PCP_PAGE,
    ZONE,
    ZONELIST,
    MemorySample,
)
from tests.allocator_model import (
    MAX_ORDER,
    PAGEBLOCK_ORDER,
    fill,
    make_allocator,
    make_zone,
    request,
)

GFP = {Migratetype.UNMOVABLE: 0xCC0, Migratetype.MOVABLE: 0xDCA, Migratetype.RECLAIMABLE: 0xCD0}
LRU_BIT = 4
PAGEBLOCKS = 8
NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")


def small_allocator(release: Release) -> Allocator:
    """One zone of eight pageblocks of all three types, two CPUs."""
    zone = make_zone(release=release, pageblocks=PAGEBLOCKS, watermarks=(8, 10, 12), cpus=2)
    types = (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)
    half = 1 << PAGEBLOCK_ORDER
    blocks = [(at * half, PAGEBLOCK_ORDER, types[at % 3]) for at in range(PAGEBLOCKS)]
    fill(zone, blocks)
    allocator = make_allocator(zone, cpus=2)
    for pcp in allocator.pcps.values():
        if not zone.era.pcp_tunes_itself:
            pcp.high_min = pcp.high_max = 0
            del pcp.lists[LOW_ORDER_LISTS + 1 :]
    return allocator


def sample_of(allocator: Allocator, label: str, counter: int, release: str) -> MemorySample:
    """What the host would read of an allocator; the inverse of ``load_allocator``."""
    zones = np.zeros(len(allocator.zones), ZONE)
    areas, blocks, pageblocks, frames, flags = [], [], [], [], []
    for row, zone in zip(zones, allocator.zones, strict=True):
        lists = zone.free
        row["zone"], row["node"], row["zone_type"] = zone.number, zone.node, zone.zone_type
        row["name"], row["start_pfn"] = b"DMA32", lists.start_pfn
        pages = lists.end_pfn - lists.start_pfn
        row["spanned_pages"] = row["present_pages"] = pages
        row["managed_pages"] = zone.managed_pages
        row["nr_free_pages"], row["nr_free_cma"] = zone.nr_free.value, zone.nr_free_cma.value
        row["watermark_min"], row["watermark_low"], row["watermark_high"] = zone.watermarks
        row["watermark_boost"] = zone.watermark_boost
        row["nr_reserved_highatomic"] = zone.nr_reserved_highatomic
        row["nr_free_highatomic"] = zone.nr_free_highatomic
        row["percpu_drift_mark"] = 1
        row["lowmem_reserve"] = (*zone.lowmem_reserve, *[0] * LOWMEM_RESERVES)[:LOWMEM_RESERVES]
        bits = (zone.reclaim_active, zone.below_high, zone.boosted)
        row["flags"] = sum(bit << at for at, bit in enumerate(bits))
        for order, count in enumerate(lists.free_blocks()):
            areas.append((zone.number, order, count))
            for kind in Migratetype:
                for position, pfn in enumerate(lists.pfns(order, kind)):
                    blocks.append((zone.number, order, _number(kind), position, pfn))
        for pfn in range(lists.start_pfn, lists.end_pfn, 1 << lists.pageblock_order):
            kind = lists.pageblock_migratetype(pfn)
            pageblocks.append((zone.number, _number(kind), 0, 0, pfn))
        frames.append((lists.start_pfn, pages))
        flags.append(np.zeros(pages, np.uint32))
        for pfn in zone.movable:
            flags[-1][pfn - lists.start_pfn] = 1 << LRU_BIT
    pcps = np.zeros(len(allocator.pcps), PCP)
    pcp_pages: list[tuple[int, ...]] = []
    for row, ((number, cpu), pcp) in zip(pcps, sorted(allocator.pcps.items()), strict=True):
        row["zone"], row["cpu"] = number, cpu
        for name in ("count", "high", "high_min", "high_max", "batch", "flags"):
            row[name] = getattr(pcp, name)
        for name in ("free_factor", "alloc_factor", "free_count"):
            row[name] = getattr(pcp, name)
        zone = allocator.zones[number]
        row["stat_threshold"] = zone.nr_free.thresholds[cpu]
        row["diff_free_pages"] = zone.nr_free.differences[cpu]
        for pindex, listed in enumerate(pcp.lists):
            for position, (pfn, kind) in enumerate(listed.items()):
                pcp_pages.append((number, cpu, pindex, position, pfn, _number(kind)))
    zonelists = [
        (node, int(not alone), position, number)
        for (node, alone), numbers in allocator.zonelists.items()
        for position, number in enumerate(numbers)
    ]
    return MemorySample(
        meta={
            "schema": 1, "label": label, "sequence": 0, "release": release, "arch": "x86_64",
            "page_size_bytes": 4096, "max_order": MAX_ORDER, "pageblock_order": PAGEBLOCK_ORDER,
            "migratetypes": list(NAMES), "pcp_types": 3,
            "pcp_lists": len(next(iter(allocator.pcps.values())).lists),
            "page_flag_bits": {"lru": LRU_BIT},
            "zone_flag_bits": {
                "ZONE_RECLAIM_ACTIVE": 0, "ZONE_BELOW_HIGH": 1, "ZONE_BOOSTED_WATERMARK": 2,
            },
            "trace_counter": counter, "stopped_ms": 1.0, "t_ns": counter, "full": True,
            "vmemmap": 0, "struct_page_bytes": 64, "zone_addresses": [0xF000], "retries": 0,
            "sound": True, "problems": [],
        },
        zones=zones,
        areas=np.array(areas, AREA),
        blocks=np.array(blocks, BLOCK),
        pcps=pcps,
        pcp_pages=np.array(pcp_pages, PCP_PAGE),
        pageblocks=np.array(pageblocks, PAGEBLOCK),
        zonelists=np.array(zonelists, ZONELIST),
        cpus=np.array(sorted(allocator.cpu_nodes.items()), CPU),
        frame_ranges=np.array(frames, FRAME_RANGE),
        frame_flags=np.concatenate(flags),
        frame_type=np.zeros(sum(map(len, flags)), np.uint32),
        frame_mapping=np.zeros(sum(map(len, flags)), np.uint8),
    )  # fmt: skip


def _number(kind: Migratetype) -> int:
    return NAMES.index({"Highatomic": "HighAtomic"}.get(kind.name.title(), kind.name.title()))


@dataclass(slots=True)
class MadeHistory:
    """A kernel that is the model, and what it was asked."""

    release: str = "6.1.0"
    counter: int = 0
    held: dict[int, int] = field(default_factory=dict)
    isolated: list[tuple[int, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    state: PlainState = field(init=False)

    def __post_init__(self) -> None:
        numbers = self.release.split(".")
        self.state = PlainState(small_allocator(Release(int(numbers[0]), int(numbers[1]))))

    @property
    def allocator(self) -> Allocator:
        return self.state.allocator

    def act(self, what: int, number: int) -> None:
        """One of many things; ``number`` decides how."""
        acts = (
            self.allocate, self.allocate, self.allocate, self.free, self.free, self.free_direct,
            self.bulk, self.isolate, self.put_back, self.drain, self.on_lru,
        )  # fmt: skip
        acts[what % len(acts)](number)

    def allocate(self, number: int) -> None:
        order = (0, 0, 0, 1, 0, 2, 3, 0, 0, PAGEBLOCK_ORDER, 0, 4)[number % 12]
        kind = tuple(GFP)[number % 3]
        for _ in range(1 + number % 9):
            cpu = number % 2
            if not self._plenty(order):
                return  # a request that fails leaves traces, and no event
            choice = self.allocator.allocate(request(order, kind, gfp=GFP[kind], cpu=cpu))
            locked, _ = self.state.moves()
            assert choice is not None
            step = self._step(Kind.ALLOCATE, cpu, choice.pfn, order)
            step.gfp, step.migratetype, step.locked = GFP[kind], int(kind), locked
            self.held[choice.pfn] = order

    def free(self, number: int) -> None:
        for _ in range(1 + number % 7):
            if self.held:
                pfn = sorted(self.held)[number % len(self.held)]
                order = self.held.pop(pfn)
                direct = not pcp_allowed(order, PAGEBLOCK_ORDER)
                kind = Kind.FREE_DIRECT if direct else Kind.FREE
                step = self._step(kind, number % 2, pfn, order)
                self.allocator.free(number % 2, pfn, order)
                _, step.drained = self.state.moves()

    def free_direct(self, number: int) -> None:
        if self.held:
            pfn = sorted(self.held)[number % len(self.held)]
            order = self.held.pop(pfn)
            self._step(Kind.FREE_DIRECT, 0, pfn, order)
            self.allocator.free_direct(0, pfn, order)

    def bulk(self, number: int) -> None:
        wanted = 2 + number % 9
        kind = Migratetype.UNMOVABLE
        if not self._plenty(0):
            return  # it might get fewer than it asks for
        got = self.allocator.allocate_bulk(request(0, kind, gfp=GFP[kind]), wanted)
        assert len(got) == wanted
        step = self._step(Kind.BULK, 0, -1, wanted)
        step.gfp, step.count = GFP[kind], wanted
        step.locked, _ = self.state.moves()
        self.held.update(dict.fromkeys(got, 0))

    def isolate(self, number: int) -> None:
        found = sorted(self.allocator.zones[0].free.blocks(), key=lambda block: block.pfn)
        found = [block for block in found if block.order <= PAGEBLOCK_ORDER]
        if found and self._plenty(0):
            block = found[number % len(found)]
            self._step(Kind.ISOLATE, 0, block.pfn, block.order)
            assert self.allocator.isolate_free(0, block.pfn, block.order)
            self.isolated.append((block.pfn, block.order))

    def put_back(self, number: int) -> None:
        if self.isolated:
            pfn, order = self.isolated.pop(number % len(self.isolated))
            kind = self.allocator.zones[0].free.pageblock_migratetype(pfn)
            self._step(Kind.PUT_BACK, 0, pfn, order).migratetype = _number(kind)
            self.allocator.put_back(0, pfn, order, kind)

    def drain(self, number: int) -> None:
        cpu = number % 2
        kind = Kind.DRAIN_ALL if number % 3 else Kind.DRAIN_BATCH
        step = self._step(kind, cpu, -1, 0)
        step.pointer, step.count = 0xF000, cpu
        (self.state.drain_all if number % 3 else self.state.drain_batch)(cpu, 0, cpu)
        _, step.drained = self.state.moves()

    def on_lru(self, number: int) -> None:
        if self.held:
            pfn = sorted(self.held)[number % len(self.held)]
            if not self.held[pfn]:
                self._step(Kind.ON_LRU, 0, pfn, 0)
                self.state.mark_movable(pfn, 0)

    def _plenty(self, order: int) -> bool:
        lists = self.allocator.zones[0].free
        return lists.free_pages > 3 << PAGEBLOCK_ORDER and any(lists.free_blocks()[order:])

    def sample(self, label: str) -> MemorySample:
        self.counter += 1
        return sample_of(self.allocator, label, self.counter, self.release)

    def _step(self, kind: Kind, cpu: int, pfn: int, order: int) -> Step:
        self.counter += 1
        step = Step(kind, self.counter, self.counter, cpu, 100 + cpu, 0, pfn, order)
        step.after, step.before = self.counter - 1, self.counter + 1
        step.number = len(self.steps)
        self.steps.append(step)
        return step


def made_stream(
    before: list[tuple[int, int]], history: list[tuple[int, int]], release: str = "6.1.0"
) -> tuple[RequestStream, MadeHistory]:
    """A kernel that lived through ``before``, then a window with ``history``."""
    kernel = MadeHistory(release)
    for what, number in before:
        kernel.act(what, number)
    kernel.steps.clear()
    begin = kernel.sample("w/begin")
    for what, number in history:
        kernel.act(what, number)
    stream = RequestStream(
        name="w",
        begin=begin,
        end=kernel.sample("w/end"),
        steps=kernel.steps,
        zone_pointers={0xF000: 0},
        node_pointers={},
        real=None,
    )
    return stream, kernel
