"""What a stop's trace tells: its events, what was lost, and claims that compare two numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.compare.rule import exact
from analysis.errors import MissingInputError
from analysis.model.release import parse_release
from analysis.model.watermark import (
    Watermarks,
    ZoneKey,
    movable_counts_as_lowmem,
    watermarks,
)
from analysis.procfs import meminfo, trace_text, vmstat, zoneinfo
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.procfs.zoneinfo import Zoneinfo
from analysis.tour.evidence import BootEvidence, StopEvidence

_EVERYWHERE: Scope = MappingProxyType({})
_LRU_GEN = "/sys/kernel/mm/lru_gen/enabled"


def each_boot(
    evidence: StopEvidence, judge: Callable[[BootEvidence], list[Claim]]
) -> tuple[Claim, ...]:
    """The claims of every boot; where there are several, their scope says of which they are."""
    claims: list[Claim] = []
    for label, boot in evidence.boots.items():
        found = judge(boot)
        if len(evidence.boots) > 1:
            found = [replace(claim, scope={"boot": label, **claim.scope}) for claim in found]
        claims += found
    return tuple(claims)


def trace_of(boot: BootEvidence, name: str = "trace") -> TraceText:
    """A trace that was kept.

    Raises:
        MissingInputError, ParseError: it is not there, or not what the kernel prints.
    """
    return trace_text.parse(boot.text(name), source=f"{name}.txt")


def loss_claim(boot: BootEvidence, trace: TraceText, name: str = "trace") -> Claim:
    """``trace-whole``: no event was lost, so that what is counted in the trace is all there was."""
    lost = sum(
        cpu.lost
        for cpu in trace_text.parse_stats(boot.text(f"{name}-stats"), source=f"{name}-stats")
    )
    lost += trace.written - len(trace.events)
    return equal(
        "trace-whole", 0, lost, "events lost",
        working=(f"{trace.written} entries written, {len(trace.events)} read",),
    )  # fmt: skip


def events_of(trace: TraceText, *names: str) -> tuple[TraceEvent, ...]:
    """The events of these names, in their order."""
    return tuple(event for event in trace.events if event.name in names)


def free_blocks(event: TraceEvent) -> tuple[int, ...]:
    """Free blocks by order of an event that noted them down (``b0``, ``b1`` …)."""
    blocks: list[int] = []
    while f"b{len(blocks)}" in event.fields:
        blocks.append(event.number(f"b{len(blocks)}"))
    return tuple(blocks)


def counted(boot: BootEvidence, *names: str, before: str, after: str) -> int:
    """By how much counters of /proc/vmstat grew between two readings, all names together; one that
    the kernel does not print counts nothing.

    Raises:
        MissingInputError, ParseError: a reading is missing or damaged.
    """
    first, second = (_counters(boot, name) for name in (before, after))
    return sum(second.get(name, 0) - first.get(name, 0) for name in names)


def counters_like(boot: BootEvidence, name: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
    """Names of counters in a reading of /proc/vmstat."""
    return tuple(counter for counter in _counters(boot, name) if wanted(counter))


def _counters(boot: BootEvidence, name: str) -> Mapping[str, int]:
    text = boot.text(name).partition("\n\n")[0].rstrip("\n") + "\n"
    return vmstat.parse(text, source=f"{name}.txt").values


def equal(
    claim: str,
    predicted: Number,
    observed: Number,
    unit: str,
    *,
    scope: Scope = _EVERYWHERE,
    working: Iterable[str] = (),
    why: str = "",
) -> Claim:
    """Holds where both are the same."""
    return exact(
        claim,
        scope,
        predicted=predicted,
        observed=observed,
        unit=unit,
        working=working,
        why=why or f"predicted {predicted}, the kernel showed {observed}",
    )


def bounded(
    claim: str,
    bound: int,
    observed: int,
    unit: str,
    *,
    at_least: bool,
    scope: Scope = _EVERYWHERE,
    working: Iterable[str] = (),
) -> Claim:
    """Holds where what was observed is on the right side of the bound, or at it."""
    holds = observed >= bound if at_least else observed <= bound
    sign = "≥" if at_least else "≤"
    return Claim(
        id=claim,
        scope=scope,
        predicted=f"{sign} {bound}",
        observed=observed,
        unit=unit,
        verdict=Verdict.HOLDS if holds else Verdict.FAILS,
        why="" if holds else f"{observed} is not {'at least' if at_least else 'at most'} {bound}",
        working=tuple(working),
    )


def unseen(claim: str, why: str, unit: str, *, scope: Scope = _EVERYWHERE) -> Claim:
    """Fails: the load did not bring about what the stop is there to show."""
    return Claim(
        id=claim, scope=scope, predicted="≥ 1", observed=0, unit=unit,
        verdict=Verdict.FAILS, why=why,
    )  # fmt: skip


def keeps_generations(boot: BootEvidence) -> bool:
    """Whether the kernel's LRU lists are generations; not where it does not say."""
    try:
        return bool(int(boot.file(_LRU_GEN), 0) & 1)
    except MissingInputError:
        return False


def refused(boot: BootEvidence, *probes: str, name: str = "trace") -> str:
    """Why a trace lacks the events of these probes: the kernel refused one. Empty where it did not,
    or where the setup kept nothing (older evidence, whose probes were all set)."""
    if not boot.has(f"{name}-setup.txt"):
        return ""
    for line in boot.text(f"{name}-setup").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "refused" and words[1] in probes:
            return f"this kernel has no function {words[2]} to probe, or not with these arguments"
    return ""


def left_open(claim: str, why: str, unit: str, *, scope: Scope = _EVERYWHERE) -> Claim:
    """Unknown, with the reason."""
    return Claim(
        id=claim, scope=scope, predicted=None, observed=None, unit=unit,
        verdict=Verdict.UNKNOWN, why=why,
    )  # fmt: skip


def zones_of(boot: BootEvidence) -> Zoneinfo:
    """The zones as they were after the settings."""
    return zoneinfo.parse(boot.file("/proc/zoneinfo"), source="/proc/zoneinfo")


def page_bytes_of(boot: BootEvidence) -> int:
    """Bytes of a page: MemTotal is the pages that all zones manage.

    Raises:
        MissingInputError, ParseError: meminfo or zoneinfo is missing or damaged.
    """
    total_kib = meminfo.parse(boot.file("/proc/meminfo"), source="/proc/meminfo").values["MemTotal"]
    return total_kib * 1024 // sum(zone.pages["managed"] for zone in zones_of(boot).zones)


def predicted_watermarks(boot: BootEvidence) -> dict[ZoneKey, Watermarks]:
    """Watermarks of all zones from managed pages and the two sysctls, as a write of one of them
    makes the kernel compute.

    Raises:
        MissingInputError, ParseError: an input is missing or damaged.
    """
    zones = zones_of(boot)
    rules = movable_counts_as_lowmem(parse_release(boot.release))
    return watermarks(
        {(zone.node, zone.zone): zone.pages["managed"] for zone in zones.zones},
        min_free_kbytes=int(boot.file("/proc/sys/vm/min_free_kbytes")),
        watermark_scale_factor=int(boot.file("/proc/sys/vm/watermark_scale_factor")),
        page_size_bytes=page_bytes_of(boot),
        movable_is_lowmem=rules == frozenset({True}),
    )


def watermark_claims(boot: BootEvidence, marks: Mapping[ZoneKey, Watermarks]) -> tuple[Claim, ...]:
    """``watermark``: min, low and high of every zone that has memory."""
    claims = []
    for zone in zones_of(boot).zones:
        if not zone.pages["managed"]:
            continue
        mark = marks[zone.node, zone.zone]
        for name, pages in (
            ("min", mark.min_pages), ("low", mark.low_pages), ("high", mark.high_pages),
        ):  # fmt: skip
            claims.append(
                equal(
                    "watermark", pages, zone.pages[name], "pages",
                    scope={"node": zone.node, "zone": zone.zone, "mark": name},
                    working=(f"from {zone.pages['managed']} managed pages and the two sysctls",),
                )
            )  # fmt: skip
    return tuple(claims)
