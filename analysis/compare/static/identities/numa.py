"""Allocations as NUMA counts them: hits, misses, and who asked from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.model.identities import numa as numa_model
from analysis.procfs import vmstat

ZONEINFO = "proc/zoneinfo"
VMSTAT = "proc/vmstat"
_EVENTS_AT_ONCE = 100_000
"""Allocations from one zone that one CPU may not have told yet (65,533 to 5.13, until a second has
passed), or does while a file of counters is printed."""


def _numa(snapshot: Snapshot) -> Iterator[Claim]:
    files: list[tuple[dict[str, int | str], Mapping[str, int], str, str]] = []
    if "numa_hit" in snapshot.vmstat.values:
        files.append(({"file": "vmstat"}, snapshot.vmstat.values, "numa_local", "numa_other"))
    for zone in snapshot.zoneinfo.zones:
        if "numa_hit" in zone.counters:
            scope: dict[str, int | str] = {
                "file": "zoneinfo",
                "node": zone.node,
                "zone": zone.zone,
            }
            files.append((scope, zone.counters, "numa_local", "numa_other"))
    for node in snapshot.nodes:
        name = f"{NODES}/node{node}/numastat"
        if snapshot.has(name):
            values = snapshot.parsed(name, vmstat.parse).values
            files.append(({"file": "numastat", "node": node}, values, "local_node", "other_node"))
    if not files:
        why = "a kernel without CONFIG_NUMA counts no such events"
        yield unknown("numa_events", why=why, lacking=True)
        return
    zones = sum(bool(zone.counters) for zone in snapshot.zoneinfo.zones)
    allowed = _EVENTS_AT_ONCE * len(snapshot.cpus_online) * zones
    for scope, values, local, other in files:
        if not all(name in values for name in ("numa_hit", "numa_miss", local, other)):
            continue
        hit, miss = values["numa_hit"], values["numa_miss"]
        yield _balanced(
            scope,
            predicted=numa_model.placed(local=values[local], other=values[other]),
            observed=hit + miss,
            allowed=allowed,
            working=[
                f"{local} + {other} = {values[local]} + {values[other]}",
                f"numa_hit + numa_miss = {hit} + {miss}",
            ],
        )
    whole = snapshot.vmstat.values
    if "numa_foreign" in whole and "numa_miss" in whole:
        yield _balanced(
            {"file": "vmstat", "event": "foreign"},
            predicted=numa_model.foreign(whole["numa_miss"]),
            observed=whole["numa_foreign"],
            allowed=allowed,
            working=[f"numa_miss = {whole['numa_miss']}, numa_foreign = {whole['numa_foreign']}"],
        )


def _balanced(
    scope: Mapping[str, int | str],
    *,
    predicted: int,
    observed: int,
    allowed: int,
    working: list[str],
) -> Claim:
    if 0 < abs(predicted - observed) <= allowed:
        return unknown(
            "numa_events",
            scope,
            why=f"the counters moved while they were read: {predicted} and {observed}",
            predicted=predicted,
            observed=observed,
            unit="allocations",
            working=working,
        )
    return exact(
        "numa_events",
        scope,
        predicted=predicted,
        observed=observed,
        unit="allocations",
        working=working,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="numa_events",
        says=(
            "Every page that a zone hands out is counted twice: as a hit or a miss, by whether "
            "the zone is on the node that was wished for, and as local or other, by whether it is "
            "on the node of the CPU that asked. So hit + miss = local + other in every zone, and "
            "each miss is foreign to some other zone."
        ),
        inputs=(VMSTAT, ZONEINFO, f"{NODES}/node*/numastat"),
        observed="vmstat, zoneinfo and numastat: numa_hit + numa_miss, numa_foreign",
        model=(numa_model.placed, numa_model.foreign),
        judge=_numa,
    ),
)
