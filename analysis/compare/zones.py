"""Zones and rounds picked out of the tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.compare.facts import Tables
from analysis.model.drift import private_pages
from analysis.model.stat_threshold import pressure_threshold
from analysis.procfs.zoneinfo import STAT_THRESHOLD

ZoneKey = tuple[int, str]
"""Node and zone name."""
RoundZone = tuple[int, int, str]
"""Round, node and zone name."""
FreeBlocks = tuple[int, ...]
"""Free blocks of each order."""


def frame(tables: Tables, name: str) -> pd.DataFrame | None:
    """The named frame, or None when it is absent or holds no row."""
    found = tables.get(name)
    return None if found is None or found.empty else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """A zone's free blocks before and after a round's other files were read.

    Equal rows make a quiet zone. They do not prove it: blocks may leave and come back between
    the two (ABA).
    """

    before: FreeBlocks
    after: FreeBlocks
    before_ns: int
    after_ns: int

    @property
    def quiet(self) -> bool:
        return self.before == self.after


def brackets(tables: Tables) -> dict[RoundZone, Bracket]:
    """Both readings of /proc/buddyinfo by round, node and zone; only rounds with both."""
    buddyinfo = frame(tables, "buddyinfo")
    if buddyinfo is None:
        return {}
    before = _rows(buddyinfo[buddyinfo["bracket"] == "before"])
    after = _rows(buddyinfo[buddyinfo["bracket"] == "after"])
    return {
        key: Bracket(
            before=tuple(row.free_blocks),
            after=tuple(after[key].free_blocks),
            before_ns=int(row.t_ns),
            after_ns=int(after[key].t_ns),
        )
        for key, row in before.items()
        if key in after
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    t_ns: int
    free_blocks: list[int]


def _rows(buddyinfo: pd.DataFrame) -> dict[RoundZone, _Row]:
    ordered = buddyinfo.sort_values(["round", "node", "zone", "order"], kind="stable")
    rows: dict[RoundZone, _Row] = {}
    columns = (ordered[name].tolist() for name in ("round", "node", "zone", "free_blocks", "t_ns"))
    for number, node, zone, free_blocks, t_ns in zip(*columns, strict=True):
        key = (int(number), int(node), str(zone))
        rows.setdefault(key, _Row(t_ns=t_ns, free_blocks=[])).free_blocks.append(int(free_blocks))
    return rows


def zone_fields(tables: Tables, *fields: str) -> dict[RoundZone, dict[str, int]]:
    """Numbers that /proc/zoneinfo prints for a zone, by round, node and zone."""
    zoneinfo = frame(tables, "zoneinfo")
    if zoneinfo is None:
        return {}
    chosen = zoneinfo[zoneinfo["field"].isin(fields)]
    found: dict[RoundZone, dict[str, int]] = {}
    columns = (chosen[name].tolist() for name in ("round", "node", "zone", "field", "value"))
    for number, node, zone, name, value in zip(*columns, strict=True):
        found.setdefault((int(number), int(node), str(zone)), {})[str(name)] = int(value)
    return found


def drift_pages(tables: Tables) -> dict[ZoneKey, int]:
    """How far a zone's counters may be from the truth, all processors together, in pages.

    Kernel: mm/vmstat.c, ``__mod_zone_page_state``: each processor keeps a difference of up to its
        threshold before it adds it to the zone's counter, and ``zone_page_state``, which
        /proc/zoneinfo prints, does not add those up; 5.10 to 7.2. kswapd changes thresholds when
        it wakes and when it sleeps, which leaves larger differences in place until the next
        update, and it may wake between two rounds: so for each processor the largest threshold
        counts that the run shows or that a wakeful kswapd would set.
    """
    cpus = frame(tables, "zone_cpus")
    if cpus is None:
        return {}
    thresholds = cpus[cpus["field"] == STAT_THRESHOLD]
    largest: dict[ZoneKey, dict[int, int]] = {}
    columns = (thresholds[name].tolist() for name in ("node", "zone", "cpu", "value"))
    for node, zone, cpu, pages in zip(*columns, strict=True):
        by_cpu = largest.setdefault((int(node), str(zone)), {})
        by_cpu[int(cpu)] = max(by_cpu.get(int(cpu), 0), int(pages))
    awake: dict[ZoneKey, int] = {}
    for (_, at_node, at_zone), marks_of_zone in zone_fields(tables, "low", "min").items():
        where = (at_node, at_zone)
        if where in largest and len(marks_of_zone) == 2:
            pages = pressure_threshold(
                marks_of_zone["low"], marks_of_zone["min"], len(largest[where])
            )
            awake[where] = max(awake.get(where, 0), pages)
    return {
        where: private_pages(by_cpu.values(), awake=awake.get(where, 0))
        for where, by_cpu in largest.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A labelled round: ``<phase>/<index>/<action>[/<arg>…]``, or ``<phase>/begin|end``."""

    round: int
    label: str

    @property
    def phase(self) -> str:
        return self.label.partition("/")[0]

    @property
    def index(self) -> int | None:
        parts = self.label.split("/")
        return int(parts[1]) if len(parts) > 2 and parts[1].isdecimal() else None

    @property
    def action(self) -> tuple[str, ...]:
        """The action and its arguments; empty for begin and end."""
        return tuple(self.label.split("/")[2:]) if self.index is not None else ()


def marks(tables: Tables) -> list[Mark]:
    """Marks in the order of their rounds."""
    found = frame(tables, "marks")
    if found is None:
        return []
    ordered = found.sort_values("round", kind="stable")
    pairs = zip(ordered["round"].tolist(), ordered["label"].tolist(), strict=True)
    return [Mark(round=int(number), label=str(label)) for number, label in pairs]


def by_zone(keys: Mapping[RoundZone, object]) -> Iterator[tuple[ZoneKey, list[int]]]:
    """Each zone with its rounds in order; zones by node, then as first seen."""
    rounds: dict[ZoneKey, list[int]] = {}
    for number, node, zone in keys:
        rounds.setdefault((node, zone), []).append(number)
    for key in sorted(rounds, key=lambda zone: zone[0]):
        yield key, sorted(rounds[key])


def pageblock_order(tables: Tables) -> int | None:
    """The order of a pageblock, from how many of them make up the zones; None if that is unclear.

    Kernel: mm/vmstat.c, ``pagetypeinfo_showblockcount_print`` looks at every pageblock of the
        zone's span and counts those that exist; 5.10 to 7.2.
    """
    pageblocks, buddyinfo = frame(tables, "pageblocks"), frame(tables, "buddyinfo")
    if pageblocks is None or buddyinfo is None:
        return None
    counted: dict[RoundZone, int] = {}
    columns = (pageblocks[name].tolist() for name in ("round", "node", "zone", "blocks"))
    for number, node, zone, blocks in zip(*columns, strict=True):
        key = (int(number), int(node), str(zone))
        counted[key] = counted.get(key, 0) + int(blocks)
    sizes = zone_fields(tables, "present", "spanned")
    candidates = set(range(int(buddyinfo["order"].max()) + 1))
    for where, blocks in counted.items():
        size = sizes.get(where)
        if size is None or not blocks:
            continue
        candidates = {
            order
            for order in candidates
            if size["present"] >> order <= blocks + 1 and blocks <= -(-size["spanned"] >> order)
        }
    return candidates.pop() if len(candidates) == 1 else None
