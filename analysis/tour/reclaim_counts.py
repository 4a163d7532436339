"""What the stops about kswapd and direct reclaim share: events, and what counters say of them."""

from __future__ import annotations

from analysis.compare.claim import Claim
from analysis.model.reclaim import KswapdRounds
from analysis.model.release import Release, parse_release
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.evidence import BootEvidence
from analysis.tour.traced import (
    counted,
    counters_like,
    equal,
    events_of,
    keeps_generations,
    left_open,
)

SLEEP = "mm_vmscan_kswapd_sleep"
WAKE = "mm_vmscan_kswapd_wake"
SHRINK = "mm_vmscan_lru_shrink_inactive"
ISOLATE = "mm_vmscan_lru_isolate"
DIRECT_BEGIN = "mm_vmscan_direct_reclaim_begin"
DIRECT_END = "mm_vmscan_direct_reclaim_end"
NODE = 0
HIGHEST_ZONE = 2
"""ZONE_NORMAL: what requests for the page cache of a block device may come down from."""
_GENERATIONS_TRACED = Release(6, 12)
"""The oldest of the releases compared that traces what it isolates from lists of generations."""


def unusable(event: TraceEvent, suffix: str = "") -> int:
    """Free pages that neither kswapd nor a request for unmovable memory counts: those reserved for
    high-order atomic requests, and those of CMA areas."""
    return event.number(f"highatomic{suffix}") + int(event.fields.get(f"cma{suffix}", "0"))


def behind_kswapd(trace: TraceText) -> frozenset[int]:
    """Places of events before which kswapd ran since their task was last seen, ticks included.

    What such an event notes down need not be what its task saw: where kernel code can be preempted,
    a task may find too little, lose the CPU to the kswapd that others woke, and only then tell.
    """
    seen: dict[int, int] = {}
    ran = -1
    places = []
    for place, event in enumerate(trace.events):
        if event.task.startswith("kswapd"):
            ran = place
        elif ran > seen.get(event.pid, -1):
            places.append(place)
        seen[event.pid] = place
    return frozenset(places)


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
    """``scanned`` and ``stolen`` by kswapd and by others, ``stalls``: events against counters.

    Lists of generations count as scanned what is isolated. A batch's shrinking tells of all folios
    that were looked at, sorted away ones included, and once more of those that are tried again.
    """
    generations = keeps_generations(boot)
    claims = []
    for who in ("kswapd", "direct"):
        for claim, name, field, counter in (
            ("scanned", ISOLATE if generations else SHRINK,
             "nr_taken" if generations else "nr_scanned", f"pgscan_{who}"),
            ("stolen", SHRINK, "nr_reclaimed", f"pgsteal_{who}"),
        ):  # fmt: skip
            if generations and parse_release(boot.release) < _GENERATIONS_TRACED:
                why = "how this release traces lists of generations was not compared"
                claims.append(left_open(claim, why, "pages", scope={"by": who}))
                continue
            events = [
                event for event in events_of(trace, name)
                if event.task.startswith("kswapd") == (who == "kswapd")
            ]  # fmt: skip
            claims.append(
                equal(
                    claim, sum(event.number(field) for event in events),
                    counted(boot, counter, before="vmstat-before", after="vmstat-after"), "pages",
                    scope={"by": who},
                    working=(f"{field} of {len(events)} events {name}; observed: {counter}",),
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


def telling(event: TraceEvent, most: int = 10) -> str:
    """An event on one line, with its fields that are not 0; of the reserves the one that counts."""
    fields = [
        f"{name}={value}"
        for name, value in event.fields.items()
        if value not in ("0", "none")
        and (not name.startswith("reserve") or name.startswith(f"reserve{HIGHEST_ZONE}"))
    ]
    more = " …" if len(fields) > most else ""
    head = f"{event.time_s:.6f} {event.task}-{event.pid} {event.name}"
    return f"{head}: {' '.join(fields[:most])}{more}".rstrip(": ") if fields else head
