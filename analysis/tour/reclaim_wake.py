"""Who wakes kswapd: requests that found too little, or no block of the size that they wanted."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.compare.claim import Claim
from analysis.model.compaction_suitable import request_met
from analysis.model.reclaim import ZoneFree
from analysis.model.watermark import Watermarks, ZoneKey
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.evidence import BootEvidence
from analysis.tour.reclaim_counts import DIRECT_BEGIN, DIRECT_END, NODE, behind_kswapd, unusable
from analysis.tour.traced import bounded, equal, free_blocks, left_open, refused, unseen

WANTS = "wants_kswapd"


def wake_claims(
    boot: BootEvidence, trace: TraceText, marks: Mapping[ZoneKey, Watermarks]
) -> list[Claim]:
    """``wake``: whoever wants kswapd has found the zone at or below low. ``wake-block``: who wants
    a block of pages may instead have found none of that size."""
    if why := refused(boot, WANTS):
        return [left_open("wake", why, "free pages")]
    wants, behind = _first_wants(trace)
    if behind and not wants:
        why = f"kswapd ran right before each of {behind} calls: what those saw was not noted down"
        return [left_open("wake", why, "free pages")]
    claims = _single_wakes([event for event in wants if event.number("order") == 0], marks)
    claims += _block_wakes([event for event in wants if event.number("order") > 0], marks)
    why = "no request wanted kswapd: the load was too small"
    return claims or [unseen("wake", why, "wake-ups")]


def _at_low(event: TraceEvent, marks: Mapping[ZoneKey, Watermarks]) -> ZoneFree:
    """The zone's state against low."""
    return ZoneFree(
        free_pages=event.number("free"),
        mark_pages=marks[NODE, event.fields["zone"]].low_pages,
        reserve_pages=event.number(f"reserve{event.number('idx')}"),
        unusable_pages=unusable(event),
        boost_pages=event.number("boost"),
        order=event.number("order"),
    )


def _single_wakes(wants: list[TraceEvent], marks: Mapping[ZoneKey, Watermarks]) -> list[Claim]:
    claims = []
    for zone in sorted({event.fields["zone"] for event in wants}):
        low = marks[NODE, zone].low_pages
        checks = [_at_low(event, marks) for event in wants if event.fields["zone"] == zone]
        most = max(check.margin_pages for check in checks)
        claims.append(
            bounded(
                "wake", low, low + most, "free pages", at_least=False,
                scope={"node": NODE, "zone": zone, "requests": len(checks)},
                working=(
                    f"low = {low} pages, computed",
                    f"{len(checks)} calls of wakeup_kswapd(): free pages that count, the most",
                ),
            )
        )  # fmt: skip
    return claims


def _block_wakes(wants: list[TraceEvent], marks: Mapping[ZoneKey, Watermarks]) -> list[Claim]:
    """A file system that reads into large folios asks for blocks, and for single pages only where
    it gets none."""
    claims = []
    for zone, order in sorted({(event.fields["zone"], event.number("order")) for event in wants}):
        asked = [
            event for event in wants
            if event.fields["zone"] == zone and event.number("order") == order
        ]  # fmt: skip
        scope: dict[str, int | str] = {
            "node": NODE, "zone": zone, "order": order, "requests": len(asked),
        }  # fmt: skip
        short = [event for event in asked if _at_low(event, marks).margin_pages <= 0]
        blocks = [event for event in asked if event not in short and free_blocks(event)]
        if len(short) + len(blocks) < len(asked):
            why = "the free blocks of the zone were not noted down"
            claims.append(left_open("wake-block", why, "requests", scope=scope))
            continue
        served = [event for event in blocks if _served(event, marks)]
        if any(unusable(event) for event in served):
            why = "free blocks are not told apart from those of CMA areas and high-atomic reserves"
            claims.append(left_open("wake-block", why, "requests", scope=scope))
            continue
        claims.append(
            equal(
                "wake-block", 0, len(served), "requests that the zone could serve", scope=scope,
                working=(
                    f"low = {marks[NODE, zone].low_pages} pages, computed",
                    f"{len(short)} requests found the zone at or below low",
                    f"{len(blocks)} more than that, but no free block of order {order}",
                ),
            )
        )  # fmt: skip
    return claims


def _served(event: TraceEvent, marks: Mapping[ZoneKey, Watermarks]) -> bool:
    check = _at_low(event, marks)
    return request_met(
        free_blocks(event), check.order,
        usable_free_pages=check.free_pages - check.unusable_pages,
        watermark_pages=check.mark_pages + check.boost_pages,
        lowmem_reserve_pages=check.reserve_pages,
    )  # fmt: skip


def _first_wants(trace: TraceText) -> tuple[list[TraceEvent], int]:
    """Calls of wakeup_kswapd() that follow a failed attempt: not those by which a request that has
    reclaimed for itself keeps kswapd awake. And how many are not told of, since kswapd ran between
    the attempt and the call, or may have."""
    behind = behind_kswapd(trace)
    last: dict[int, str] = {}
    found = []
    left_out = 0
    for place, event in enumerate(trace.events):
        if event.name == WANTS and last.get(event.pid) != DIRECT_END:
            if place in behind:
                left_out += 1
            else:
                found.append(event)
        if event.name in (WANTS, DIRECT_BEGIN, DIRECT_END):
            last[event.pid] = event.name
    return found, left_out
