"""Laws of lists against counters: free blocks and slabs."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Verdict
from analysis.compare.rule import Rule, unknown
from analysis.compare.static.readings import (
    moved,
    node_private_pages,
    reading,
    settled,
    whole_pages,
    zone_private_pages,
)
from analysis.errors import MissingInputError
from analysis.model.drift import Finding, settle
from analysis.model.identities import blocks as model
from analysis.procfs import buddyinfo, meminfo, pagetypeinfo, slab_sysfs, slabinfo, zoneinfo
from analysis.procfs.slabinfo import Slabinfo

BUDDY = "proc/buddyinfo"
ZONEINFO = "proc/zoneinfo"
PAGETYPE = "proc/pagetypeinfo"
SLAB = "proc/slabinfo"
MEMINFO = "proc/meminfo"


def _buddy(snapshot: Snapshot) -> Iterator[Claim]:
    private = zone_private_pages(snapshot)
    moved_pages = moved(snapshot)
    zones = {(zone.node, zone.zone): zone for zone in snapshot.zoneinfo.zones}
    for row in snapshot.buddyinfo:
        key = (row.node, row.zone)
        if key not in zones:
            yield unknown(
                "buddy_free_pages",
                {"node": row.node, "zone": row.zone},
                why=f"{ZONEINFO} lacks the zone",
            )
            continue
        isolated = _isolated(snapshot, key)
        unaccepted = zones[key].counters.get("nr_unaccepted", 0)

        def on_lists(
            info: zoneinfo.Zoneinfo, key: tuple[int, str] = key, isolated: int = isolated
        ) -> list[int]:
            return [
                model.pages_on_lists(
                    free_pages=zone.pages["free"],
                    unaccepted_pages=zone.counters.get("nr_unaccepted", 0),
                    isolated_pages=isolated,
                )
                for zone in info.zones
                if (zone.node, zone.zone) == key
            ]

        def in_blocks(
            rows: tuple[buddyinfo.BuddyRow, ...], key: tuple[int, str] = key
        ) -> list[int]:
            return [
                model.pages_of_blocks(one.free_blocks)
                for one in rows
                if (one.node, one.zone) == key
            ]

        terms = " + ".join(
            f"{blocks}*{1 << order}" for order, blocks in enumerate(row.free_blocks) if blocks
        )
        yield settled(
            "buddy_free_pages",
            {"node": row.node, "zone": row.zone},
            predicted=(ZONEINFO, reading(snapshot, ZONEINFO, zoneinfo.parse, on_lists)),
            observed=(BUDDY, reading(snapshot, BUDDY, buddyinfo.parse, in_blocks)),
            unit="pages",
            private=private[key],
            moved=moved_pages,
            working=[
                f"free {zones[key].pages['free']} - unaccepted {unaccepted} + isolated {isolated}",
                f"{BUDDY}: {terms or 0} = {model.pages_of_blocks(row.free_blocks)}",
            ],
        )


def _isolated(snapshot: Snapshot, key: tuple[int, str]) -> int:
    if not snapshot.has(PAGETYPE):
        return 0
    page = snapshot.parsed(PAGETYPE, pagetypeinfo.parse)
    return model.blocks_by_type(
        row.free_blocks
        for row in page.free
        if (row.node, row.zone) == key and row.migratetype == "Isolate"
    )


def _pagetype(snapshot: Snapshot) -> Iterator[Claim]:
    moved_pages = moved(snapshot)
    page = snapshot.parsed(PAGETYPE, pagetypeinfo.parse)
    for row in snapshot.buddyinfo:
        key = (row.node, row.zone)
        scope: dict[str, int | str] = {"node": row.node, "zone": row.zone}
        mine = [free for free in page.free if (free.node, free.zone) == key]
        if not mine:
            yield unknown("pagetype_free_pages", scope, why=f"{PAGETYPE} lacks the zone")
            continue
        if any(any(free.is_bound) for free in mine):
            yield unknown(
                "pagetype_free_pages", scope, why="a list is too long for the kernel to count"
            )
            continue

        def by_type(found: pagetypeinfo.Pagetypeinfo, key: tuple[int, str] = key) -> tuple[int]:
            rows = [f.free_blocks for f in found.free if (f.node, f.zone) == key]
            return (model.blocks_by_type(rows),)

        def in_blocks(
            rows: tuple[buddyinfo.BuddyRow, ...], key: tuple[int, str] = key
        ) -> list[int]:
            return [
                model.pages_of_blocks(one.free_blocks)
                for one in rows
                if (one.node, one.zone) == key
            ]

        yield settled(
            "pagetype_free_pages",
            scope,
            predicted=(PAGETYPE, reading(snapshot, PAGETYPE, pagetypeinfo.parse, by_type)),
            observed=(BUDDY, reading(snapshot, BUDDY, buddyinfo.parse, in_blocks)),
            unit="pages",
            moved=moved_pages,
            working=[
                " + ".join(
                    f"{model.pages_of_blocks(free.free_blocks)} ({free.migratetype})"
                    for free in mine
                )
            ],
        )


def _slabs(snapshot: Snapshot) -> Iterator[Claim]:
    private = sum(node_private_pages(snapshot).values())
    page_kib = snapshot.page_kib
    caches = snapshot.slabinfo
    all_slabs = model.slab_pages(_slabs_of(caches, None))
    if not all_slabs:
        yield unknown("slab_pages", why="slabinfo shows no slab")
        return
    slabs = reading(
        snapshot,
        SLAB,
        slabinfo.parse,
        lambda info: (model.slab_pages(_slabs_of(info, None)),),
    )
    shown = reading(
        snapshot, MEMINFO, meminfo.parse, lambda info: (whole_pages(info.values["Slab"], page_kib),)
    )
    room = shown.total + private - all_slabs
    finding = settle(shown, slabs, private=private, moved=moved(snapshot))
    later = None if shown.again is None else sum(shown.again)
    working = (
        f"{len(caches.caches)} caches have {all_slabs} pages in slabs",
        (
            f"Slab is {shown.total} pages of {page_kib} KiB: {shown.total - all_slabs} for "
            f"kmalloc() memory that is too large for slabs, or kept by CPUs ({private} at most)"
        ),
    )
    excused = finding is not Finding.OFF or (later is not None and later + private >= all_slabs)
    if room < 0 and excused:
        yield unknown(
            "slab_pages",
            why=(
                f"{SLAB} and {MEMINFO} were read at different moments: {all_slabs} pages in slabs, "
                f"{shown.total} in Slab"
            ),
            predicted=all_slabs,
            observed=shown.total,
            unit="pages at least",
            working=working,
        )
        return
    yield Claim(
        id="slab_pages",
        predicted=all_slabs,
        observed=shown.total,
        unit="pages at least",
        verdict=Verdict.HOLDS if room >= 0 else Verdict.FAILS,
        why="" if room >= 0 else f"slabs have {all_slabs} pages, Slab shows {shown.total}",
        working=working,
    )


def _slabs_of(info: Slabinfo, names: frozenset[str] | None) -> list[tuple[int, int]]:
    columns = info.columns
    count, size = columns.index("num_slabs"), columns.index("pagesperslab")
    return [
        (cache.values[count], cache.values[size])
        for cache in info.caches
        if names is None or cache.name in names
    ]


def _reclaimable(snapshot: Snapshot) -> Iterator[Claim]:
    sysfs = snapshot.parsed("slab_sysfs", slab_sysfs.parse)
    names = [cache.name for cache in snapshot.slabinfo.caches]
    attributes = {name: sysfs.cache_of(name) for name in names}
    lost = [name for name, found in attributes.items() if found is None]
    if lost:
        raise MissingInputError(f"slab_sysfs of the cache {lost[0]}")
    if not any("reclaim_account" in (found or {}) for found in attributes.values()):
        raise MissingInputError("slab_sysfs, reclaim_account")
    chosen = frozenset(
        name for name, found in attributes.items() if (found or {}).get("reclaim_account") == "1"
    )
    page_kib = snapshot.page_kib
    private = sum(node_private_pages(snapshot).values())
    yield settled(
        "slab_reclaimable_pages",
        {},
        predicted=(
            SLAB,
            reading(
                snapshot,
                SLAB,
                slabinfo.parse,
                lambda info: (model.slab_pages(_slabs_of(info, chosen)),),
            ),
        ),
        observed=(
            MEMINFO,
            reading(
                snapshot,
                MEMINFO,
                meminfo.parse,
                lambda info: (whole_pages(info.values["SReclaimable"], page_kib),),
            ),
        ),
        unit="pages",
        private=private,
        moved=moved(snapshot),
        working=[
            (
                f"{len(chosen)} caches are reclaimable (slab_sysfs, reclaim_account); their slabs "
                f"* pages of one = {model.slab_pages(_slabs_of(snapshot.slabinfo, chosen))} pages"
            )
        ],
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="buddy_free_pages",
        says=(
            "The blocks on a zone's free lists are its free pages, apart from isolated blocks "
            "(on lists, not counted) and memory not yet accepted (counted, on no list). CPUs "
            "keep part of the counter to themselves, the lists are always up to date."
        ),
        inputs=(ZONEINFO, PAGETYPE, f"{BUDDY}.after", f"{ZONEINFO}.after"),
        observed="buddyinfo, blocks * 2^order",
        model=(model.pages_of_blocks, model.pages_on_lists),
        judge=_buddy,
    ),
    Rule(
        id="pagetype_free_pages",
        says=(
            "Every free block is on the list of one migrate type, so pagetypeinfo's types add up "
            "to buddyinfo."
        ),
        inputs=(PAGETYPE, f"{BUDDY}.after"),
        observed="buddyinfo, blocks * 2^order",
        model=(model.blocks_by_type, model.pages_of_blocks),
        judge=_pagetype,
    ),
    Rule(
        id="slab_pages",
        says=(
            "The slabs of all caches are in Slab, which also has kmalloc() memory that is too "
            "large for slabs: slabinfo can show no more pages than meminfo."
        ),
        inputs=(SLAB, ZONEINFO),
        observed="meminfo, Slab",
        model=(model.slab_pages,),
        judge=_slabs,
    ),
    Rule(
        id="slab_reclaimable_pages",
        says=(
            "SReclaimable is the memory in slabs of the caches that can be shrunk, and nothing "
            "else: kmalloc() memory outside slabs counts as unreclaimable."
        ),
        inputs=(SLAB, "slab_sysfs", ZONEINFO, f"{MEMINFO}.after"),
        observed="meminfo, SReclaimable",
        model=(model.slab_pages,),
        judge=_reclaimable,
    ),
)
