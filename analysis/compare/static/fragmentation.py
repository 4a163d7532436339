"""The two fragmentation indexes of debugfs, from the free blocks around their reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope
from analysis.compare.rule import Rule, exact, unknown
from analysis.model.fragmentation import (
    EXTFRAG_WOULD_SUCCEED,
    extfrag_index_milli,
    free_pages,
    suitable_blocks,
    unusable_index_milli,
)
from analysis.procfs import buddyinfo, fragindex

EXTFRAG = "sys/kernel/debug/extfrag/extfrag_index"
UNUSABLE = "sys/kernel/debug/extfrag/unusable_index"
AFTER = "proc/buddyinfo.after"
"""A second reading of /proc/buddyinfo, after the indexes."""

Blocks = tuple[int, ...]


def _claims(
    rule_id: str,
    name: str,
    index: Callable[[Blocks, int], int],
    working: Callable[[Blocks, int], Iterator[str]],
    snapshot: Snapshot,
) -> Iterator[Claim]:
    if snapshot.source.kind == "run":
        yield unknown(rule_id, why="a run's claims are about all its rounds", lacking=True)
        return
    rows = snapshot.parsed(name, fragindex.parse)
    before = {(row.node, row.zone): row.free_blocks for row in snapshot.buddyinfo}
    second = snapshot.parsed(AFTER, buddyinfo.parse)
    after = {(row.node, row.zone): row.free_blocks for row in second}
    for row in rows:
        key = (row.node, row.zone)
        blocks = before.get(key)
        for order, shown in enumerate(row.values_milli):
            scope: Scope = {"node": row.node, "zone": row.zone, "order": order}
            if blocks is None or blocks != after.get(key):
                yield unknown(
                    rule_id,
                    scope,
                    why="the zone's free blocks changed while the files were read",
                    observed=shown,
                    unit="thousandths",
                )
                continue
            yield exact(
                rule_id,
                scope,
                predicted=index(blocks, order),
                observed=shown,
                unit="thousandths",
                working=working(blocks, order),
            )


def _unusable_working(blocks: Blocks, order: int) -> Iterator[str]:
    free = free_pages(blocks)
    usable = suitable_blocks(blocks, order) << order
    yield f"free blocks by order: {' '.join(map(str, blocks))} = {free} pages"
    if not free:
        yield "no free page: all of nothing is unusable, 1000"
        return
    yield f"in blocks of order {order} and above: {usable} pages"
    yield f"({free} - {usable}) * 1000 / {free} = {unusable_index_milli(blocks, order)}"


def _extfrag_working(blocks: Blocks, order: int) -> Iterator[str]:
    free, count = free_pages(blocks), sum(blocks)
    fitting = suitable_blocks(blocks, order)
    yield f"free blocks by order: {' '.join(map(str, blocks))} = {free} pages in {count} blocks"
    if not count:
        yield "no free block: 0"
    elif fitting:
        yield f"{fitting} blocks of order {order} could be had: {EXTFRAG_WOULD_SUCCEED}"
    else:
        yield (
            f"1000 - (1000 + {free} * 1000 / {1 << order}) / {count} = "
            f"{extfrag_index_milli(blocks, order)}"
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="unusable_index",
        says="For a request of an order, the share of the zone's free memory that lies in smaller "
        "blocks: 0 when all of it could serve, 1000 when none.",
        inputs=("proc/buddyinfo", AFTER),
        observed=f"{UNUSABLE}: a column per order",
        model=(unusable_index_milli,),
        judge=lambda snapshot: _claims(
            "unusable_index", UNUSABLE, unusable_index_milli, _unusable_working, snapshot
        ),
    ),
    Rule(
        id="extfrag_index",
        says="For a request of an order that no free block could serve: near 0 if memory is short, "
        "near 1000 if there is enough in too small blocks. Compaction of costly orders is worth "
        "its work above vm.extfrag_threshold. -1000 where a block is there.",
        inputs=("proc/buddyinfo", AFTER),
        observed=f"{EXTFRAG}: a column per order",
        model=(extfrag_index_milli,),
        judge=lambda snapshot: _claims(
            "extfrag_index", EXTFRAG, extfrag_index_milli, _extfrag_working, snapshot
        ),
    ),
)
