"""compaction/kcompactd: woken for a request, and by itself where a node is fragmented enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from analysis.compare.claim import Claim
from analysis.figures import tour_compaction
from analysis.figures.tour_compaction import Score
from analysis.model.eras_compaction import CompactionEra, compaction_eras_of
from analysis.model.proactive_compaction import (
    ScoredZone,
    begins_proactively,
    extfrag_for_order,
    fragmentation_score_node,
    score_marks,
)
from analysis.model.release import parse_release
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.compaction_checks import index_claims, read_indexes, suitable_claims
from analysis.tour.compaction_direct import migrated_claims
from analysis.tour.every_era import in_every_era
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.reclaim_counts import telling
from analysis.tour.traced import (
    counted,
    equal,
    events_of,
    free_blocks,
    left_open,
    loss_claim,
    page_bytes_of,
    refused,
    trace_of,
    unseen,
    zones_of,
)

_SCORED = "scored"
_PROACTIVE = "proactive"
_SLEEP = "mm_compaction_kcompactd_sleep"
_WAKE = "mm_compaction_kcompactd_wake"
_WOKEN = "mm_compaction_wakeup_kcompactd"
_FINISHED = "mm_compaction_finished"
_SUITS = "suits"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What kcompactd did between two sleeps."""

    events: list[TraceEvent] = field(default_factory=list)

    def decision(self, populated: frozenset[str]) -> tuple[TraceEvent, ...]:
        """The scores of the zones by which it decided; empty where it decided nothing. Newer
        releases leave out zones without memory, which count nothing either way."""
        first: dict[str, TraceEvent] = {}
        for event in self.events:
            if event.name == _SCORED:
                if event.fields["zone"] in first:
                    break
                first[event.fields["zone"]] = event
        return tuple(first.values()) if populated <= first.keys() else ()

    @property
    def began(self) -> bool:
        return any(_begins(event) for event in self.events)


def _begins(event: TraceEvent) -> bool:
    """Whether it begins by itself; the function for whole nodes is also called for others."""
    return event.name == _PROACTIVE and event.fields.get("proactive") != "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    present_pages: dict[str, int]
    """By zone, all of them."""
    huge_order: int
    era: CompactionEra

    @property
    def populated(self) -> frozenset[str]:
        return frozenset(zone for zone, pages in self.present_pages.items() if pages)

    def score(self, events: tuple[TraceEvent, ...]) -> int:
        """The score of the node from its zones' free blocks."""
        zones = [
            ScoredZone(
                free_blocks=free_blocks(event),
                present_pages=self.present_pages[event.fields["zone"]],
            )
            for event in events
        ]
        return fragmentation_score_node(zones, self.huge_order)


def kcompactd(evidence: StopEvidence) -> Finding:
    """The judge."""
    boot = evidence.boot()
    trace = trace_of(boot)
    eras = compaction_eras_of(parse_release(boot.release))
    nodes = [_node(boot, era) for era in eras]
    node = nodes[0]
    rounds = _rounds(trace)
    claims = [loss_claim(boot, trace)]
    claims += index_claims(read_indexes(boot, "indexes-before"), "before")
    claims += index_claims(read_indexes(boot, "indexes-after"), "after")
    claims += suitable_claims(boot, trace)
    claims += _demand_claims(boot, trace, node)
    claims += in_every_era(
        nodes,
        lambda each: _begin_claims(boot, rounds, each) + _end_claims(boot, trace, each),
        boot.release,
    )
    claims += migrated_claims(boot, trace)
    exhibits: list[Plate | Listing] = []
    scores = _scores(rounds, node)
    if all(_scores(rounds, each) == scores for each in nodes):
        exhibits.append(Plate(id="scores", draw=partial(tour_compaction.scores, scores)))
    return Finding(claims=tuple(claims), exhibits=(*exhibits, _listing(rounds, node)))


def _node(boot: BootEvidence, era: CompactionEra) -> _Node:
    huge_bytes = int(boot.file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"))
    return _Node(
        present_pages={zone.zone: zone.pages["present"] for zone in zones_of(boot).zones},
        huge_order=(huge_bytes // page_bytes_of(boot)).bit_length() - 1,
        era=era,
    )


def _rounds(trace: TraceText) -> list[_Round]:
    """kcompactd's rounds; the last one, which may be under way, is left out."""
    rounds = [_Round()]
    for event in trace.events:
        if not event.task.startswith("kcompactd"):
            continue
        if event.name == _SLEEP:
            rounds.append(_Round())
        else:
            rounds[-1].events.append(event)
    return rounds[:-1]


def _demand_claims(boot: BootEvidence, trace: TraceText, node: _Node) -> list[Claim]:
    """``woken``: its wakings by events and by the counter. ``order``: for what it is woken."""
    wakes = events_of(trace, _WAKE)
    if not wakes:
        return [unseen("woken", "no request had kcompactd woken", "wakings")]
    return [
        equal(
            "woken", len(wakes),
            counted(boot, "compact_daemon_wake", before="vmstat-before", after="vmstat-after"),
            "wakings", working=(f"events {_WAKE}; observed: compact_daemon_wake",),
        ),
        equal(
            "order", node.huge_order, max(event.number("order") for event in wakes), "order",
            working=("the order of a huge page; observed: the highest that it was woken for",),
        ),
    ]  # fmt: skip


def _begin_claims(boot: BootEvidence, rounds: list[_Round], node: _Node) -> list[Claim]:
    """``begin``: whether kcompactd begins by itself, at each look. One claim a value of the sysctl
    and answer, with how often."""
    if why := refused(boot, _SCORED, _PROACTIVE):
        return [left_open("begin", why, "kcompactd")]
    answers: dict[tuple[int, bool, bool], list[int]] = {}
    for each in rounds:
        decision = each.decision(node.populated)
        if not decision:
            continue
        value, score = decision[0].number("proactiveness"), node.score(decision)
        key = (value, begins_proactively(score, value, node.era), each.began)
        answers.setdefault(key, []).append(score)
    seen = {began for _, _, began in answers}
    if seen != {True, False}:
        why = "kcompactd was to look on both sides of the mark"
        return [unseen("begin", why, "looks")]
    claims = []
    for (value, predicted, began), scores in sorted(answers.items()):
        marks = score_marks(value, node.era)
        claims.append(
            equal(
                "begin", _word(predicted), _word(began), "kcompactd",
                scope={"compaction_proactiveness": value, "looks": len(scores)},
                working=(
                    f"marks {marks.low} and {marks.high}",
                    f"scores of the node: {' '.join(map(str, scores))}",
                ),
            )
        )  # fmt: skip
    return claims


def _word(begins: bool) -> str:
    return "begins" if begins else "does not begin"


def _end_claims(boot: BootEvidence, trace: TraceText, node: _Node) -> list[Claim]:
    """``end``: after each pageblock kcompactd goes on while the zone's score is above the low
    mark."""
    if why := refused(boot, _SCORED):
        return [left_open("end", why, "looks judged otherwise")]
    scored: TraceEvent | None = None
    wrong: list[str] = []
    looks = {"continue": 0, "success": 0}
    for event in trace.events:
        if not event.task.startswith("kcompactd"):
            continue
        if event.name == _FINISHED and scored is not None:
            marks = score_marks(scored.number("proactiveness"), node.era)
            score = extfrag_for_order(free_blocks(scored), node.huge_order)
            predicted = "continue" if score > marks.low else "success"
            if event.fields["ret"] in looks:
                looks[event.fields["ret"]] += 1
            if event.fields["ret"] != predicted:
                wrong.append(f"{scored.fields['zone']} {score} at low {marks.low}: {event.fields}")
        scored = event if event.name == _SCORED else None
    if not looks["continue"] or not looks["success"]:
        why = f"it was to go on and to end: {looks}"
        return [unseen("end", why, "looks")]
    return [
        equal(
            "end", 0, len(wrong), "looks judged otherwise", scope={"looks": sum(looks.values())},
            working=(f"continue {looks['continue']}, success {looks['success']}", *wrong[:5]),
        )
    ]  # fmt: skip


def _scores(rounds: list[_Round], node: _Node) -> list[Score]:
    found = []
    begin_s: float | None = None
    for each in rounds:
        decision = each.decision(node.populated)
        if not decision:
            continue
        begin_s = decision[0].time_s if begin_s is None else begin_s
        value = decision[0].number("proactiveness")
        marks = score_marks(value, node.era)
        found.append(
            Score(
                second=decision[0].time_s - begin_s, score=node.score(decision), low=marks.low,
                high=marks.high, proactiveness=value, began=each.began,
            )
        )  # fmt: skip
    return found


def _listing(rounds: list[_Round], node: _Node) -> Listing:
    """The last look at which it did not begin, and the first at which it did."""
    lines: list[str] = []
    marked: list[int] = []
    first = next((at for at, each in enumerate(rounds) if each.began), None)
    if first is None:
        return Listing(id="looks", text="it never began\n")
    for each in rounds[max(0, first - 1) : first + 1]:
        for event in each.events[: 2 * len(node.present_pages) + 4]:
            if event.name == _SCORED and node.present_pages[event.fields["zone"]] == 0:
                continue
            lines.append(telling(event, 15))
            if _begins(event):
                marked.append(len(lines))
    return Listing(id="looks", text="\n".join(lines[:25]) + "\n", marked=tuple(marked))
