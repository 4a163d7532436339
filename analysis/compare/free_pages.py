"""Claim ``free_pages``: the zone's free-page counter against the free blocks it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.facts import Tables
from analysis.compare.zones import Bracket, brackets, by_zone, drift_pages, zone_fields
from analysis.model.fragmentation import free_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One round: the counter, and the pages on the free lists before and after it was read."""

    round: int
    bracket: Bracket
    counter: int

    @property
    def lists(self) -> tuple[int, int]:
        return free_pages(self.bracket.before), free_pages(self.bracket.after)

    @property
    def deviation(self) -> int:
        """Pages by which the counter lies outside what the lists held at either end."""
        low, high = sorted(self.lists)
        return max(self.counter - high, low - self.counter, 0)

    @property
    def times(self) -> str:
        before, after = self.lists
        return (
            f"round {self.round}: {before} pages on the lists at {self.bracket.before_ns} ns, "
            f"{after} at {self.bracket.after_ns} ns, counter {self.counter} between"
        )


def free_pages_claims(tables: Tables) -> Iterator[Claim]:
    """One claim per node and zone; the round with the largest deviation is the one shown.

    Predicted is the sum of the free blocks' pages. The counter may differ by what processors
    have not yet folded into it (``drift_pages``). A round beyond that fails if the free lists
    were the same before and after the counter was read, else it says nothing.

    Kernel: mm/vmstat.c, ``zoneinfo_show_print`` prints ``zone_page_state``, the zone's counter
        without the processors' differences, under the zone lock; 5.10 to 7.2.
    Ignores: pages of isolated pageblocks, which lie on the lists but are not counted, and blocks
        that leave the lists and come back between the readings.
    """
    zones = brackets(tables)
    fields = zone_fields(tables, "free")
    drift = drift_pages(tables)
    shared = {key: bracket for key, bracket in zones.items() if "free" in fields.get(key, {})}
    for key, rounds in by_zone(shared):
        readings = [
            _Reading(
                round=number,
                bracket=shared[(number, *key)],
                counter=fields[(number, *key)]["free"],
            )
            for number in rounds
        ]
        yield _judge(*key, readings, drift.get(key, 0))


def _judge(node: int, zone: str, readings: Sequence[_Reading], drift: int) -> Claim:
    beyond = [reading for reading in readings if reading.deviation > drift]
    wrong = [reading for reading in beyond if reading.bracket.quiet]
    told = [reading for reading in readings if reading not in beyond]
    shown = max(wrong or told or beyond, key=lambda reading: reading.deviation)
    scope: Scope = {
        "node": node,
        "zone": zone,
        "rounds": len(told) + len(wrong),
        "rounds_moved": len(beyond) - len(wrong),
        "drift_pages": drift,
    }
    if wrong:
        verdict = Verdict.FAILS
        why = (
            f"{shown.times}: {shown.deviation} pages apart although nothing moved, and at most "
            f"{drift} can be pending on the processors; {len(wrong)} such rounds"
        )
    elif told:
        verdict, why = Verdict.HOLDS, ""
    else:
        verdict = Verdict.UNKNOWN
        why = f"the zone moved in all {len(readings)} rounds; {shown.times}"
    return Claim(
        id="free_pages",
        scope=scope,
        predicted=shown.lists[0],
        observed=shown.counter,
        unit="pages",
        verdict=verdict,
        why=why,
    )
