"""What both stops about compaction look at: the kernel's judgement of zones, and its indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.compare.claim import Claim, Verdict
from analysis.errors import MissingInputError, ParseError
from analysis.model.compaction_suitable import (
    Suitable,
    compaction_suitable,
    request_met,
    wanted_free_pages,
)
from analysis.model.eras_compaction import CompactionEra, compaction_eras_of
from analysis.model.fragmentation import extfrag_index_milli, unusable_index_milli
from analysis.model.release import parse_release
from analysis.procfs import buddyinfo, fragindex
from analysis.procfs.buddyinfo import BuddyRow
from analysis.procfs.fragindex import FragRow
from analysis.procfs.trace_text import TraceEvent, TraceText
from analysis.tour.every_era import in_every_era
from analysis.tour.evidence import BootEvidence
from analysis.tour.traced import equal, free_blocks, left_open, refused, unseen

SUITS = "suits"
SUITABLE = "mm_compaction_suitable"
_WMARK_MASK = 3
_ALLOC_CMA = 0x80
"""The flag of a request that may have pages of CMA areas (mm/internal.h of 5.10 and 6.1)."""
_MARKS = ("min", "low", "high")
_ORDER_UNKNOWN = -1
"""Compaction of whole memory: not for a request."""
_NAMES = {"no_suitable_page": "not_suitable_zone"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """Free blocks of all zones, and the indexes that debugfs showed of them."""

    blocks: tuple[BuddyRow, ...]
    extfrag: tuple[FragRow, ...]
    unusable: tuple[FragRow, ...]
    still: bool
    """Free blocks were the same before and after."""


def read_indexes(boot: BootEvidence, name: str) -> Indexes:
    """A reading of buddyinfo, both indexes, and buddyinfo again.

    Raises:
        MissingInputError, ParseError: it is missing or damaged.
    """
    parts = boot.text(name).split("\n\n")
    if len(parts) != 4:
        raise ParseError(
            f"{name}.txt", 0, f"{len(parts)} parts", "four files, an empty line between"
        )
    texts = [f"{part.rstrip(chr(10))}\n" for part in parts]
    first, last = (buddyinfo.parse(texts[at], source=f"{name}.txt (buddyinfo)") for at in (0, 3))
    return Indexes(
        blocks=first,
        extfrag=fragindex.parse(texts[1], source=f"{name}.txt (extfrag_index)"),
        unusable=fragindex.parse(texts[2], source=f"{name}.txt (unusable_index)"),
        still=first == last,
    )


def index_claims(indexes: Indexes, when: str) -> list[Claim]:
    """``extfrag`` and ``unusable``: the indexes of every zone and order, from its free blocks."""
    claims = []
    for claim, rows, rule in (
        ("extfrag", indexes.extfrag, extfrag_index_milli),
        ("unusable", indexes.unusable, unusable_index_milli),
    ):
        shown = {(row.node, row.zone): row.values_milli for row in rows}
        for row in indexes.blocks:
            predicted = [rule(row.free_blocks, order) for order in range(len(row.free_blocks))]
            observed = list(shown.get((row.node, row.zone), ()))
            scope: dict[str, int | str] = {"node": row.node, "zone": row.zone, "when": when}
            if not indexes.still:
                claims.append(
                    Claim(
                        id=claim, scope=scope, predicted=None, observed=_list(observed),
                        unit="thousandths by order", verdict=Verdict.UNKNOWN,
                        why="free blocks changed while they were read",
                    )
                )  # fmt: skip
                continue
            claims.append(
                equal(
                    claim, _list(predicted), _list(observed), "thousandths by order", scope=scope,
                    working=(f"free blocks by order: {_list(row.free_blocks)}",),
                )
            )  # fmt: skip
    return claims


def _list(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def suitable_claims(boot: BootEvidence, trace: TraceText) -> list[Claim]:
    """``suitable``: what the kernel judged each zone to be, from its state at that moment.

    One claim a zone, order and answer, with how often; a judgement that differs is one of its own.
    """
    return in_every_era(
        compaction_eras_of(parse_release(boot.release)),
        lambda era: _suitable_claims(boot, trace, era), boot.release,
    )  # fmt: skip


def _suitable_claims(boot: BootEvidence, trace: TraceText, era: CompactionEra) -> list[Claim]:
    if why := refused(boot, SUITS):
        return [left_open("suitable", why, "COMPACT_")]
    asked: dict[int, TraceEvent] = {}
    answers: Counter[tuple[str, int, str, str]] = Counter()
    open_ones: Counter[tuple[str, int]] = Counter()
    working: dict[tuple[str, int, str, str], tuple[str, ...]] = {}
    for event in trace.events:
        if event.name == SUITS:
            asked[event.pid] = event
        elif event.name == SUITABLE and event.pid in asked:
            state = asked.pop(event.pid)
            if state.fields["zone"] != event.fields["zone"] or state.number("order") < 0:
                continue
            predicted, lines = _judgement(boot, state, era)
            if predicted is None:
                open_ones[event.fields["zone"], event.number("order")] += 1
                continue
            shown = _NAMES.get(event.fields["ret"], event.fields["ret"])
            key = (event.fields["zone"], event.number("order"), predicted.value, shown)
            answers[key] += 1
            working.setdefault(key, lines)
    if not answers and not open_ones:
        return [unseen("suitable", "the kernel never asked whether to compact", "judgements")]
    return [
        equal(
            "suitable", predicted, shown, "COMPACT_",
            scope={"zone": zone, "order": order, "times": times}, working=working[key],
        )
        for key, times in sorted(answers.items())
        for zone, order, predicted, shown in (key,)
    ] + [
        left_open(
            "suitable",
            "whether the large free blocks are of a CMA area, which this request may not have",
            "COMPACT_", scope={"zone": zone, "order": order, "times": times},
        )
        for (zone, order), times in sorted(open_ones.items())
    ]  # fmt: skip


def _judgement(
    boot: BootEvidence, state: TraceEvent, era: CompactionEra
) -> tuple[Suitable | None, tuple[str, ...]]:
    """What the model says of a zone's state, and how; None where its state leaves it open."""
    order, free = state.number("order"), state.number("free") - state.number("highatomic")
    blocks = free_blocks(state)
    if f"reserve{state.fields['idx']}" not in state.fields:
        raise ParseError("trace.txt", 0, f"idx={state.fields['idx']}", "the index of a zone")
    reserve = state.number(f"reserve{state.fields['idx']}")
    boost = state.number("boost")
    marks = {name: state.number(name) + boost for name in _MARKS}
    asked = _asked(state, marks)
    if asked is None and era.watermark_from_caller:
        raise MissingInputError("the watermark that compaction_suitable() was asked about")
    wanted = wanted_free_pages(
        order, min_pages=marks["min"], low_pages=marks["low"], watermark_pages=asked or 0, era=era
    )
    lines = (
        f"{state.fields['zone']}: {free} free pages, wanted {wanted} + reserve {reserve}",
        f"free blocks by order: {_list(blocks)}",
        f"extfrag index for order {order}: {extfrag_index_milli(blocks, order)}",
    )
    if "flags" in state.fields:
        may_have = "cma" not in state.fields or state.number("flags") & _ALLOC_CMA
        cma = 0 if may_have else state.number("cma")
        if request_met(
            blocks, order, usable_free_pages=free - cma, watermark_pages=asked or 0,
            lowmem_reserve_pages=reserve,
        ):  # fmt: skip
            large = sum(count << at for at, count in enumerate(blocks) if at >= order)
            return None if 1 << order <= cma and large <= cma else Suitable.SUCCESS, lines
    verdict = compaction_suitable(
        blocks, order, usable_free_pages=free, wanted_pages=wanted, lowmem_reserve_pages=reserve,
        extfrag_threshold_milli=int(boot.file("/proc/sys/vm/extfrag_threshold")),
    )  # fmt: skip
    return verdict, lines


def _asked(state: TraceEvent, marks: dict[str, int]) -> int | None:
    """The watermark of the request: given itself, by its flags (then the kernel answers
    COMPACT_SUCCESS here where it is met), or not at all; boost included.

    Raises:
        ParseError: the flags name no watermark.
    """
    if "watermark" in state.fields:
        return state.number("watermark")
    if "flags" not in state.fields:
        return None
    place = state.number("flags") & _WMARK_MASK
    if place >= len(_MARKS):
        raise ParseError("trace.txt", 0, f"flags={state.fields['flags']}", "flags of a request")
    return marks[_MARKS[place]]
