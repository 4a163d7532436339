"""Small allocators for tests of the model: one node, one zone, as many CPUs as wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from analysis.model.allocator.allocator import Allocator, Request
from analysis.model.allocator.counter import ZoneCounter
from analysis.model.allocator.pcp import LOW_ORDER_LISTS, PerCpuPages
from analysis.model.allocator.zone import Zone
from analysis.model.eras import era_of
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import Release

MAX_ORDER = 10
PAGEBLOCK_ORDER = 9
OLD = Release(6, 1)
GFP_KERNEL = 0xCC0
GFP_USER_MOVABLE = 0x140CCA
GFP_ATOMIC = 0x820


def make_zone(
    *,
    release: Release = OLD,
    number: int = 0,
    node: int = 0,
    zone_type: int = 1,
    start_pfn: int = 0,
    pageblocks: int = 64,
    watermarks: tuple[int, int, int] = (32, 40, 48),
    cpus: int = 1,
    threshold: int = 0,
    boost_factor: int = 15000,
) -> Zone:
    """A zone without free pages."""
    pages = pageblocks << PAGEBLOCK_ORDER
    zeros = dict.fromkeys(range(cpus), 0)
    thresholds = dict.fromkeys(range(cpus), threshold)
    return Zone(
        number=number,
        node=node,
        zone_type=zone_type,
        era=era_of(release),
        free=ZoneFreeLists(
            start_pfn=start_pfn,
            spanned_pages=pages,
            max_order=MAX_ORDER,
            pageblock_order=PAGEBLOCK_ORDER,
        ),
        managed_pages=pages,
        watermarks=watermarks,
        lowmem_reserve=(0, 0, 0, 0, 0),
        watermark_boost=0,
        nr_reserved_highatomic=0,
        nr_free_highatomic=0,
        nr_free=ZoneCounter(0, zeros, thresholds),
        nr_free_cma=ZoneCounter(0, zeros, thresholds),
        boost_factor=boost_factor,
    )


def fill(zone: Zone, blocks: Iterable[tuple[int, int, Migratetype]]) -> None:
    """Adds free blocks (pfn, order, type) at the tails, pageblocks' types with them."""
    for pfn, order, migratetype in blocks:
        zone.free.set_pageblock_migratetype(pfn, order, migratetype)
        zone.free.add(FreeBlock(pfn=pfn, order=order, migratetype=migratetype), to_tail=True)
        zone.nr_free.value += 1 << order


def make_allocator(
    *zones: Zone,
    cpus: int = 1,
    batch: int = 7,
    high: int = 42,
    high_max: int | None = None,
    has_cma: bool = False,
) -> Allocator:
    """An allocator over these zones; CPUs are dealt out to the nodes in turn."""
    nodes = sorted({zone.node for zone in zones})
    pcps = {
        (zone.number, cpu): PerCpuPages(
            zone=zone,
            cpu=cpu,
            lists=[OrderedDict() for _ in range(LOW_ORDER_LISTS + 2)],
            huge_order=PAGEBLOCK_ORDER,
            batch_scale=5,
            high=high,
            high_min=high,
            high_max=high if high_max is None else high_max,
            batch=batch,
        )
        for zone in zones
        for cpu in range(cpus)
    }
    zonelists: dict[tuple[int, bool], list[int]] = {}
    for node in nodes:
        near = sorted((z for z in zones if z.node == node), key=lambda z: -z.zone_type)
        far = sorted((z for z in zones if z.node != node), key=lambda z: (z.node, -z.zone_type))
        zonelists[node, True] = [zone.number for zone in near]
        zonelists[node, False] = [zone.number for zone in (*near, *far)]
    return Allocator(
        era=zones[0].era,
        zones=list(zones),
        pcps=pcps,
        zonelists=zonelists,
        cpu_nodes={cpu: nodes[cpu % len(nodes)] for cpu in range(cpus)},
        huge_order=PAGEBLOCK_ORDER,
        has_cma=has_cma,
    )


def request(
    order: int = 0,
    migratetype: Migratetype = Migratetype.UNMOVABLE,
    *,
    gfp: int = GFP_KERNEL,
    cpu: int = 0,
    node: int = 0,
    alloc_flags: int | None = None,
) -> Request:
    """A request with the defaults of most tests."""
    return Request(
        cpu=cpu,
        node=node,
        order=order,
        gfp=gfp,
        migratetype=migratetype,
        alloc_flags=alloc_flags,
    )
