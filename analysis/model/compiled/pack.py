"""Makes the compiled allocator's arrays: empty, from a plain model, and back to lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.model.allocator.allocator import Allocator
from analysis.model.compiled import layout as at
from analysis.model.compiled.layout import Memory
from analysis.model.compiled.lists import seen_room
from analysis.model.eras import Era
from analysis.model.freelist import Migratetype

SPARE_MOVES = 4096
"""Room for moves beyond one for every page."""
ZONE_FIELDS = {
    at.NODE: "node",
    at.ZONE_TYPE: "zone_type",
    at.MANAGED: "managed_pages",
    at.BOOST: "watermark_boost",
    at.BOOST_FACTOR: "boost_factor",
    at.NR_FREE_HIGHATOMIC: "nr_free_highatomic",
    at.NR_RESERVED_HIGHATOMIC: "nr_reserved_highatomic",
    at.ISOLATED: "isolated_pageblocks",
    at.RECLAIM_ACTIVE: "reclaim_active",
    at.BELOW_HIGH: "below_high",
    at.BOOSTED: "boosted",
    at.DRIFT_MARKED: "drift_marked",
    at.CPU: "cpu",
    at.EXTFRAGS: "extfrags",
    at.ROTATIONS: "rotations",
}
"""Words of a zone that are attributes of the plain ``Zone``."""
PCP_FIELDS = {
    at.COUNT: "count",
    at.HIGH: "high",
    at.HIGH_MIN: "high_min",
    at.HIGH_MAX: "high_max",
    at.BATCH: "batch",
    at.FLAGS: "flags",
    at.FREE_FACTOR: "free_factor",
    at.ALLOC_FACTOR: "alloc_factor",
    at.FREE_COUNT: "free_count",
}
"""Words of per-cpu lists that are attributes of the plain ``PerCpuPages``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change: sizes, the era, and who may ask which zones."""

    era: Era
    spans: Sequence[tuple[int, int]]
    """First pfn and end of every zone."""
    cpus: int
    """The highest processor's number, plus one."""
    nodes: int
    max_order: int
    pageblock_order: int
    huge_order: int | None
    pcp_lists: int
    batch_scale: int
    has_cma: bool
    zonelists: Mapping[tuple[int, bool], Sequence[int]]

    @property
    def first_pfn(self) -> int:
        """Of page 0: the lowest, rounded down to the largest block."""
        return min(start for start, _ in self.spans) >> self.max_order << self.max_order

    @property
    def pages(self) -> int:
        """From ``first_pfn`` to the highest page, rounded up, and one block beyond."""
        end = max(end for _, end in self.spans) - self.first_pfn
        return (-(-end >> self.max_order) + 1) << self.max_order


def empty_memory(machine: Machine) -> Memory:
    """Memory without a free page, zones' and processors' numbers zero.

    Raises:
        ValueError: the machine has more zones than the layout allows.
    """
    zones = len(machine.spans)
    if zones > at.MOST_ZONES:
        raise ValueError(f"{zones} zones: the compiled model has room for {at.MOST_ZONES}")
    pages = machine.pages
    heads = max(zones << at.LIST_ZONE, zones * machine.cpus << at.PCP_LISTS)
    blocks = (pages >> machine.pageblock_order) + 1
    seen = [sum(_seen_rooms(end - start, machine.max_order)) for start, end in machine.spans]
    parts = {
        at.BLOCKS_AT: blocks * at.BLOCK_WORDS,
        at.PCPS_AT: zones * machine.cpus * at.PCP_WORDS,
        at.ZONELISTS_AT: machine.nodes * 2 * at.ZONELIST_WORDS,
        at.AWAKE_AT: machine.nodes,
        at.SEEN_AT: sum(seen),
        at.HEADS_AT: at.MOST_HEADS,
        at.MOVES_AT: pages + SPARE_MOVES,
    }
    rows_end = at.ROWS_AT + (pages + heads) * at.ROW
    m = _aligned(rows_end + sum(parts.values()))
    begin = rows_end
    for word, size in parts.items():
        m[word] = begin
        begin += size
    rows = m[at.ROWS_AT : rows_end].reshape(-1, at.ROW)
    for word in (at.LIST, at.PCP_LIST):
        rows[:, word - at.ROWS_AT] = -1
    for word in (at.NEXT, at.PREV, at.PCP_NEXT, at.PCP_PREV):
        rows[pages:, word - at.ROWS_AT] = np.arange(pages, pages + heads)
    m[at.FIRST_PFN], m[at.PAGES] = machine.first_pfn, pages
    m[at.CPUS], m[at.ZONES], m[at.NODES] = machine.cpus, zones, machine.nodes
    m[at.MAX_ORDER], m[at.PAGEBLOCK_ORDER] = machine.max_order, machine.pageblock_order
    m[at.HUGE_ORDER] = -1 if machine.huge_order is None else machine.huge_order
    m[at.PINDEXES], m[at.BATCH_SCALE] = machine.pcp_lists, machine.batch_scale
    m[at.HAS_CMA], m[at.ZONE_ASKED] = machine.has_cma, -1
    m[at.NODES_ONLINE] = len({node for node, _ in machine.zonelists})
    for number, name in enumerate(at.ERA_FIELDS):
        m[at.ERA_AT + number] = getattr(machine.era, name)
    for (node, this_node), numbers in machine.zonelists.items():
        first = m[at.ZONELISTS_AT] + (2 * node + this_node) * at.ZONELIST_WORDS
        m[first] = len(numbers)
        m[first + 1 : first + 1 + len(numbers)] = numbers
    for zone, (start, end) in enumerate(machine.spans):
        base = at.ZONES_AT + zone * at.ZONE_WORDS
        m[base + at.START] = start - machine.first_pfn
        m[base + at.END] = end - machine.first_pfn
        m[base + at.ZONE_SEEN_AT] = sum(seen[:zone])
    block_words(m)[:, at.BLOCK_TYPE] = Migratetype.MOVABLE
    return m


def _seen_rooms(pages: int, max_order: int) -> list[int]:
    return [seen_room.py_func(pages, order) for order in range(max_order + 1)]  # type: ignore[attr-defined]


def _aligned(words: int) -> Memory:
    """Zeros of which every row lies in one cache line."""
    line = 64
    m = np.zeros(words + line // 8, np.int64)
    return m[-m.ctypes.data % line // 8 :][:words]


def block_words(m: Memory) -> Memory:
    """The words of every pageblock, a row each."""
    blocks = (int(m[at.PAGES]) >> int(m[at.PAGEBLOCK_ORDER])) + 1
    first = int(m[at.BLOCKS_AT])
    return m[first : first + blocks * at.BLOCK_WORDS].reshape(-1, at.BLOCK_WORDS)


def page_rows(m: Memory) -> Memory:
    """The row of every page."""
    return m[at.ROWS_AT : at.ROWS_AT + int(m[at.PAGES]) * at.ROW].reshape(-1, at.ROW)


def link_blocks(m: Memory, zones: Memory, orders: Memory, types: Memory, pfns: Memory) -> None:
    """Puts free blocks on lists that are empty, each list in the order of the arrays."""
    numbers = zones << at.LIST_ZONE | orders << at.LIST_ORDER | types
    pages = pfns - m[at.FIRST_PFN]
    _link(m, numbers, pages, at.NEXT)
    sizes = 1 << orders
    for zone in range(int(m[at.ZONES])):
        m[at.ZONES_AT + zone * at.ZONE_WORDS + at.FREE_PAGES] += sizes[zones == zone].sum()
    small = orders < m[at.PAGEBLOCK_ORDER]
    blocks = pages[small] >> m[at.PAGEBLOCK_ORDER]
    np.add.at(block_words(m)[:, at.BLOCK_FREE], blocks, sizes[small])


def link_pcp_pages(m: Memory, numbers: Memory, pfns: Memory, types: Memory) -> None:
    """Puts blocks on per-cpu lists that are empty, each list in the order of the arrays."""
    pages = pfns - m[at.FIRST_PFN]
    _link(m, numbers, pages, at.PCP_NEXT)
    m[pages * at.ROW + at.PCP_TYPE] = types


def mark_movable(m: Memory, pages: Memory) -> None:
    """Notes that compaction could move pages, given once each."""
    m[pages * at.ROW + at.NOTES] |= at.MOVABLE_NOTE
    blocks = pages >> m[at.PAGEBLOCK_ORDER]
    np.add.at(block_words(m)[:, at.BLOCK_MOVABLE], blocks, 1)


def _link(m: Memory, numbers: Memory, pages: Memory, word: int) -> None:
    """``word``: that of the links forward; those backward and the list follow it."""
    order = np.argsort(numbers, kind="stable")
    numbers, pages = numbers[order], pages[order]
    heads = m[at.PAGES] + numbers
    first = np.ones(len(numbers), bool)
    first[1:] = numbers[1:] != numbers[:-1]
    last = np.ones(len(numbers), bool)
    last[:-1] = first[1:]
    rows = pages * at.ROW + word
    m[rows] = np.where(last, heads, np.roll(pages, -1))
    m[rows + 1] = np.where(first, heads, np.roll(pages, 1))
    m[rows + 2] = numbers
    m[heads[first] * at.ROW + word] = pages[first]
    m[heads[last] * at.ROW + word + 1] = pages[last]


def machine_of(allocator: Allocator) -> Machine:
    """The constant part of a plain model."""
    pcp = next(iter(allocator.pcps.values()))
    free = allocator.zones[0].free
    nodes = [node for node, _ in allocator.zonelists]
    nodes += [zone.node for zone in allocator.zones]
    nodes += allocator.cpu_nodes.values()
    return Machine(
        era=allocator.era,
        spans=[(zone.free.start_pfn, zone.free.end_pfn) for zone in allocator.zones],
        cpus=1 + max(cpu for _, cpu in allocator.pcps),
        nodes=1 + max(nodes),
        max_order=free.max_order,
        pageblock_order=free.pageblock_order,
        huge_order=allocator.huge_order,
        pcp_lists=len(pcp.lists),
        batch_scale=pcp.batch_scale,
        has_cma=allocator.has_cma,
        zonelists=allocator.zonelists,
    )


def pack(allocator: Allocator) -> Memory:
    """Memory in the very state of a plain model."""
    machine = machine_of(allocator)
    m = empty_memory(machine)
    first_pfn = machine.first_pfn
    for zone in allocator.zones:
        base = at.ZONES_AT + zone.number * at.ZONE_WORDS
        for word, name in ZONE_FIELDS.items():
            m[base + word] = getattr(zone, name)
        m[base + at.WATERMARK : base + at.WATERMARK + 3] = zone.watermarks
        m[base + at.NR_FREE] = zone.nr_free.value
        m[base + at.NR_FREE_CMA] = zone.nr_free_cma.value
        m[base + at.RESERVES] = len(zone.lowmem_reserve)
        for number, pages in enumerate(zone.lowmem_reserve):
            m[base + at.RESERVE + number] = pages
        assert not zone.rotated, "lists are open from a step to the next alone"
        pageblock = 1 << machine.pageblock_order
        start = zone.free.start_pfn & -pageblock
        for pfn in range(start, zone.free.end_pfn, pageblock):
            kind = zone.free.pageblock_migratetype(max(pfn, zone.free.start_pfn))
            block_words(m)[(pfn - first_pfn) >> machine.pageblock_order, at.BLOCK_TYPE] = kind
        mark_movable(m, np.array(sorted(zone.movable), np.int64) - first_pfn)
        for pfn, order in zone.captures.items():
            m[(pfn - first_pfn) * at.ROW + at.NOTES] |= (order + 1) << at.CAPTURE_SHIFT
            m[at.CAPTURES] += 1
    for (number, cpu), pcp in allocator.pcps.items():
        base = m[at.PCPS_AT] + (number * machine.cpus + cpu) * at.PCP_WORDS
        for word, name in PCP_FIELDS.items():
            m[base + word] = getattr(pcp, name)
        counters = (allocator.zones[number].nr_free, allocator.zones[number].nr_free_cma)
        for item, counter in enumerate(counters):
            m[base + at.DIFFERENCE + item] = counter.differences[cpu]
            m[base + at.THRESHOLD + item] = counter.thresholds[cpu]
    for node in allocator.awake_kswapds:
        m[m[at.AWAKE_AT] + node] = 1
    blocks = [
        (zone.number, order, kind, pfn)
        for zone in allocator.zones
        for order in range(machine.max_order + 1)
        for kind in Migratetype
        for pfn in zone.free.pfns(order, kind)
    ]
    link_blocks(m, *np.array(blocks, np.int64).reshape(-1, 4).T)
    held = [
        ((number * machine.cpus + cpu) << at.PCP_LISTS | pindex, pfn, kind)
        for (number, cpu), pcp in allocator.pcps.items()
        for pindex, pages_held in enumerate(pcp.lists)
        for pfn, kind in pages_held.items()
    ]
    link_pcp_pages(m, *np.array(held, np.int64).reshape(-1, 3).T)
    return m
