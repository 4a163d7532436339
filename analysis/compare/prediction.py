"""What the model says of one zone through a series of requests, from the tables of one round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.compare.facts import Facts, Tables
from analysis.compare.zones import (
    Bracket,
    FreeBlocks,
    ZoneKey,
    drift_pages,
    frame,
    pageblock_order,
    zone_fields,
)
from analysis.model.eras import era_of
from analysis.model.fragmentation import free_pages
from analysis.model.freelist import MIGRATETYPE_NAMES, Migratetype
from analysis.model.stimulus import Drop, Prediction, Reserve, Take, percpu_orders, predict

EXACT_ORDER = 5
"""From this order up nobody but the workload is expected to take or give blocks."""

Request = Take | Drop


def managed_by_node(tables: Tables, number: int) -> dict[int, dict[str, int]]:
    """Managed pages of every zone of every node in one round."""
    managed: dict[int, dict[str, int]] = {}
    for (round_number, node, zone), fields in zone_fields(tables, "managed").items():
        if round_number == number:
            managed.setdefault(node, {})[zone] = fields["managed"]
    return managed


def predict_zone(
    tables: Tables,
    facts: Facts,
    key: ZoneKey,
    start: int,
    base: Bracket,
    requests: Sequence[Request],
) -> list[Prediction]:
    """The zone before the first step, and after each of its own requests."""
    by_type, why = _counts_by_type(tables, key, start)
    why = why or _restless(base, by_type)
    if why:
        return _unknown(why, requests)
    first = Prediction(free_blocks=tuple(map(sum, zip(*by_type.values(), strict=True))))
    if not requests:
        return [first]
    reserve = _reserve(tables, key, start, by_type)
    if reserve is None:
        return _unknown("the round of the first mark lacks the zone's watermarks", requests)
    block_order = pageblock_order(tables)
    if block_order is None:
        return _unknown("the tables do not tell the order of a pageblock", requests)
    after = predict(
        by_type,
        requests,
        reserve=reserve,
        pageblock_order=block_order,
        percpu=percpu_orders(facts.release, pageblock_order=block_order, thp=facts.thp),
        era=era_of(facts.release),
    )
    return [first, *after]


def _unknown(why: str, requests: Sequence[Request]) -> list[Prediction]:
    return [Prediction(free_blocks=None, why=why)] * (len(requests) + 1)


def _counts_by_type(
    tables: Tables, key: ZoneKey, start: int
) -> tuple[dict[Migratetype, FreeBlocks], str]:
    pagetypeinfo = frame(tables, "pagetypeinfo")
    if pagetypeinfo is None:
        return {}, "the run has no /proc/pagetypeinfo"
    node, zone = key
    rows = pagetypeinfo[
        (pagetypeinfo["round"] == start)
        & (pagetypeinfo["node"] == node)
        & (pagetypeinfo["zone"] == zone)
    ].sort_values("order", kind="stable")
    if rows.empty:
        return {}, f"the round of the first mark, {start}, has no /proc/pagetypeinfo"
    if rows["is_bound"].any():
        return {}, "a free list is too long for /proc/pagetypeinfo to count, which prints a bound"
    counts: dict[Migratetype, list[int]] = {}
    for name, free_blocks in zip(rows["migratetype"], rows["free_blocks"].tolist(), strict=True):
        if str(name) not in MIGRATETYPE_NAMES:
            return {}, f"/proc/pagetypeinfo has a type {name!r} that the model does not know"
        counts.setdefault(MIGRATETYPE_NAMES[str(name)], []).append(int(free_blocks))
    return {migratetype: tuple(blocks) for migratetype, blocks in counts.items()}, ""


def _restless(base: Bracket, by_type: Mapping[Migratetype, FreeBlocks]) -> str:
    """Why the first round is no base, if large blocks moved while it was read."""
    total = tuple(map(sum, zip(*by_type.values(), strict=True)))
    for source, row in (("before", base.before), ("after", base.after)):
        if row[EXACT_ORDER:] != total[EXACT_ORDER:]:
            return (
                f"/proc/pagetypeinfo and the /proc/buddyinfo read {source} it differ at orders "
                f"from {EXACT_ORDER} up: {' '.join(map(str, total))} and {' '.join(map(str, row))}"
            )
    return ""


def _reserve(
    tables: Tables, key: ZoneKey, start: int, by_type: Mapping[Migratetype, FreeBlocks]
) -> Reserve | None:
    """What a GFP_KERNEL request must leave; the high-atomic reserve counts whole pageblocks."""
    node, zone = key
    below_normal = sum(
        name in ("DMA", "DMA32") for name in managed_by_node(tables, start).get(node, {})
    )
    protection = f"protection[{below_normal}]"
    fields = zone_fields(tables, "low", "nr_free_cma", protection).get((start, *key), {})
    if "low" not in fields or protection not in fields:
        return None
    reserved = 0
    pageblocks, block_order = frame(tables, "pageblocks"), pageblock_order(tables)
    if pageblocks is not None and block_order is not None:
        rows = pageblocks[
            (pageblocks["round"] == start)
            & (pageblocks["node"] == node)
            & (pageblocks["zone"] == zone)
            & (pageblocks["migratetype"] == "HighAtomic")
        ]
        reserved = int(rows["blocks"].sum()) << block_order
    isolated = free_pages(by_type.get(Migratetype.ISOLATE, ()))
    return Reserve(
        watermark_low_pages=fields["low"],
        lowmem_reserve_pages=fields[protection],
        unusable_pages=reserved + isolated + fields.get("nr_free_cma", 0),
        drift_pages=drift_pages(tables).get(key, 0),
    )
