"""Claims ``unusable_index`` and ``extfrag_index``: the debugfs indexes, recomputed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.facts import Tables
from analysis.compare.zones import Bracket, RoundZone, brackets, by_zone, frame
from analysis.model.fragmentation import extfrag_index_milli, unusable_index_milli

_RULES = {
    "unusable_index": ("unusable", unusable_index_milli),
    "extfrag_index": ("extfrag", extfrag_index_milli),
}


def fragmentation_claims(tables: Tables) -> Iterator[Claim]:
    """One claim per index, node, zone and order over all rounds in which the zone was quiet.

    Exact: a single quiet round that differs by a thousandth fails, and is the one shown. A round
    in which the zone's free blocks changed between the two readings of /proc/buddyinfo says
    nothing about the index read between them. Equal readings do not prove that nothing happened
    (ABA); a lone failing round in a busy run may be that.
    """
    zones = brackets(tables)
    for claim_id, (index, rule) in _RULES.items():
        rule = cache(rule)
        shown = _shown(tables, index)
        for (node, zone), rounds in by_zone(zones):
            quiet = [number for number in rounds if zones[number, node, zone].quiet]
            orders = {order for number in rounds for order in shown.get((number, node, zone), {})}
            for order in sorted(orders):
                readings = [
                    _Reading(
                        round=number,
                        bracket=zones[number, node, zone],
                        predicted=rule(zones[number, node, zone].before, order),
                        observed=shown[number, node, zone][order],
                    )
                    for number in quiet
                    if order in shown.get((number, node, zone), {})
                ]
                scope: Scope = {"node": node, "zone": zone, "order": order, "rounds": len(readings)}
                yield _judge(claim_id, scope, readings, len(rounds))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One quiet round: the index from the free blocks, and the index that was printed."""

    round: int
    bracket: Bracket
    predicted: int
    observed: int


def _judge(claim_id: str, scope: Scope, readings: Sequence[_Reading], rounds: int) -> Claim:
    unit = "thousandths"
    if not readings:
        return Claim(
            id=claim_id,
            scope=scope,
            predicted=None,
            observed=None,
            unit=unit,
            verdict=Verdict.UNKNOWN,
            why=f"in none of {rounds} rounds did the zone hold still while its files were read",
        )
    wrong = [reading for reading in readings if reading.predicted != reading.observed]
    shown = wrong[0] if wrong else readings[-1]
    why = ""
    if wrong:
        why = (
            f"round {shown.round}, {shown.bracket.before_ns} to {shown.bracket.after_ns} ns: free "
            f"blocks {' '.join(map(str, shown.bracket.before))} make {shown.predicted}, the kernel "
            f"printed {shown.observed}; {len(wrong)} of {len(readings)} quiet rounds differ"
        )
    return Claim(
        id=claim_id,
        scope=scope,
        predicted=shown.predicted,
        observed=shown.observed,
        unit=unit,
        verdict=Verdict.FAILS if wrong else Verdict.HOLDS,
        why=why,
    )


def _shown(tables: Tables, index: str) -> dict[RoundZone, dict[int, int]]:
    fragindex = frame(tables, "fragindex")
    if fragindex is None:
        return {}
    chosen = fragindex[fragindex["index"] == index]
    found: dict[RoundZone, dict[int, int]] = {}
    columns = (chosen[name].tolist() for name in ("round", "node", "zone", "order", "value_milli"))
    for number, node, zone, order, value_milli in zip(*columns, strict=True):
        key = (int(number), int(node), str(zone))
        found.setdefault(key, {})[int(order)] = int(value_milli)
    return found
