"""reclaim/direct: demand that outruns kswapd reclaims for itself, and only below min."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_reclaim
from analysis.model.reclaim import SWAP_CLUSTER_MAX, ZoneFree
from analysis.model.watermark import Watermarks, ZoneKey
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.reclaim_kswapd import (
    DIRECT_BEGIN,
    DIRECT_END,
    SHRINK,
    free_samples,
    kswapd_spans,
    main_zone,
    mark_lines,
    round_claims,
    steal_claims,
    telling,
    unusable,
)
from analysis.tour.traced import (
    bounded,
    equal,
    events_of,
    loss_claim,
    predicted_watermarks,
    trace_of,
    unseen,
    watermark_claims,
)

_STALLS = "stalls"
_NODE = 0
_HIGHEST_ZONE = 2
"""ZONE_NORMAL, as for reclaim/kswapd."""


def direct(evidence: StopEvidence) -> Finding:
    """The judge."""
    boot = evidence.boot()
    trace = trace_of(boot)
    marks = predicted_watermarks(boot)
    claims = [loss_claim(boot, trace), *watermark_claims(boot, marks)]
    claims += _below_min(trace, marks)
    claims += _amounts(trace)
    claims += steal_claims(boot, trace)
    claims += round_claims(boot, trace)
    exhibits: list[Plate | Listing] = [
        Plate(
            id="stalls",
            draw=partial(
                tour_reclaim.free_pages, free_samples(trace, main_zone(marks)),
                mark_lines(marks, main_zone(marks)), kswapd_spans(trace), _episodes(trace),
            ),
        )
    ]  # fmt: skip
    if lines := _one(trace):
        exhibits.append(Listing(id="episode", text="\n".join(lines) + "\n", marked=(1, len(lines))))
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _below_min(trace: TraceText, marks: Mapping[ZoneKey, Watermarks]) -> list[Claim]:
    """``below-min``: when a request begins to reclaim, no zone has more than min to give.

    The state is that of where the request begins to count as stalled, right behind the attempt
    that failed: from there to the event the task may give up its CPU, and kswapd free pages.
    """
    zones = [zone for node, zone in marks if node == _NODE]
    worst: dict[str, ZoneFree] = {}
    requests = 0
    stalled: dict[int, TraceEvent] = {}
    for event in trace.events:
        if event.name == _STALLS:
            stalled[event.pid] = event
        if event.name != DIRECT_BEGIN or event.number("order") or event.pid not in stalled:
            continue
        requests += 1
        state = stalled.pop(event.pid)
        for zone in zones:
            if f"free_{zone}" not in state.fields:
                continue
            check = ZoneFree(
                free_pages=state.number(f"free_{zone}"),
                mark_pages=marks[_NODE, zone].min_pages,
                reserve_pages=state.number(f"reserve{_HIGHEST_ZONE}_{zone}"),
                unusable_pages=unusable(state, f"_{zone}"),
                boost_pages=state.number(f"boost_{zone}"),
            )
            if zone not in worst or check.margin_pages > worst[zone].margin_pages:
                worst[zone] = check
    if not requests:
        why = "no request had to reclaim for itself: kswapd kept up with the load"
        return [unseen("below-min", why, "direct reclaims")]
    return [
        bounded(
            "below-min", check.mark_pages + check.reserve_pages,
            check.mark_pages + check.reserve_pages + check.margin_pages, "free pages",
            at_least=False, scope={"node": _NODE, "zone": zone, "requests": requests},
            working=(
                f"min = {check.mark_pages} computed, reserve {check.reserve_pages}",
                f"the most free pages that count at the begin of {requests} direct reclaims",
            ),
        )
        for zone, check in worst.items()
    ]  # fmt: skip


def _amounts(trace: TraceText) -> list[Claim]:
    """``enough``: each reclaims until it has SWAP_CLUSTER_MAX pages. ``sum``: what is returned is
    what was taken off the lists."""
    ends = [event.number("nr_reclaimed") for event in events_of(trace, DIRECT_END)]
    if not ends:
        return []
    shrunk = sum(
        event.number("nr_reclaimed")
        for event in events_of(trace, SHRINK)
        if not event.task.startswith("kswapd")
    )
    return [
        bounded(
            "enough", SWAP_CLUSTER_MAX, min(ends), "pages", at_least=True,
            scope={"reclaims": len(ends)},
            working=(f"{len(ends)} events {DIRECT_END}, the least nr_reclaimed",),
        ),
        equal(
            "sum", shrunk, sum(ends), "pages",
            working=(
                f"{shrunk} pages off the LRU lists in {SHRINK}",
                f"{sum(ends)} returned by try_to_free_pages()",
            ),
        ),
    ]  # fmt: skip


def _episodes(trace: TraceText) -> tuple[tuple[float, int], ...]:
    ticks = events_of(trace, "tick")
    begin_s = ticks[0].time_s if ticks else 0.0
    return tuple(
        (event.time_s - begin_s, event.number("nr_reclaimed"))
        for event in events_of(trace, DIRECT_END)
    )


def _one(trace: TraceText) -> list[str]:
    """The first direct reclaim from its stall to its end."""
    begin = next(iter(events_of(trace, DIRECT_BEGIN)), None)
    if begin is None:
        return []
    own = [event for event in trace.events if event.pid == begin.pid]
    first = own.index(begin)
    stalls = [event for event in own[:first] if event.name == _STALLS]
    lines = [telling(event, 14) for event in stalls[-1:]]
    for event in own[first : first + 20]:
        if event.name == "tick":
            continue
        lines.append(telling(event))
        if event.name == DIRECT_END:
            break
    return lines
