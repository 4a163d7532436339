"""From a memory sample to the compiled model's memory, and how far the two are apart later."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.model.compiled import layout as at
from analysis.model.compiled import view
from analysis.model.compiled.layout import Memory
from analysis.model.compiled.pack import (
    PCP_FIELDS,
    ZONE_FIELDS,
    block_words,
    link_blocks,
    link_pcp_pages,
    mark_movable,
    pack,
)
from analysis.model.freelist import Migratetype
from analysis.replay.allocator_state import (
    PCP_NUMBERS,
    ZONE_NUMBERS,
    Comparison,
    Tunables,
    load_without_pages,
    make_comparison,
    migratetypes_of,
    movable_pfns,
)
from analysis.replay.compiled_state import CompiledState

_FLAGS = ("reclaim_active", "below_high")
_WORDS = {name: word for word, name in (*ZONE_FIELDS.items(), *PCP_FIELDS.items())}
_ZONE_COMPARED = [(name, _WORDS[name]) for name in ZONE_NUMBERS]
_PCP_COMPARED = [(name, _WORDS[name]) for name in PCP_NUMBERS]


def load_compiled(sample: MemorySample, tunables: Tunables | None = None) -> CompiledState:
    """The compiled model in the very state of a sample, lists in order.

    Raises:
        BundleError: the sample is not sound, or holds what the model cannot.
        ValueError: it has more zones than the compiled model.
    """
    bare = load_without_pages(sample, tunables)
    m = pack(bare)
    first_pfn = int(m[at.FIRST_PFN])
    types = np.array([int(kind) for kind in migratetypes_of(sample)], np.int64)
    _fill_pageblocks(m, sample, types)
    blocks = sample.blocks
    link_blocks(
        m,
        blocks["zone"].astype(np.int64),
        blocks["order"].astype(np.int64),
        types[blocks["migratetype"]],
        blocks["pfn"].astype(np.int64),
    )
    held = sample.pcp_pages
    pcp = held["zone"].astype(np.int64) * m[at.CPUS] + held["cpu"]
    pfns = held["pfn"].astype(np.int64)
    pageblocks = block_words(m)[(pfns - first_pfn) >> int(m[at.PAGEBLOCK_ORDER]), at.BLOCK_TYPE]
    remembered = held["pcp_migratetype"].astype(np.int64)
    known = (remembered >= 0) & (remembered < len(types))
    kinds = np.where(known, types[np.where(known, remembered, 0)], pageblocks)
    link_pcp_pages(m, pcp << at.PCP_LISTS | held["pindex"], pfns, kinds)
    movable = movable_pfns(sample)
    inside = np.zeros(len(movable), np.bool_)
    for zone in bare.zones:
        inside |= (movable >= zone.free.start_pfn) & (movable < zone.free.end_pfn)
    mark_movable(m, np.unique(movable[inside]) - first_pfn)
    return CompiledState(m, bare.cpu_nodes)


def _fill_pageblocks(m: Memory, sample: MemorySample, types: NDArray[np.int64]) -> None:
    rows = sample.pageblocks
    kinds = np.where(rows["isolated"] != 0, int(Migratetype.ISOLATE), types[rows["migratetype"]])
    starts = np.array([view.zone_word(m, zone, at.START) for zone in range(len(sample.zones))])
    pages = np.maximum(rows["pfn"] - m[at.FIRST_PFN], starts[rows["zone"]])
    block_words(m)[pages >> int(m[at.PAGEBLOCK_ORDER]), at.BLOCK_TYPE] = kinds


def compare_compiled(state: CompiledState, sample: MemorySample) -> Comparison:
    """Every list in order, every page, and the counters that decide what happens next.

    Raises:
        BundleError: the sample is not sound, or holds what the model cannot.
    """
    mine, theirs = state.memory, load_compiled(sample).memory
    lists: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    words: list[tuple[str, object, object]] = []
    zones = range(int(mine[at.ZONES]))
    pages_differing = 0
    for zone in zones:
        lists += [
            (
                f"zone {zone} order {order} {kind.name.lower()}",
                view.free_list(mine, zone, order, kind),
                view.free_list(theirs, zone, order, kind),
            )
            for order in range(int(mine[at.MAX_ORDER]) + 1)
            for kind in Migratetype
        ]
        pages_differing += int((view.free_pages(mine, zone) ^ view.free_pages(theirs, zone)).sum())
        words += _zone_words(mine, theirs, zone, state)
    for zone, cpu in product(zones, state.cpu_nodes):
        where = f"zone {zone} cpu {cpu}"
        lists += [
            (
                f"{where} list {pindex}",
                view.pcp_list(mine, zone, cpu, pindex),
                view.pcp_list(theirs, zone, cpu, pindex),
            )
            for pindex in range(int(mine[at.PINDEXES]))
        ]
        words += [
            (
                f"{where} {name}",
                view.pcp_word(mine, zone, cpu, word),
                view.pcp_word(theirs, zone, cpu, word),
            )
            for name, word in _PCP_COMPARED
        ]
    return make_comparison(
        lists,
        words,
        free_pages_model=[view.zone_word(mine, zone, at.FREE_PAGES) for zone in zones],
        free_pages_kernel=[view.zone_word(theirs, zone, at.FREE_PAGES) for zone in zones],
        pages_differing=pages_differing,
    )


def _zone_words(
    mine: Memory, theirs: Memory, zone: int, state: CompiledState
) -> list[tuple[str, object, object]]:
    where = f"zone {zone}"
    words: list[tuple[str, object, object]] = []
    for name, word in _ZONE_COMPARED:
        values = [view.zone_word(m, zone, word) for m in (mine, theirs)]
        one, other = map(bool, values) if name in _FLAGS else values
        words.append((f"{where} {name}", one, other))
    counters = [
        (
            view.zone_word(m, zone, at.NR_FREE),
            sum(view.pcp_word(m, zone, cpu, at.DIFFERENCE) for cpu in state.cpu_nodes),
        )
        for m in (mine, theirs)
    ]
    exact = [value + differences for value, differences in counters]
    words.append((f"{where} free pages", exact[0], exact[1]))
    words.append((f"{where} free-page counter", counters[0][0], counters[1][0]))
    retyped = view.pageblock_types(mine, zone) != view.pageblock_types(theirs, zone)
    words.append((f"{where} pageblocks of another type", int(retyped.sum()), 0))
    return words
