"""The compiled replay against the plain one, on random operations, sound and unsound."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.replay.engine import FREE, Arrays, apply
from analysis.replay.ledger import ENTRY, KINDS, Kind
from analysis.replay.operation import OPERATION, Op
from analysis.replay.plain import PlainOperation, PlainReplay, Status

FIRST_PFN = 0x40
PAGES = 64
MAX_ORDER = 4
PAGEBLOCK_ORDER = 3
PCP_TYPES = 3
CPUS = 2

operations = st.builds(
    PlainOperation,
    op=st.sampled_from(list(Op)),
    pfn=st.integers(FIRST_PFN - 2, FIRST_PFN + PAGES + 1),
    order=st.integers(-1, MAX_ORDER + 1),
    migratetype=st.integers(-1, PCP_TYPES + 1),
    cpu=st.integers(0, CPUS - 1),
    pid=st.integers(1, 2),
    compacting=st.booleans(),
)
aligned = st.builds(
    lambda op, order, slot, migratetype, cpu, pid, compacting: PlainOperation(
        op=op,
        pfn=FIRST_PFN + (slot >> order << order),
        order=order,
        migratetype=migratetype,
        cpu=cpu,
        pid=pid,
        compacting=compacting,
    ),
    st.sampled_from(list(Op)),
    st.integers(0, MAX_ORDER + 1),
    st.integers(0, PAGES - 1),
    st.integers(-1, PCP_TYPES + 1),
    st.integers(0, CPUS - 1),
    st.integers(1, 2),
    st.booleans(),
)
zones = st.sampled_from([[0] * PAGES, [0] * 24 + [1] * 40, [-1] * 8 + [0] * 24 + [1] * 32])
types = st.lists(
    st.integers(0, PCP_TYPES + 1),
    min_size=PAGES >> PAGEBLOCK_ORDER,
    max_size=PAGES >> PAGEBLOCK_ORDER,
)


def arrays_of(zone_of: list[int], block_types: list[int], give: int, retypes: bool) -> Arrays:
    """An allocator without a free page."""
    return Arrays(
        first_pfn=FIRST_PFN,
        max_order=MAX_ORDER,
        pageblock_order=PAGEBLOCK_ORDER,
        pcp_types=PCP_TYPES,
        largest_give=give,
        retypes=retypes,
        isolate=PCP_TYPES + 1,
        zone_of=np.array(zone_of, np.int8),
        status=np.zeros(PAGES, np.uint8),
        head=np.zeros(PAGES, np.int8),
        block_type=np.array(block_types, np.int8),
        true_type=np.array(block_types, np.int8),
        nr_free=np.zeros((2, MAX_ORDER + 1), np.int64),
        last_taken=np.full(CPUS, -1, np.int64),
        counts=np.zeros(KINDS, np.int64),
        entries=np.zeros(16 * KINDS, ENTRY),
        used=np.zeros(1 + KINDS, np.int64),
        listed=16,
    )


def plain_of(zone_of: list[int], block_types: list[int], give: int, retypes: bool) -> PlainReplay:
    """The same in plain Python."""
    first_block = FIRST_PFN >> PAGEBLOCK_ORDER
    return PlainReplay(
        max_order=MAX_ORDER,
        pageblock_order=PAGEBLOCK_ORDER,
        pcp_types=PCP_TYPES,
        largest_give=give,
        retypes=retypes,
        isolate=PCP_TYPES + 1,
        zone_of={FIRST_PFN + at: zone for at, zone in enumerate(zone_of) if zone >= 0},
        blocks={},
        block_type={first_block + at: kind for at, kind in enumerate(block_types)},
    )


def records(operations: list[PlainOperation]) -> np.ndarray:
    """Operations as the compiled replay takes them."""
    ops = np.zeros(len(operations), OPERATION)
    for at, one in enumerate(operations):
        ops[at] = (
            *(at, one.pfn, one.pid, one.cpu, one.op, one.order, one.migratetype, 0),
            one.compacting,
        )
    return ops


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(aligned, aligned, operations), max_size=60),
    zones,
    types,
    st.sampled_from([MAX_ORDER, PAGEBLOCK_ORDER]),
    st.booleans(),
)
@example(  # what is impossible was not the last to free a page
    [
        PlainOperation(op=Op.GIVE, pfn=FIRST_PFN + 48, order=1),
        PlainOperation(op=Op.GIVE, pfn=FIRST_PFN + 48, order=-1),
        PlainOperation(op=Op.ALLOCATE, pfn=FIRST_PFN + 48, order=1),
    ],
    [0] * PAGES,
    [0] * (PAGES >> PAGEBLOCK_ORDER),
    MAX_ORDER,
    False,
)
@example(
    [
        PlainOperation(op=Op.GIVE, pfn=FIRST_PFN, order=1, pid=2, compacting=True),
        PlainOperation(op=Op.GIVE, pfn=FIRST_PFN - 2, order=2),
        PlainOperation(op=Op.ALLOCATE, pfn=FIRST_PFN, order=1, pid=2),
    ],
    [0] * PAGES,
    [0] * (PAGES >> PAGEBLOCK_ORDER),
    MAX_ORDER,
    False,
)
def test_compiled_and_plain_replay_agree(
    history: list[PlainOperation],
    zone_of: list[int],
    block_types: list[int],
    give: int,
    retypes: bool,
) -> None:
    arrays = arrays_of(zone_of, block_types, give, retypes)
    plain = plain_of(zone_of, block_types, give, retypes)

    series = np.zeros((2, *arrays.nr_free.shape), np.int64)
    apply(arrays, records(history), 0, np.array([len(history) // 2, len(history)]), series)
    plain.apply(history)

    heads = {FIRST_PFN + int(at): int(arrays.head[at]) - 1 for at in np.flatnonzero(arrays.head)}
    assert heads == plain.blocks
    free = {FIRST_PFN + int(at) for at in np.flatnonzero(arrays.status == FREE)}
    assert free == {pfn for pfn, status in plain.status.items() if status is Status.FREE}
    assert free == {page for pfn, order in heads.items() for page in range(pfn, pfn + (1 << order))}
    assert Counter({kind: int(arrays.counts[kind]) for kind in Kind}) == plain.ledger
    counted = np.zeros_like(arrays.nr_free)
    for pfn, order in heads.items():
        counted[zone_of[pfn - FIRST_PFN], order] += 1
    assert (counted == arrays.nr_free).all()
    assert (series[1] == counted).all()
