"""From a memory sample to the allocator model's state, and how far the two are apart later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError
from analysis.memory.frames import movable_by_driver, on_lru
from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.counter import ZoneCounter
from analysis.model.allocator.pcp import PerCpuPages
from analysis.model.allocator.zone import Zone
from analysis.model.eras import Era, era_of
from analysis.model.freelist import MIGRATETYPE_NAMES, FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import parse_release

BATCH_SCALE = 5
"""CONFIG_PCP_BATCH_SCALE_MAX where the kernel's configuration does not say otherwise."""
BOOST_FACTOR = 15000
"""vm.watermark_boost_factor as the kernel starts with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunables:
    """What a memory sample does not hold."""

    boost_factor: int = BOOST_FACTOR
    batch_scale: int = BATCH_SCALE
    huge_pages: bool = True
    """CONFIG_TRANSPARENT_HUGEPAGE."""


def migratetypes_of(sample: MemorySample) -> tuple[Migratetype, ...]:
    """The model's migratetype for each number of the sample's kernel.

    Raises:
        BundleError: the kernel has a type that the model does not know.
    """
    try:
        return tuple(MIGRATETYPE_NAMES[str(name)] for name in sample.meta["migratetypes"])
    except KeyError as error:
        raise BundleError(
            f"sample {sample.label}: migratetype {error} is not known",
            fix="use a kernel between 6.1 and 7.3",
        ) from None


def zone_starts_of(sample: MemorySample) -> list[int]:
    """First pages of the zones, ascending."""
    return sorted(sample.zones["start_pfn"].tolist())


def load_allocator(sample: MemorySample, tunables: Tunables | None = None) -> Allocator:
    """The model in the very state of a sample, lists in order.

    Raises:
        BundleError: the sample is not sound, or holds what the model cannot.
    """
    allocator = load_without_pages(sample, tunables)
    _fill_zones(sample, allocator.zones)
    _fill_pcps(sample, allocator)
    return allocator


def load_without_pages(sample: MemorySample, tunables: Tunables | None = None) -> Allocator:
    """The model with a sample's counters, and not a page on any list.

    Raises:
        BundleError: the sample is not sound, or holds what the model cannot.
    """
    if not sample.sound:
        raise BundleError(
            f"sample {sample.label} did not pass its self-checks: "
            f"{'; '.join(sample.meta['problems'])}",
            fix="run the experiment again",
        )
    tunables = tunables or Tunables()
    release = parse_release(str(sample.meta["release"]))
    era = era_of(release)
    types = migratetypes_of(sample)
    zones = _zones(sample, era, tunables)
    huge_order = int(sample.meta["pageblock_order"]) if tunables.huge_pages else None
    pcps = _pcps(sample, zones, huge_order, tunables)
    zonelists: dict[tuple[int, bool], list[int]] = {}
    for row in sample.zonelists:
        key = (int(row["node"]), not row["fallback"])
        zonelists.setdefault(key, []).append(int(row["zone"]))
    return Allocator(
        era=era,
        zones=zones,
        pcps=pcps,
        zonelists=zonelists,
        cpu_nodes={int(row["cpu"]): int(row["node"]) for row in sample.cpus},
        huge_order=huge_order,
        has_cma=Migratetype.CMA in types,
        awake_kswapds=set(sample.meta.get("kswapds_awake") or ()),
    )


def _zones(sample: MemorySample, era: Era, tunables: Tunables) -> list[Zone]:
    zones: list[Zone] = []
    for number, row in enumerate(sample.zones):
        assert int(row["zone"]) == number, "zones are numbered in order"
        free = ZoneFreeLists(
            start_pfn=int(row["start_pfn"]),
            spanned_pages=int(row["spanned_pages"]),
            max_order=int(sample.meta["max_order"]),
            pageblock_order=int(sample.meta["pageblock_order"]),
        )
        own = sample.pcps[sample.pcps["zone"] == number]
        thresholds = _by_cpu(own, "stat_threshold")
        zones.append(
            Zone(
                number=number,
                node=int(row["node"]),
                zone_type=int(row["zone_type"]),
                era=era,
                free=free,
                managed_pages=int(row["managed_pages"]),
                watermarks=(
                    int(row["watermark_min"]),
                    int(row["watermark_low"]),
                    int(row["watermark_high"]),
                ),
                lowmem_reserve=tuple(int(pages) for pages in row["lowmem_reserve"]),
                watermark_boost=int(row["watermark_boost"]),
                nr_reserved_highatomic=int(row["nr_reserved_highatomic"]),
                nr_free_highatomic=max(int(row["nr_free_highatomic"]), 0),
                nr_free=ZoneCounter(
                    int(row["nr_free_pages"]), _by_cpu(own, "diff_free_pages"), thresholds
                ),
                nr_free_cma=ZoneCounter(
                    max(int(row["nr_free_cma"]), 0), _by_cpu(own, "diff_free_cma"), thresholds
                ),
                boost_factor=tunables.boost_factor,
                drift_marked=int(row["percpu_drift_mark"]) > 0,
                isolated_pageblocks=max(int(row["nr_isolate_pageblock"]), 0),
                reclaim_active=_has_flag(sample, int(row["flags"]), "ZONE_RECLAIM_ACTIVE"),
                below_high=_has_flag(sample, int(row["flags"]), "ZONE_BELOW_HIGH"),
                boosted=_has_flag(sample, int(row["flags"]), "ZONE_BOOSTED_WATERMARK"),
            )
        )
    return zones


def _fill_zones(sample: MemorySample, zones: Sequence[Zone]) -> None:
    types = migratetypes_of(sample)
    for row in sample.pageblocks:
        lists = zones[int(row["zone"])].free
        kind = Migratetype.ISOLATE if row["isolated"] else types[int(row["migratetype"])]
        pfn = max(int(row["pfn"]), lists.start_pfn)
        lists.set_pageblock_migratetype(pfn, 0, kind)
    for row in sample.blocks:
        zones[int(row["zone"])].free.add(
            FreeBlock(
                pfn=int(row["pfn"]),
                order=int(row["order"]),
                migratetype=types[int(row["migratetype"])],
            ),
            to_tail=True,
        )
    _mark_movable(sample, zones)


def movable_pfns(sample: MemorySample) -> NDArray[np.int64]:
    """Allocated pages that compaction could move: on an LRU list, or a driver's movable page."""
    movable = on_lru(sample) | movable_by_driver(sample)
    found = [np.zeros(0, np.int64)]
    offset = 0
    for frames in sample.frame_ranges:
        pages = int(frames["pages"])
        found.append(movable[offset : offset + pages].nonzero()[0] + int(frames["start_pfn"]))
        offset += pages
    return np.concatenate(found)


def _by_cpu(pcps: NDArray[np.void], column: str) -> dict[int, int]:
    return {int(pcp["cpu"]): int(pcp[column]) for pcp in pcps}


def _has_flag(sample: MemorySample, flags: int, name: str) -> bool:
    bit = sample.meta["zone_flag_bits"].get(name)
    return bit is not None and bool(flags >> int(bit) & 1)


def _mark_movable(sample: MemorySample, zones: Sequence[Zone]) -> None:
    found = movable_pfns(sample)
    for zone in zones:
        inside = (found >= zone.free.start_pfn) & (found < zone.free.end_pfn)
        zone.movable.update(found[inside].tolist())


def _pcps(
    sample: MemorySample,
    zones: list[Zone],
    huge_order: int | None,
    tunables: Tunables,
) -> dict[tuple[int, int], PerCpuPages]:
    pcps: dict[tuple[int, int], PerCpuPages] = {}
    for row in sample.pcps:
        zone, cpu = int(row["zone"]), int(row["cpu"])
        pcps[zone, cpu] = PerCpuPages(
            zone=zones[zone],
            cpu=cpu,
            lists=[OrderedDict() for _ in range(int(sample.meta["pcp_lists"]))],
            huge_order=huge_order,
            batch_scale=tunables.batch_scale,
            count=int(row["count"]),
            high=int(row["high"]),
            high_min=int(row["high_min"]),
            high_max=int(row["high_max"]),
            batch=int(row["batch"]),
            flags=max(int(row["flags"]), 0),
            free_factor=max(int(row["free_factor"]), 0),
            alloc_factor=max(int(row["alloc_factor"]), 0),
            free_count=max(int(row["free_count"]), 0),
        )
    return pcps


def _fill_pcps(sample: MemorySample, allocator: Allocator) -> None:
    types = migratetypes_of(sample)
    for row in sample.pcp_pages:
        pcp = allocator.pcps[int(row["zone"]), int(row["cpu"])]
        number = int(row["pcp_migratetype"])
        kind = (
            types[number]
            if 0 <= number < len(types)
            else pcp.zone.free.pageblock_migratetype(int(row["pfn"]))
        )
        pcp.lists[int(row["pindex"])][int(row["pfn"])] = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A list that is not as in the sample."""

    where: str
    model: tuple[int, ...]
    kernel: tuple[int, ...]

    @property
    def same_pages(self) -> bool:
        """Only the order differs."""
        return sorted(self.model) == sorted(self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The model's state beside a sample."""

    lists: int
    """Free lists and per-cpu lists in all."""
    differing: tuple[Difference, ...]
    free_pages_model: tuple[int, ...]
    """By zone."""
    free_pages_kernel: tuple[int, ...]
    pages_differing: int
    """Pages that are free in one and not in the other (per-cpu lists count as not free)."""
    counters_differing: tuple[str, ...] = field(default=())
    """Scalars of zones and per-cpu lists that differ, in words."""

    @property
    def lists_in_order(self) -> bool:
        return not self.differing


ZONE_NUMBERS = (
    "watermark_boost",
    "nr_reserved_highatomic",
    "nr_free_highatomic",
    "reclaim_active",
    "below_high",
)
PCP_NUMBERS = ("count", "high", "free_factor", "alloc_factor", "free_count", "flags")
"""Attributes of ``Zone`` and of ``PerCpuPages`` that are compared."""


def compare_allocator(allocator: Allocator, sample: MemorySample) -> Comparison:
    """Every list in order, every page, and the counters that decide what happens next."""
    other = load_allocator(sample)
    lists: list[_Lists] = []
    words: list[_Words] = []
    pages_differing = 0
    for mine, theirs in zip(allocator.zones, other.zones, strict=True):
        where = f"zone {mine.number}"
        lists += [
            (
                f"{where} order {order} {migratetype.name.lower()}",
                mine.free.pfns(order, migratetype),
                theirs.free.pfns(order, migratetype),
            )
            for order in range(theirs.free.max_order + 1)
            for migratetype in Migratetype
        ]
        pages_differing += len(_free_pages(mine) ^ _free_pages(theirs))
        words += _zone_words(where, mine, theirs)
    for key, pcp in allocator.pcps.items():
        where = f"zone {key[0]} cpu {key[1]}"
        lists += [
            (f"{where} list {pindex}", tuple(model), tuple(kernel))
            for pindex, (model, kernel) in enumerate(
                zip(pcp.lists, other.pcps[key].lists, strict=True)
            )
        ]
        words += [
            (f"{where} {name}", getattr(pcp, name), getattr(other.pcps[key], name))
            for name in PCP_NUMBERS
        ]
    return make_comparison(
        lists,
        words,
        free_pages_model=[zone.free.free_pages for zone in allocator.zones],
        free_pages_kernel=[zone.free.free_pages for zone in other.zones],
        pages_differing=pages_differing,
    )


_Lists = tuple[str, tuple[int, ...], tuple[int, ...]]
_Words = tuple[str, object, object]


def make_comparison(
    lists: Sequence[_Lists],
    words: Sequence[_Words],
    *,
    free_pages_model: Sequence[int],
    free_pages_kernel: Sequence[int],
    pages_differing: int,
) -> Comparison:
    """Of all lists and numbers: what they are, the model's, the kernel's."""
    return Comparison(
        lists=sum(bool(model or kernel) for _, model, kernel in lists),
        differing=tuple(
            Difference(where=where, model=model, kernel=kernel)
            for where, model, kernel in lists
            if model != kernel
        ),
        free_pages_model=tuple(free_pages_model),
        free_pages_kernel=tuple(free_pages_kernel),
        pages_differing=pages_differing,
        counters_differing=tuple(
            f"{what}: {model}, kernel {kernel}" for what, model, kernel in words if model != kernel
        ),
    )


def _zone_words(where: str, mine: Zone, theirs: Zone) -> list[_Words]:
    words: list[_Words] = [
        (f"{where} {name}", getattr(mine, name), getattr(theirs, name)) for name in ZONE_NUMBERS
    ]
    words += [
        (f"{where} free pages", mine.nr_free.exact(), theirs.nr_free.exact()),
        (f"{where} free-page counter", mine.nr_free.value, theirs.nr_free.value),
    ]
    pageblocks = range(mine.free.start_pfn, mine.free.end_pfn, 1 << mine.free.pageblock_order)
    retyped = sum(
        mine.free.pageblock_migratetype(pfn) != theirs.free.pageblock_migratetype(pfn)
        for pfn in pageblocks
    )
    words.append((f"{where} pageblocks of another type", retyped, 0))
    return words


def _free_pages(zone: Zone) -> set[int]:
    return {
        pfn
        for block in zone.free.blocks()
        for pfn in range(block.pfn, block.pfn + (1 << block.order))
    }
