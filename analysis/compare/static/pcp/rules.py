"""Per-cpu lists: how much they move and hold, and when their counters reach the zone's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.rule import Rule, one_of, unknown
from analysis.compare.static.moments.late_frees import (
    Earlier,
    Step,
    as_now,
    late_frees,
    managed_before,
    spread_frees,
)
from analysis.compare.static.moments.sizing_moment import unboosted
from analysis.compare.static.pcp.sizing import Sizing, Sizings, online_cpus
from analysis.compare.static.readings import kswapd_was_awake
from analysis.model.deferred_pages import managed_while_deferred
from analysis.model.pcp_sizes import (
    MIN_PERCPU_PAGELIST_HIGH_FRACTION,
    high_from_batch,
    high_limits,
    pageset_batch,
    sharing_cpus,
    sizes_by_fraction,
    zone_batchsize,
    zone_highsize,
)
from analysis.model.stat_threshold import normal_threshold, pressure_threshold
from analysis.procfs.zoneinfo import STAT_THRESHOLD, Zone


def _scope(zone: Zone) -> Scope:
    return {"node": zone.node, "zone": zone.zone, "cpus": len(zone.cpus)}


def _shown(zone: Zone, field: str, options: Iterable[int]) -> int | None:
    """The field's value on all CPUs; of several, one that is not predicted."""
    values = {cpu.fields[field] for cpu in zone.cpus if field in cpu.fields}
    if not values:
        return None
    unexpected = values - set(options)
    return min(unexpected or values)


def _claims(
    rule_id: str,
    field: str,
    value: Callable[[Sizing], int],
    working: Callable[[Sizing], list[str]],
    snapshot: Snapshot,
    *,
    follows_low: bool = False,
) -> Iterator[Claim]:
    sizings = Sizings(snapshot)
    if not any(field in cpu.fields for zone in sizings.populated for cpu in zone.cpus):
        yield unknown(rule_id, why=f"{snapshot.kernel} does not print {field}", lacking=True)
        return
    for zone in sizings.populated:
        possible, undecided = sizings.of(zone)
        by_value = {value(sizing): sizing for sizing in reversed(possible)}
        observed = _shown(zone, field, by_value)
        if observed is None:
            yield unknown(rule_id, _scope(zone), why=f"the zone shows no {field}", lacking=True)
            continue
        if sizings.unplaced and len(by_value) > 1:
            why = f"of which zones {sizings.unplaced[0][1]} was is not shown"
            if len(sizings.eras) > 1:
                why += f"; nor {undecided}"
            yield unknown(rule_id, _scope(zone), why=why, observed=observed, unit="pages")
            continue
        if follows_low and sizings.low_uncertain(zone):
            why = "the kernel does not print by how much the low watermark is boosted"
            yield unknown(rule_id, _scope(zone), why=why, observed=observed, unit="pages")
            continue
        yield one_of(
            rule_id,
            _scope(zone),
            options=by_value,
            observed=observed,
            unit="pages",
            undecided=undecided,
            working=[line for sizing in by_value.values() for line in working(sizing)],
        )


def _batch_claims(snapshot: Snapshot) -> Iterator[Claim]:
    return _claims(
        "pcp_batch", "batch", lambda sizing: sizing.batch, Sizing.batch_working, snapshot
    )


def _limit_claims(rule_id: str, index: int, snapshot: Snapshot) -> Iterator[Claim]:
    name = ("high_min", "high_max")[index]
    return _claims(
        rule_id,
        name,
        lambda sizing: sizing.limits[index],
        lambda sizing: _limit_working(sizing, index),
        snapshot,
        follows_low=index == 0,
    )


def _limit_working(sizing: Sizing, index: int) -> list[str]:
    name = ("high_min", "high_max")[index]
    pages = sizing.managed.managed_pages
    lines = [f"batch {sizing.batch} (see pcp_batch)"]
    if sizing.fraction:
        lines += [sizing.when, sizing.managed.working]
        part = f"{pages} / {sizing.fraction} (percpu_pagelist_high_fraction) ="
        lines.append(sizing.split_working(name, pages // sizing.fraction, part))
    elif index == 0:
        lines.append(sizing.split_working(name, sizing.low_pages, "low watermark"))
    else:
        largest = pages // MIN_PERCPU_PAGELIST_HIGH_FRACTION
        lines += [sizing.when, sizing.managed.working]
        part = f"{pages} / {MIN_PERCPU_PAGELIST_HIGH_FRACTION} ="
        lines.append(sizing.split_working(name, largest, part))
    return lines


def _high_claims(snapshot: Snapshot) -> Iterator[Claim]:
    sizings = Sizings(snapshot)
    tunes = {era.tunes_itself for era in sizings.eras}
    if tunes == {True}:
        yield from _bound_claims(sizings)
    elif tunes == {False}:
        follows_low = any(era.high_follows_low for era in sizings.eras)
        yield from _claims(
            "pcp_high",
            "high",
            lambda sizing: sizing.high,
            _high_working,
            snapshot,
            follows_low=follows_low,
        )
    else:
        why = f"{snapshot.kernel} may have taken back the tuning of 6.7 (its config would tell)"
        yield unknown("pcp_high", why=why, unit="pages")


def _high_working(sizing: Sizing) -> list[str]:
    if sizing.era.high_follows_low:
        lines = _limit_working(sizing, 0)
        return [line.replace("high_min:", "high:") for line in lines]
    if sizing.fraction:
        return sizing.batch_working()
    return [*sizing.batch_working(), f"high: 6 * {sizing.batchsize} = {sizing.high}"]


def _bound_claims(sizings: Sizings) -> Iterator[Claim]:
    for zone in sizings.populated:
        possible, _ = sizings.of(zone)
        batch = max(sizing.batch for sizing in possible)
        managed = max(sizing.managed.managed_pages for sizing in possible)
        managed = max(managed, zone.pages["managed"])
        most = managed // MIN_PERCPU_PAGELIST_HIGH_FRACTION
        bound = max(most, unboosted(zone, "low"), 4 * batch)
        shown = [cpu.fields["high"] for cpu in zone.cpus if "high" in cpu.fields]
        if not shown:
            yield unknown("pcp_high", _scope(zone), why="the zone shows no high", lacking=True)
            continue
        observed = max(shown)
        holds = observed <= bound
        yield Claim(
            id="pcp_high",
            scope=_scope(zone),
            predicted=bound,
            observed=observed,
            unit="pages at most",
            verdict=Verdict.HOLDS if holds else Verdict.FAILS,
            why="" if holds else f"high is {observed}, no list of the zone may exceed {bound}",
            working=(
                "high moves: 0 on a CPU that never allocated here, else it was within high_min",
                "and high_max when the CPU last used its lists, maybe when it was the only one",
                f"high_max with one CPU: {managed} / 8 = {most}",
                f"high_min with one CPU: low watermark {unboosted(zone, 'low')}",
                f"at least 4 batches = {4 * batch}; the largest of the three: {bound}",
            ),
        )


def _threshold_claims(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id, unit = "stat_threshold", "pages"
    zones = [zone for zone in snapshot.zoneinfo.zones if zone.cpus]
    shift = snapshot.page_size_bytes.bit_length() - 1
    cpus = online_cpus(snapshot)
    frees = late_frees(snapshot, Step.WATERMARKS)
    spread = spread_frees(snapshot, Step.WATERMARKS)
    awake_once = kswapd_was_awake(snapshot)
    for zone in zones:
        if STAT_THRESHOLD not in zone.cpus[0].fields:
            continue
        by_value: dict[int, Earlier] = {}
        before = managed_before(zone, frees)
        least = min(earlier.managed_pages for earlier in before)
        extremes = [
            Earlier(managed_pages=max(0, least - free.pages), working=f"less {free.name}")
            for free in spread
        ]
        for earlier in (*before, as_now(zone), *extremes):
            by_value.setdefault(normal_threshold(earlier.managed_pages, cpus, shift), earlier)
        observed = _shown(zone, STAT_THRESHOLD, by_value)
        if observed is None:
            continue
        lines = []
        for value, earlier in by_value.items():
            units = earlier.managed_pages >> (27 - shift)
            lines += [
                earlier.working,
                f"{units} times 128 MiB: {units.bit_length()} bits",
                f"{cpus} CPUs online: {cpus.bit_length()} bits",
                f"2 * {cpus.bit_length()} * (1 + {units.bit_length()}), at most 125: {value}",
            ]
        if extremes and len(by_value) > 1:
            why = f"of which zones {spread[0].name} was is not shown"
            yield unknown(rule_id, _scope(zone), why=why, observed=observed, unit=unit)
            continue
        pressure = pressure_threshold(zone.pages["low"], zone.pages["min"], cpus)
        if awake_once and observed not in by_value and observed == pressure:
            yield unknown(
                rule_id,
                _scope(zone),
                why=f"{observed} is the threshold while kswapd is awake; asleep it would be "
                + " or ".join(map(str, sorted(by_value))),
                observed=observed,
                unit=unit,
                working=lines,
            )
            continue
        yield one_of(
            rule_id,
            _scope(zone),
            options=by_value,
            observed=observed,
            unit=unit,
            undecided="kswapd may have set it before or after the last memory was handed over",
            working=lines,
        )


_SIZE_INPUTS = ("proc/zoneinfo", "dmesg", "proc/iomem", "proc/sys/vm/min_free_kbytes", "config")

RULES: tuple[Rule, ...] = (
    Rule(
        id="pcp_batch",
        says="Pages move between a zone and a CPU's own lists in batches: a quarter of a "
        "thousandth of the zone (at most of 1 MiB), one and a half times that rounded down to a "
        "power of two, less one; at least 1. The zone's size is what it managed when the lists "
        "were last sized: once in boot until 5.13, with the watermarks since; the initrd and the "
        "kernel's init memory came later. Until 5.3 a node's highest zone had but a section of its "
        "struct pages by then, where they are deferred; from 5.4 on its lists are sized again.",
        inputs=_SIZE_INPUTS,
        observed="proc/zoneinfo: batch of every cpu",
        model=(zone_batchsize, pageset_batch, sizes_by_fraction, managed_while_deferred),
        judge=_batch_claims,
    ),
    Rule(
        id="pcp_high",
        says="A CPU gives pages back once its lists hold more than high. Until 5.13 that is six "
        "batches; then the zone's low watermark split over the CPUs of its node (over all if it "
        "has none), at least four batches. From 6.7 high tunes itself and only its limits are "
        "fixed: it never exceeds an eighth of the zone, or the low watermark if that is more.",
        inputs=(*_SIZE_INPUTS, "sys/devices/system/node/nodeN/cpulist"),
        observed="proc/zoneinfo: high of every cpu",
        model=(high_from_batch, zone_highsize, sharing_cpus, sizes_by_fraction, high_limits),
        judge=_high_claims,
    ),
    Rule(
        id="pcp_high_min",
        says="high never goes below the zone's low watermark split over the CPUs of its node, nor "
        "below four batches, when a CPU uses its lists; with percpu_pagelist_high_fraction it is "
        "that part of the zone instead.",
        inputs=(*_SIZE_INPUTS, "sys/devices/system/node/nodeN/cpulist"),
        observed="proc/zoneinfo: high_min of every cpu (newer kernels print it)",
        model=(high_limits, zone_highsize, sharing_cpus),
        judge=lambda snapshot: _limit_claims("pcp_high_min", 0, snapshot),
    ),
    Rule(
        id="pcp_high_max",
        says="high tunes itself up to an eighth of the zone split over the CPUs of its node, from "
        "the pages that the zone managed when its lists were last sized.",
        inputs=(*_SIZE_INPUTS, "sys/devices/system/node/nodeN/cpulist"),
        observed="proc/zoneinfo: high_max of every cpu (newer kernels print it)",
        model=(high_limits, zone_highsize, sharing_cpus),
        judge=lambda snapshot: _limit_claims("pcp_high_max", 1, snapshot),
    ),
    Rule(
        id="stat_threshold",
        says="A CPU adds its part to a zone's counters when it reaches a threshold: twice the bits "
        "of the number of CPUs, times one more than the bits of the zone's size in 128 MiB, at "
        "most 125. While kswapd is awake a threshold from the watermarks takes its place.",
        inputs=("proc/zoneinfo", "sys/devices/system/cpu/online", "dmesg"),
        observed="proc/zoneinfo: vm stats threshold of every cpu",
        model=(normal_threshold, pressure_threshold),
        judge=_threshold_claims,
    ),
)
