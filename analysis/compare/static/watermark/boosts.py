"""The rule about watermark boost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Verdict
from analysis.compare.rule import Rule, exact
from analysis.compare.static.watermark.chain import eras, pageblock_pages
from analysis.compare.static.watermark.marks import SCALE_FACTOR, Marks
from analysis.compare.static.watermark.moments import scope_of
from analysis.errors import MissingInputError
from analysis.model.watermark_boost import max_boost_pages, possible_boosts
from analysis.procfs.zoneinfo import Zone

BOOST_FACTOR = "vm/watermark_boost_factor"


def may_boost(snapshot: Snapshot) -> bool:
    """Whether the kernel raises watermarks at all: the sysctl came with the boost.

    Raises:
        MissingInputError: the kernel is older than every one that was compared.
    """
    if snapshot.has_sysctl(BOOST_FACTOR):
        return True
    lists = snapshot.has_sysctl(SCALE_FACTOR)
    return not lists and any(era.boosts for era in eras(snapshot))


def boosts(snapshot: Snapshot, zone: Zone, high_pages: int) -> tuple[int, frozenset[int]]:
    """The largest boost of a zone, and every one that it may have; high without boost."""
    if not may_boost(snapshot):
        return 0, frozenset({0})
    pageblock = pageblock_pages(snapshot)
    largest = max_boost_pages(
        high_pages=high_pages,
        managed_pages=zone.pages["managed"],
        watermark_boost_factor=snapshot.sysctl_number(BOOST_FACTOR),
        pageblock_pages=pageblock,
    )
    return largest, possible_boosts(largest, pageblock)


def hidden_boost(snapshot: Snapshot, zone: Zone, sets: Sequence[Marks]) -> int:
    """A boost that the release does not print, or 0: one by which all three marks are raised."""
    if "boost" in zone.pages or not {"min", "low", "high"} <= zone.pages.keys():
        return 0
    if not may_boost(snapshot):
        return 0
    key = (zone.node, zone.zone)
    for marks in sets:
        mark = marks.zones[key]
        raises = {
            zone.pages["min"] - mark.min_pages,
            zone.pages["low"] - mark.low_pages,
            zone.pages["high"] - mark.high_pages,
        }
        (raised, *others) = raises
        if not others and raised > 0 and raised in boosts(snapshot, zone, mark.high_pages)[1]:
            return raised
    return 0


def _watermark_boost(snapshot: Snapshot) -> Iterator[Claim]:
    zones = [zone for zone in snapshot.zoneinfo.zones if "boost" in zone.pages]
    if not zones:
        raise MissingInputError("'boost' in proc/zoneinfo, which this release does not print")
    pageblock = pageblock_pages(snapshot)
    for zone in zones:
        shown = zone.pages["boost"]
        high = zone.pages["high"] - shown
        largest, possible = boosts(snapshot, zone, high)
        scope = scope_of((zone.node, zone.zone))
        factor = snapshot.sysctl_number(BOOST_FACTOR)
        working = [
            f"a pageblock has {pageblock} pages, the zone manages {zone.pages['managed']}",
            (
                f"largest boost: {high} (high) x {factor} / 10000, at least a pageblock, none "
                f"below four pageblocks = {largest}"
            ),
            "a fallback adds a pageblock, kswapd takes off what it saw",
        ]
        if possible == {0}:
            yield exact(
                "watermark_boost", scope, predicted=0, observed=shown, unit="pages", working=working
            )
            continue
        listed = f"a multiple of {pageblock}, or {largest} less one, from 0 to {largest}"
        holds = shown in possible
        yield Claim(
            id="watermark_boost",
            scope=scope,
            predicted=listed,
            observed=shown,
            unit="pages",
            verdict=Verdict.HOLDS if holds else Verdict.FAILS,
            why="" if holds else f"the boost is {listed}; the kernel shows {shown}",
            working=tuple(working),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="watermark_boost",
        says=(
            "A request that falls back to another migrate type raises the zone's watermarks by a "
            "pageblock, up to watermark_boost_factor / 10000 of high (at least one pageblock); "
            "kswapd takes the boost off. Zones below four pageblocks are never boosted."
        ),
        inputs=(
            "proc/zoneinfo",
            "proc/pagetypeinfo",
            f"proc/sys/{BOOST_FACTOR}",
        ),
        observed="proc/zoneinfo: boost",
        model=(max_boost_pages, possible_boosts),
        judge=_watermark_boost,
    ),
)
