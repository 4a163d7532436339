"""compaction/direct: a request for huge pages on memory in shreds."""

from __future__ import annotations

from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_compaction
from analysis.model.compaction_suitable import request_met
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.compaction_checks import (
    SUITABLE,
    SUITS,
    Indexes,
    index_claims,
    read_indexes,
    suitable_claims,
)
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.reclaim_counts import DIRECT_BEGIN, DIRECT_END, telling
from analysis.tour.traced import (
    bounded,
    counted,
    equal,
    events_of,
    free_blocks,
    loss_claim,
    trace_of,
    unseen,
)

TRY = "mm_compaction_try_to_compact_pages"
_DEFERRED = "mm_compaction_deferred"
_MIGRATED = "mm_compaction_migratepages"
_ACTS = ("continue", "success")
_ASKS = ("asks", "asks_it")
_HUGE_ORDER = 9


def direct(evidence: StopEvidence) -> Finding:
    """The judge."""
    boot = evidence.boot()
    trace = trace_of(boot)
    before, after = read_indexes(boot, "indexes-before"), read_indexes(boot, "indexes-after")
    claims = [loss_claim(boot, trace)]
    claims += index_claims(before, "before") + index_claims(after, "after")
    claims += suitable_claims(boot, trace)
    claims += _stall_claims(boot, trace)
    claims += migrated_claims(boot, trace)
    claims += _gain_claims(boot, before)
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="orders", draw=partial(tour_compaction.orders, _rows(before), _rows(after))),
            _listing(trace),
        ),
    )


def _rows(indexes: Indexes) -> dict[str, tuple[int, ...]]:
    return {row.zone: row.free_blocks for row in indexes.blocks}


def _stall_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``stalls``: an attempt counts where some zone was compacted, would have succeeded, or is
    deferred. ``outcomes``: each that counts either got a page or failed."""
    attempts: list[bool] = []
    current: dict[int, int] = {}
    reclaiming: set[int] = set()
    for event in trace.events:
        if event.name == DIRECT_BEGIN:  # reclaim asks too, whether it may leave it to compaction
            reclaiming.add(event.pid)
        elif event.name == DIRECT_END:
            reclaiming.discard(event.pid)
        elif event.name == TRY:
            current[event.pid] = len(attempts)
            attempts.append(False)
        elif event.pid in current and event.pid not in reclaiming and _acts(event):
            attempts[current[event.pid]] = True
    if not attempts:
        return [unseen("stalls", "no request compacted for itself", "attempts")]
    names = ("compact_success", "compact_fail")
    stalls = counted(boot, "compact_stall", before="vmstat-before", after="vmstat-after")
    outcomes = counted(boot, *names, before="vmstat-before", after="vmstat-after")
    return [
        equal(
            "stalls", sum(attempts), stalls, "attempts",
            working=(
                f"{len(attempts)} events {TRY}",
                f"{len(attempts) - sum(attempts)} of them skipped in all zones",
                "observed: compact_stall",
            ),
        ),
        equal("outcomes", stalls, outcomes, "attempts", working=(f"{' + '.join(names)}",)),
    ]  # fmt: skip


def _acts(event: TraceEvent) -> bool:
    """Whether a zone was not skipped: it is compacted, deferred, or has a block by now. Of the
    last, newer releases tell nothing; then the state answers in which they asked."""
    if event.name == SUITABLE:
        return event.fields["ret"] in _ACTS
    if event.name not in _ASKS:
        return event.name == _DEFERRED
    return request_met(
        free_blocks(event), event.number("order"),
        usable_free_pages=event.number("free") - event.number("highatomic"),
        watermark_pages=event.number("mark"),
        lowmem_reserve_pages=event.number(f"reserve{event.number('idx')}"),
    )  # fmt: skip


def migrated_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``migrated``: pages moved, by events and by the counter of all migration."""
    events = events_of(trace, _MIGRATED)
    moved = sum(event.number("nr_migrated") for event in events)
    return [
        equal(
            "migrated", moved,
            counted(boot, "pgmigrate_success", before="vmstat-before", after="vmstat-after"),
            "pages", working=(f"{len(events)} events {_MIGRATED}; observed: pgmigrate_success",),
        )
    ]  # fmt: skip


def _gain_claims(boot: BootEvidence, before: Indexes) -> list[Claim]:
    """``gain``: more huge pages than blocks that were free before can have given."""
    got = int(boot.text("huge"))
    whole = sum(
        blocks << (order - _HUGE_ORDER)
        for row in before.blocks
        for order, blocks in enumerate(row.free_blocks)
        if order >= _HUGE_ORDER
    )
    return [
        bounded(
            "gain", whole + 1, got, "huge pages", at_least=True,
            working=(f"free blocks of order {_HUGE_ORDER} and above held {whole} huge pages",),
        )
    ]  # fmt: skip


def _listing(trace: TraceText) -> Listing:
    """The first attempt that moved pages."""
    begin = next((event for event in trace.events if event.name == TRY), None)
    if begin is None:
        return Listing(id="attempt", text="no attempt\n")
    own = [event for event in trace.events if event.pid == begin.pid]
    lines, marked, isolated = [], [], False
    for event in own[own.index(begin) :]:
        if event.name.startswith("mm_compaction_isolate"):
            if isolated:
                continue
            isolated = True
        lines.append(telling(event, 12 if event.name != SUITS else 22))
        if event.name in (SUITABLE, "mm_compaction_end"):
            marked.append(len(lines))
        if event.name == "mm_compaction_end" or len(lines) == 18:
            break
    return Listing(id="attempt", text="\n".join(lines) + "\n", marked=tuple(marked))
