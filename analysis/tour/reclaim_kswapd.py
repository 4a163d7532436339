"""reclaim/kswapd: when the daemon wakes and rests, by watermarks worked out beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_reclaim
from analysis.model.reclaim import KswapdRounds, ZoneFree
from analysis.model.watermark import Watermarks, ZoneKey
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.traced import (
    bounded,
    counted,
    counters_like,
    each_boot,
    equal,
    events_of,
    loss_claim,
    predicted_watermarks,
    trace_of,
    unseen,
    watermark_claims,
    zones_of,
)

SLEEP = "mm_vmscan_kswapd_sleep"
WAKE = "mm_vmscan_kswapd_wake"
WANTS = "wants_kswapd"
THRESHOLD = "kswapd_threshold"
SHRINK = "mm_vmscan_lru_shrink_inactive"
DIRECT_BEGIN = "mm_vmscan_direct_reclaim_begin"
DIRECT_END = "mm_vmscan_direct_reclaim_end"
_NODE = 0
_HIGHEST_ZONE = 2
"""ZONE_NORMAL: what requests for the page cache of a block device may come down from."""


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
    claims += _wake_claims(trace, marks)
    claims += _sleep_claims(boot, trace, marks)
    claims += round_claims(boot, trace)
    return claims + steal_claims(boot, trace)


def unusable(event: TraceEvent, suffix: str = "") -> int:
    """Free pages that neither kswapd nor a request for unmovable memory counts: those reserved for
    high-order atomic requests, and those of CMA areas."""
    return event.number(f"highatomic{suffix}") + int(event.fields.get(f"cma{suffix}", "0"))


def main_zone(marks: Mapping[ZoneKey, Watermarks]) -> str:
    """The zone that holds most of the memory: the one with the highest watermark."""
    return max(marks, key=lambda key: marks[key].high_pages)[1]


def _wake_claims(trace: TraceText, marks: Mapping[ZoneKey, Watermarks]) -> list[Claim]:
    """``wake``: whoever wants kswapd has found the zone at or below low."""
    wants = [event for event in _first_wants(trace) if event.number("order") == 0]
    if not wants:
        return [unseen("wake", "no request wanted kswapd: the load was too small", "wake-ups")]
    claims = []
    for zone in sorted({event.fields["zone"] for event in wants}):
        low = marks[_NODE, zone].low_pages
        checks = [
            ZoneFree(
                free_pages=event.number("free"),
                mark_pages=low,
                reserve_pages=event.number(f"reserve{event.number('idx')}"),
                unusable_pages=unusable(event),
                boost_pages=event.number("boost"),
            )
            for event in wants
            if event.fields["zone"] == zone
        ]
        most = max(check.margin_pages for check in checks)
        claims.append(
            bounded(
                "wake", low, low + most, "free pages", at_least=False,
                scope={"node": _NODE, "zone": zone, "requests": len(checks)},
                working=(
                    f"low = {low} pages, computed",
                    f"{len(checks)} calls of wakeup_kswapd(): free pages that count, the most",
                ),
            )
        )  # fmt: skip
    return claims


def _first_wants(trace: TraceText) -> list[TraceEvent]:
    """Calls of wakeup_kswapd() that follow a failed attempt: not those by which a request that has
    reclaimed for itself keeps kswapd awake."""
    last: dict[int, str] = {}
    found = []
    for event in trace.events:
        if event.name == WANTS and last.get(event.pid) != DIRECT_END:
            found.append(event)
        if event.name in (WANTS, DIRECT_BEGIN, DIRECT_END):
            last[event.pid] = event.name
    return found


def _sleep_claims(
    boot: BootEvidence, trace: TraceText, marks: Mapping[ZoneKey, Watermarks]
) -> list[Claim]:
    """``sleep``: each time kswapd goes to sleep, some zone is above high."""
    zones = [zone.zone for zone in zones_of(boot).zones if zone.node == _NODE]
    claims = []
    for number, (sleep, state) in enumerate(_sleeps(trace), 1):
        checks = {
            zone: ZoneFree(
                free_pages=state.number(f"free_{zone}"),
                mark_pages=marks[_NODE, zone].high_pages,
                reserve_pages=state.number(f"reserve{_HIGHEST_ZONE}_{zone}"),
                unusable_pages=unusable(state, f"_{zone}"),
                boost_pages=state.number(f"boost_{zone}"),
            )
            for zone in zones
            if f"free_{zone}" in state.fields
        }
        best = max(checks, key=lambda zone: checks[zone].margin_pages)
        check = checks[best]
        floor = check.mark_pages + check.reserve_pages + check.unusable_pages + check.boost_pages
        claims.append(
            bounded(
                "sleep", floor + 1, check.free_pages, "free pages", at_least=True,
                scope={"node": _NODE, "zone": best, "sleep": number},
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
        elif event.name == THRESHOLD and waiting is not None:
            found.append((waiting, event))
            waiting = None
    return found


def round_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``rounds`` and ``ends``: kswapd's rounds by events and by counters."""
    wakes, sleeps = len(events_of(trace, WAKE)), len(events_of(trace, SLEEP))
    low = counted(
        boot, "kswapd_low_wmark_hit_quickly", before="vmstat-before", after="vmstat-after"
    )
    high = counted(
        boot, "kswapd_high_wmark_hit_quickly", before="vmstat-before", after="vmstat-after"
    )
    rounds = KswapdRounds(begun=wakes, slept=sleeps, low_hit_quickly=low, high_hit_quickly=high)
    return [
        equal(
            "rounds", wakes,
            counted(boot, "pageoutrun", before="vmstat-before", after="vmstat-after"), "rounds",
            working=(f"{wakes} events {WAKE}; observed: pageoutrun",),
        ),
        equal(
            "ends", wakes, rounds.ended, "rounds",
            working=(f"slept {sleeps}, woken again at once {low}, not balanced for long {high}",),
        ),
    ]  # fmt: skip


def steal_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``scanned`` and ``stolen`` by kswapd and by others, ``stalls``: events against counters."""
    claims = []
    for who in ("kswapd", "direct"):
        shrinks = [
            event for event in events_of(trace, SHRINK) if (_is_kswapd(event)) == (who == "kswapd")
        ]
        for claim, field, counter in (
            ("scanned", "nr_scanned", f"pgscan_{who}"),
            ("stolen", "nr_reclaimed", f"pgsteal_{who}"),
        ):
            claims.append(
                equal(
                    claim, sum(event.number(field) for event in shrinks),
                    counted(boot, counter, before="vmstat-before", after="vmstat-after"), "pages",
                    scope={"by": who},
                    working=(f"{len(shrinks)} events {SHRINK}; observed: {counter}",),
                )
            )  # fmt: skip
    stalls = counters_like(boot, "vmstat-before", lambda name: name.startswith("allocstall"))
    claims.append(
        equal(
            "stalls", len(events_of(trace, DIRECT_BEGIN)),
            counted(boot, *stalls, before="vmstat-before", after="vmstat-after"), "stalls",
            working=(f"events {DIRECT_BEGIN}; observed: {' + '.join(stalls)}",),
        )
    )  # fmt: skip
    return claims


def _is_kswapd(event: TraceEvent) -> bool:
    return event.task.startswith("kswapd")


def free_samples(trace: TraceText, zone: str) -> tuple[tuple[float, int], ...]:
    """(seconds from the first, free pages of a zone) at every tick."""
    ticks = events_of(trace, "tick")
    begin_s = ticks[0].time_s if ticks else 0.0
    return tuple((tick.time_s - begin_s, tick.number(f"free_{zone}")) for tick in ticks)


def mark_lines(marks: Mapping[ZoneKey, Watermarks], zone: str) -> dict[str, int]:
    """The computed watermarks of a zone by name."""
    mark = marks[_NODE, zone]
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
        if (event.name in seen and event.name != THRESHOLD) or event.name in ("tick", SHRINK):
            continue
        seen.add(event.name)
        lines.append(telling(event))
        if event.name in (WANTS, SLEEP) or (event.name == THRESHOLD and SLEEP in seen):
            marked.append(len(lines))
        if event.name == THRESHOLD and SLEEP in seen:
            break
    return Listing(id="round", text="\n".join(lines) + "\n", marked=tuple(marked))


def telling(event: TraceEvent, most: int = 10) -> str:
    """An event on one line, with its fields that are not 0; of the reserves the one that counts."""
    fields = [
        f"{name}={value}"
        for name, value in event.fields.items()
        if value not in ("0", "none")
        and (not name.startswith("reserve") or name.startswith(f"reserve{_HIGHEST_ZONE}"))
    ]
    more = " …" if len(fields) > most else ""
    head = f"{event.time_s:.6f} {event.task}-{event.pid} {event.name}"
    return f"{head}: {' '.join(fields[:most])}{more}".rstrip(": ") if fields else head
