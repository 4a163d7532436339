"""reclaim/kswapd: when the daemon wakes and rests, by watermarks worked out beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_reclaim
from analysis.model.reclaim import ZoneFree
from analysis.model.watermark import Watermarks, ZoneKey
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.reclaim_counts import (
    HIGHEST_ZONE,
    ISOLATE,
    NODE,
    SHRINK,
    SLEEP,
    WAKE,
    round_claims,
    steal_claims,
    telling,
    unusable,
)
from analysis.tour.reclaim_wake import WANTS, wake_claims
from analysis.tour.traced import (
    bounded,
    each_boot,
    events_of,
    left_open,
    loss_claim,
    predicted_watermarks,
    refused,
    trace_of,
    unseen,
    watermark_claims,
    zones_of,
)

_THRESHOLD = "kswapd_threshold"
_NOT_TOLD = ("tick", SHRINK, ISOLATE)


def kswapd(evidence: StopEvidence) -> Finding:
    """The judge; the same on every boot."""
    boot = evidence.boot()
    trace = trace_of(boot)
    marks = predicted_watermarks(boot)
    return Finding(
        claims=each_boot(evidence, _claims),
        exhibits=(
            Plate(
                id="saw",
                draw=partial(
                    tour_reclaim.free_pages, free_samples(trace, main_zone(marks)),
                    mark_lines(marks, main_zone(marks)), kswapd_spans(trace), (),
                ),
            ),
            _listing(trace),
        ),
    )  # fmt: skip


def _claims(boot: BootEvidence) -> list[Claim]:
    trace = trace_of(boot)
    marks = predicted_watermarks(boot)
    claims = [loss_claim(boot, trace), *watermark_claims(boot, marks)]
    claims += wake_claims(boot, trace, marks)
    claims += _sleep_claims(boot, trace, marks)
    claims += round_claims(boot, trace)
    return claims + steal_claims(boot, trace)


def main_zone(marks: Mapping[ZoneKey, Watermarks]) -> str:
    """The zone that holds most of the memory: the one with the highest watermark."""
    return max(marks, key=lambda key: marks[key].high_pages)[1]


def _sleep_claims(
    boot: BootEvidence, trace: TraceText, marks: Mapping[ZoneKey, Watermarks]
) -> list[Claim]:
    """``sleep``: each time kswapd goes to sleep, some zone is above high."""
    if why := refused(boot, _THRESHOLD):
        return [left_open("sleep", why, "free pages")]
    zones = [zone.zone for zone in zones_of(boot).zones if zone.node == NODE]
    claims = []
    for number, (sleep, state) in enumerate(_sleeps(trace), 1):
        checks = {
            zone: ZoneFree(
                free_pages=state.number(f"free_{zone}"),
                mark_pages=marks[NODE, zone].high_pages,
                reserve_pages=state.number(f"reserve{HIGHEST_ZONE}_{zone}"),
                unusable_pages=unusable(state, f"_{zone}"),
                boost_pages=state.number(f"boost_{zone}"),
            )
            for zone in zones
            if f"free_{zone}" in state.fields
        }
        if not checks:
            why = "no zone of the node was noted down as kswapd went to sleep"
            return [left_open("sleep", why, "free pages")]
        best = max(checks, key=lambda zone: checks[zone].margin_pages)
        check = checks[best]
        floor = check.mark_pages + check.reserve_pages + check.unusable_pages + check.boost_pages
        claims.append(
            bounded(
                "sleep", floor + 1, check.free_pages, "free pages", at_least=True,
                scope={"node": NODE, "zone": best, "sleep": number},
                working=(
                    f"high = {check.mark_pages} computed, reserve {check.reserve_pages}",
                    *(f"{zone}: {each.free_pages} free, {each.margin_pages:+d} against high"
                      for zone, each in checks.items()),
                    f"at {sleep.time_s:.6f} s",
                ),
            )
        )  # fmt: skip
    return claims or [unseen("sleep", "kswapd never went to sleep", "sleeps")]


def _sleeps(trace: TraceText) -> list[tuple[TraceEvent, TraceEvent]]:
    """Each sleep, and the state of the zones right behind it: kswapd widens the thresholds of the
    counters before it goes."""
    found = []
    waiting: TraceEvent | None = None
    for event in trace.events:
        if event.name == SLEEP:
            waiting = event
        elif event.name == _THRESHOLD and waiting is not None:
            found.append((waiting, event))
            waiting = None
    return found


def free_samples(trace: TraceText, zone: str) -> tuple[tuple[float, int], ...]:
    """(seconds from the first, free pages of a zone) at every tick."""
    ticks = events_of(trace, "tick")
    begin_s = ticks[0].time_s if ticks else 0.0
    return tuple((tick.time_s - begin_s, tick.number(f"free_{zone}")) for tick in ticks)


def mark_lines(marks: Mapping[ZoneKey, Watermarks], zone: str) -> dict[str, int]:
    """The computed watermarks of a zone by name."""
    mark = marks[NODE, zone]
    return {"high": mark.high_pages, "low": mark.low_pages, "min": mark.min_pages}


def kswapd_spans(trace: TraceText) -> tuple[tuple[float, float], ...]:
    """From when to when kswapd was awake, in seconds from the first tick."""
    ticks = events_of(trace, "tick")
    begin_s = ticks[0].time_s if ticks else 0.0
    spans: list[tuple[float, float]] = []
    since: float | None = None
    for event in events_of(trace, WAKE, SLEEP):
        if event.name == WAKE and since is None:
            since = event.time_s - begin_s
        elif event.name == SLEEP and since is not None:
            spans.append((since, event.time_s - begin_s))
            since = None
    return tuple(spans)


def _listing(trace: TraceText) -> Listing:
    """The first round: who wanted kswapd, its waking, its sleep."""
    lines: list[str] = []
    marked: list[int] = []
    seen: set[str] = set()
    for event in trace.events:
        if event.name in _NOT_TOLD or (event.name in seen and event.name != _THRESHOLD):
            continue
        seen.add(event.name)
        lines.append(telling(event))
        if event.name in (WANTS, SLEEP) or (event.name == _THRESHOLD and SLEEP in seen):
            marked.append(len(lines))
        if event.name == _THRESHOLD and SLEEP in seen:
            break
    return Listing(id="round", text="\n".join(lines) + "\n", marked=tuple(marked))
