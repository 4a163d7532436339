"""What the stop about migratetypes shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

from analysis.compare.claim import Claim
from analysis.figures import tour_buddy
from analysis.model.allocator.allocator import Allocator
from analysis.model.allocator.zone import Extfrag
from analysis.model.freelist import ZoneFreeLists
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding, Listing, Plate
from analysis.tour.ring_calls import (
    RingCall,
    alone,
    lists_claim,
    read_calls,
    text_claim,
)
from analysis.tour.ring_claims import (
    taken_claim,
)
from analysis.tour.traced import bounded, unseen

_EXTFRAG = re.compile(
    r"mm_page_alloc_extfrag: page=\S+ pfn=0x([0-9a-f]+) alloc_order=(\d+) fallback_order=(\d+) "
    r"pageblock_order=\d+ alloc_migratetype=(\d+) fallback_migratetype=(\d+) "
    r"fragmenting=\d+ change_ownership=(\d)"
)


def migratetypes(evidence: StopEvidence) -> Finding:
    """buddy/migratetypes: unmovable requests that find none of their own, and what they take."""
    boot = evidence.boot()
    every = read_calls(boot)
    calls = alone(every)
    stolen = [call for call in calls if call.extfrags]
    claims = [taken_claim(call) for call in stolen]
    claims += [
        text_claim(
            "pageblock_type",
            call.scope,
            _types_at(call.model_after, call),
            _types_at(call.after, call),
            "type of the pageblock",
        )
        for call in stolen
    ]
    claims.append(lists_claim("steal_lists", every))
    told = _told(boot, calls)
    claims += _extfrag_claims(_in_turn(boot, calls))
    claims += (_way_claim(_told(boot, every), owned) for owned in (True, False))
    exhibits: list[Exhibit] = []
    if stolen:
        telling = _steal(max(stolen, key=lambda call: len(call.gone)))
        exhibits.append(Plate(id="steal", draw=partial(tour_buddy.steal, telling)))
    if told:
        text = "\n".join(_short(line) for line in told[:12])
        exhibits.append(Listing(id="extfrag", text=text))
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _told(boot: BootEvidence, calls: Sequence[RingCall]) -> list[str]:
    """The tracepoint's lines about these calls; where it is not known which are, of their order."""
    if any(call.events is None for call in calls):
        orders = {call.order for call in calls}
        lines = boot.text("trace").splitlines()
        return [line for line in lines if (m := _EXTFRAG.search(line)) and int(m[2]) in orders]
    return [
        event.line for call in calls for event in call.events or () if _EXTFRAG.search(event.line)
    ]


def _in_turn(boot: BootEvidence, calls: Sequence[RingCall]) -> list[tuple[str, str]]:
    """What model and kernel tell of each fallback: call by call where it is known which lines are
    a call's, else in the order of all. A side that has fewer says none for the others."""
    parts = [calls] if any(call.events is None for call in calls) else [(call,) for call in calls]
    return [
        pair
        for part in parts
        for pair in zip_longest(
            (_extfrag_of(fallback) for call in part for fallback in call.extfrags),
            map(_extfrag_line, _told(boot, part)),
            fillvalue="none",
        )
    ]


def _extfrag_claims(pairs: Sequence[tuple[str, str]]) -> list[Claim]:
    """One for each fallback."""
    rule_id, unit = "extfrag", "trace event"
    if not pairs:
        return [unseen(rule_id, "every request found a block of its own type", unit, scope={})]
    return [
        text_claim(rule_id, {"fallback": number}, model, kernel, unit)
        for number, (model, kernel) in enumerate(pairs, 1)
    ]


def _way_claim(told: Sequence[str], owned: bool) -> Claim:
    """That the kernel stole in this way at all: with the pageblock, or the block alone."""
    scope = {"taken": "the pageblock" if owned else "the block alone"}
    count = sum(_extfrag_line(line).endswith(f" owned {owned:d}") for line in told)
    if not count:
        why = f"no request took {scope['taken']}"
        return unseen("both_ways", why, "fallbacks", scope=scope)
    return bounded("both_ways", 1, count, "fallbacks", at_least=True, scope=scope)


def _types_at(allocator: Allocator, call: RingCall) -> str:
    assert call.fallback is not None, "asked of calls that fell back"
    lists = allocator.zone_of(call.fallback.pfn).free
    count = max(1, 1 << call.fallback.order >> lists.pageblock_order)
    names = [
        lists.pageblock_migratetype(call.fallback.pfn + (at << lists.pageblock_order)).name
        for at in range(count)
    ]
    return " ".join(names)


def _extfrag_of(told: Extfrag) -> str:
    return (
        f"{told.pfn:#x} order {told.order} from {told.found.order} type {int(told.borrower)} from "
        f"{int(told.found.migratetype)} owned {told.owned:d}"
    )


def _extfrag_line(line: str) -> str:
    match = _EXTFRAG.search(line)
    assert match is not None, "only such lines are asked for"
    pfn, order, larger, kind, other, owned = match.groups()
    return f"0x{pfn} order {order} from {larger} type {kind} from {other} owned {owned}"


def _short(line: str) -> str:
    return re.sub(r"page=\S+ ", "", line[line.index("mm_page_alloc_extfrag") :])


def _steal(call: RingCall) -> tour_buddy.Steal:
    block = call.fallback
    assert block is not None, "a stop in which nothing falls back shows no picture"
    lists = call.before.zone_of(block.pfn).free
    after = call.after.zone_of(block.pfn).free
    size = max(1 << lists.pageblock_order, 1 << block.order)
    start = block.pfn & ~(size - 1)

    def row(of: ZoneFreeLists) -> tuple[tuple[int, int, str], ...]:
        return tuple(
            (one.pfn, one.order, one.migratetype.name)
            for one in of.blocks()
            if start <= one.pfn < start + size
        )

    return tour_buddy.Steal(
        start=start,
        end=start + size,
        pfn=call.pfn or 0,
        order=call.order,
        before=row(lists),
        after=row(after),
        types=(lists.pageblock_migratetype(block.pfn).name,
               after.pageblock_migratetype(block.pfn).name),
    )  # fmt: skip
