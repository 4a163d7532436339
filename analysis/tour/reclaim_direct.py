"""reclaim/direct: demand that outruns kswapd reclaims for itself, and only below min."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_reclaim
from analysis.model.compaction_suitable import PAGE_ALLOC_COSTLY_ORDER, ZoneState, compaction_ready
from analysis.model.eras_compaction import CompactionEra, compaction_eras_of
from analysis.model.reclaim import SWAP_CLUSTER_MAX, ZoneFree
from analysis.model.release import parse_release
from analysis.model.watermark import Watermarks, ZoneKey
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.every_era import in_every_era
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.reclaim_counts import (
    DIRECT_BEGIN,
    DIRECT_END,
    HIGHEST_ZONE,
    NODE,
    SHRINK,
    behind_kswapd,
    round_claims,
    steal_claims,
    telling,
    unusable,
)
from analysis.tour.reclaim_kswapd import free_samples, kswapd_spans, main_zone, mark_lines
from analysis.tour.traced import (
    bounded,
    equal,
    events_of,
    free_blocks,
    left_open,
    loss_claim,
    predicted_watermarks,
    refused,
    trace_of,
    unseen,
    watermark_claims,
)

_STALLS = "stalls"
_ASKS = ("asks", "suits")


def direct(evidence: StopEvidence) -> Finding:
    """The judge."""
    boot = evidence.boot()
    trace = trace_of(boot)
    marks = predicted_watermarks(boot)
    claims = [loss_claim(boot, trace), *watermark_claims(boot, marks)]
    claims += _below_min(boot, trace, marks)
    claims += amount_claims(boot, trace)
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


def _below_min(
    boot: BootEvidence, trace: TraceText, marks: Mapping[ZoneKey, Watermarks]
) -> list[Claim]:
    """``below-min``: when a request begins to reclaim, no zone has more than min to give.

    The state is that of where the request begins to count as stalled, right behind the attempt
    that failed: from there to the event the task may give up its CPU, and kswapd free pages.
    """
    if why := refused(boot, _STALLS):
        return [left_open("below-min", why, "free pages")]
    zones = [zone for node, zone in marks if node == NODE]
    worst: dict[str, ZoneFree] = {}
    requests = 0
    stalled: dict[int, TraceEvent] = {}
    behind = behind_kswapd(trace)
    for place, event in enumerate(trace.events):
        if event.name == _STALLS:
            stalled.pop(event.pid, None)
            if place not in behind:
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
                mark_pages=marks[NODE, zone].min_pages,
                reserve_pages=state.number(f"reserve{HIGHEST_ZONE}_{zone}"),
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
            at_least=False, scope={"node": NODE, "zone": zone, "requests": requests},
            working=(
                f"min = {check.mark_pages} computed, reserve {check.reserve_pages}",
                f"the most free pages that count at the begin of {requests} direct reclaims",
            ),
        )
        for zone, check in worst.items()
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reclaim:
    """One direct reclaim, from its begin to its end."""

    order: int
    shrunk: int
    """Pages taken off the lists."""
    reclaimed: int
    """What it returned."""
    asked: tuple[TraceEvent, ...]
    """Zones whose watermark was asked about meanwhile, for this request."""

    @property
    def costly(self) -> bool:
        return self.order > PAGE_ALLOC_COSTLY_ORDER


def _reclaims(trace: TraceText) -> list[_Reclaim]:
    begun: dict[int, tuple[TraceEvent, list[TraceEvent]]] = {}
    found = []
    for event in trace.events:
        if event.name == DIRECT_BEGIN:
            begun[event.pid] = (event, [])
        elif event.name in (SHRINK, *_ASKS) and event.pid in begun:
            begun[event.pid][1].append(event)
        elif event.name == DIRECT_END and event.pid in begun:
            begin, between = begun.pop(event.pid)
            found.append(
                _Reclaim(
                    order=begin.number("order"),
                    shrunk=sum(
                        each.number("nr_reclaimed") for each in between if each.name == SHRINK
                    ),
                    reclaimed=event.number("nr_reclaimed"),
                    asked=tuple(each for each in between if each.name in _ASKS),
                )
            )
    return found


def amount_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``enough`` and ``ready``; and ``sum``: what is returned is what was taken off the lists, but
    1 where nothing was, since compaction can do without: or the caller would think of OOM."""
    reclaims = _reclaims(trace)
    if not reclaims:
        return []
    return in_every_era(
        compaction_eras_of(parse_release(boot.release)),
        lambda era: _amounts(boot, trace, reclaims, era), boot.release,
    )  # fmt: skip


def _amounts(
    boot: BootEvidence, trace: TraceText, reclaims: list[_Reclaim], era: CompactionEra
) -> list[Claim]:
    claims = _enough(boot, reclaims, era)
    shrunk = sum(
        event.number("nr_reclaimed")
        for event in events_of(trace, SHRINK)
        if not event.task.startswith("kswapd")
    )
    idle = [each for each in reclaims if each.costly and not each.shrunk]
    if idle and (why := refused(boot, *_ASKS)):
        return [*claims, left_open("sum", why, "pages")]
    spared = sum(any(_ready(boot, event, era) for event in each.asked) for each in idle)
    returned = sum(each.reclaimed for each in reclaims)
    working = [f"{shrunk} pages off the LRU lists in {SHRINK}"]
    if spared:
        working.append(f"{spared} reclaims had nothing to do, and return 1")
    working.append(f"{returned} returned by try_to_free_pages()")
    return [*claims, equal("sum", shrunk + spared, returned, "pages", working=working)]


def _enough(boot: BootEvidence, reclaims: list[_Reclaim], era: CompactionEra) -> list[Claim]:
    """``enough``: each reclaims until it has SWAP_CLUSTER_MAX pages. ``ready``: for a costly order
    it may stop short of them where compaction can go on in some zone."""
    claims = []
    small = [each.reclaimed for each in reclaims if not each.costly]
    if small:
        claims.append(
            bounded(
                "enough", SWAP_CLUSTER_MAX, min(small), "pages", at_least=True,
                scope={"reclaims": len(small)},
                working=(f"{len(small)} events {DIRECT_END}, the least nr_reclaimed",),
            )
        )  # fmt: skip
    costly = [each for each in reclaims if each.costly]
    if not costly:
        return claims
    scope = {"reclaims": len(costly)}
    if why := refused(boot, *_ASKS):
        return [*claims, left_open("ready", why, "reclaims", scope=scope)]
    short = [each for each in costly if each.reclaimed < SWAP_CLUSTER_MAX]
    unready = [each for each in short if not any(_ready(boot, event, era) for event in each.asked)]
    claims.append(
        equal(
            "ready", 0, len(unready), "reclaims that gave up", scope=scope,
            working=(
                f"of order {PAGE_ALLOC_COSTLY_ORDER + 1} and above: {len(costly)}",
                f"fewer than {SWAP_CLUSTER_MAX} pages: {len(short)}",
                *(f"order {each.order}: {each.reclaimed} pages" for each in unready[:5]),
            ),
        )
    )  # fmt: skip
    return claims


def _ready(boot: BootEvidence, state: TraceEvent, era: CompactionEra) -> bool:
    boost = state.number("boost")
    zone = ZoneState(
        free_blocks=free_blocks(state),
        free_pages=state.number("free") - state.number("highatomic"),
        cma_pages=int(state.fields.get("cma", "0")),
        min_pages=state.number("min") + boost,
        low_pages=state.number("low") + boost,
        high_pages=state.number("high") + boost,
        lowmem_reserve_pages=state.number(f"reserve{state.number('idx')}"),
    )
    return compaction_ready(
        zone, state.number("order"), era=era,
        extfrag_threshold_milli=int(boot.file("/proc/sys/vm/extfrag_threshold")),
    )  # fmt: skip


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
