"""Single calls of the page allocator: what the model makes of the state before, and what was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.bundle import load_memory_sample
from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.rule import exact
from analysis.errors import MissingInputError
from analysis.model.allocator.allocator import Allocator, Request
from analysis.model.allocator.gfp import gfp_migratetype
from analysis.model.allocator.zone import Extfrag
from analysis.model.freelist import FreeBlock, Migratetype
from analysis.replay.allocator_state import Comparison, compare_allocator, load_allocator
from analysis.tour.evidence import BootEvidence
from analysis.tour.ring_events import RingEvent, between, ring_events

_TAKE = "get_page_from_freelist"
ZoneBlock = tuple[int, FreeBlock]
"""A free block with the number of its zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingCall:
    """One call, the model's outcome and the kernel's."""

    number: int
    step: str
    taken: bool
    order: int
    migratetype: Migratetype
    pfn: int | None
    """The block that the kernel gave, or was given."""
    model_pfn: int | None
    """The block that the model gave."""
    extfrags: tuple[Extfrag, ...]
    """Where the model had to take from other types: what the kernel tells of it. More than one
    where a per-cpu list is filled."""
    events: tuple[RingEvent, ...] | None
    """What the kernel traced meanwhile; None where that is not known."""
    model_gone: tuple[ZoneBlock, ...]
    model_new: tuple[ZoneBlock, ...]
    """Free blocks that went and came by the model; the same of the kernel's lists:"""
    gone: tuple[ZoneBlock, ...]
    new: tuple[ZoneBlock, ...]
    comparison: Comparison
    before: Allocator
    """The kernel's state."""
    after: Allocator
    """The kernel's state."""
    model_after: Allocator

    @property
    def scope(self) -> Scope:
        return {"call": self.number, "step": self.step}

    @property
    def fallback(self) -> FreeBlock | None:
        """What the model took from another type last."""
        return self.extfrags[-1].found if self.extfrags else None

    @property
    def disturbed(self) -> str:
        """Who else was at the allocator between the two readings; empty where nobody was."""
        return next((who for event in self.events or () if (who := event.disturbs)), "")


def read_calls(boot: BootEvidence) -> tuple[RingCall, ...]:
    """All calls of a boot.

    Raises:
        MissingInputError, ParseError: they were not kept, or not all that was traced meanwhile.
        BundleError: a sample did not pass its own checks.
        RecordError: a sample cannot be read.
    """
    events = ring_events(boot)
    return tuple(
        _ring_call(boot.path, number, row, events)
        for number, row in enumerate(boot.json("calls"), 1)
    )


def alone(calls: Sequence[RingCall]) -> tuple[RingCall, ...]:
    """The calls during which nobody else was at the allocator: what happened then was theirs.

    A kernel that can be preempted may give the CPU away in the midst of a call, to kswapd that
    drains per-cpu lists and frees pages, say; what lies between the two readings is then not the
    outcome of one request.

    Raises:
        MissingInputError: there is none.
    """
    found = tuple(call for call in calls if not call.disturbed)
    if not found:
        raise MissingInputError("a call during which nobody else was at the allocator")
    return found


def _ring_call(
    path: Path, number: int, row: dict[str, Any], events: Sequence[RingEvent] | None
) -> RingCall:
    before_sample = load_memory_sample(path / row["before"])
    after_sample = load_memory_sample(path / row["after"])
    before, after, model = (
        load_allocator(before_sample),
        load_allocator(after_sample),
        load_allocator(before_sample),
    )
    taken = row["function"] == _TAKE
    first, order, *flags = row["arguments"]
    cpu, node = (int(before_sample.cpus[0][name]) for name in ("cpu", "node"))
    model_pfn, migratetype = None, Migratetype.UNMOVABLE
    for zone in model.zones:
        zone.fallbacks = []
    if taken:
        migratetype = gfp_migratetype(first)
        request = Request(
            cpu=cpu,
            node=node,
            order=order,
            gfp=first,
            migratetype=migratetype,
            alloc_flags=flags[0],
        )
        choice = model.allocate(request)
        if choice is not None:
            model_pfn = choice.pfn
    else:
        model.free(cpu, row["pfn"], order)
    comparison = compare_allocator(model, after_sample)
    for allocator in (before, model, after):
        for zone in allocator.zones:
            zone.movable.clear()  # a number for every movable page, and nobody asks again
    old, mine, theirs = (frozenset(_blocks(one)) for one in (before, model, after))
    return RingCall(
        number=number,
        step=row["step"],
        taken=taken,
        order=order,
        migratetype=migratetype,
        pfn=row["pfn"],
        model_pfn=model_pfn,
        extfrags=tuple(fallback for zone in model.zones for fallback in zone.fallbacks or ()),
        events=(
            None
            if events is None
            else between(
                events, before_sample.meta["trace_counter"], after_sample.meta["trace_counter"]
            )
        ),
        model_gone=_sorted(old - mine),
        model_new=_sorted(mine - old),
        gone=_sorted(old - theirs),
        new=_sorted(theirs - old),
        comparison=comparison,
        before=before,
        after=after,
        model_after=model,
    )


def _blocks(allocator: Allocator) -> Iterator[ZoneBlock]:
    for zone in allocator.zones:
        for block in zone.free.blocks():
            yield zone.number, block


def _sorted(blocks: frozenset[ZoneBlock]) -> tuple[ZoneBlock, ...]:
    return tuple(sorted(blocks, key=lambda item: (item[1].pfn, item[1].order)))


def lists_claim(claim_id: str, calls: Sequence[RingCall]) -> Claim:
    """Behind every call each free list and per-cpu list is the model's, in order, and so are the
    counters and the types of all pageblocks. Calls that were disturbed are left out."""
    disturbed = [call for call in calls if call.disturbed]
    calls = alone(calls)
    lists = sum(call.comparison.lists for call in calls)
    wrong = [call for call in calls if _differences(call)]
    differing = sum(len(call.comparison.differing) for call in calls)
    why = "" if not wrong else f"first call {wrong[0].number}: {_differences(wrong[0])}"
    return Claim(
        id=claim_id,
        scope={"calls": len(calls)},
        predicted=lists,
        observed=lists - differing,
        unit="lists in order",
        verdict=Verdict.FAILS if wrong else Verdict.HOLDS,
        why=why,
        working=(
            (
                "each call: the state read before it, the model's rules, the state read behind it; "
                "free lists and per-cpu lists in order, counters, types of pageblocks"
            ),
            *_left_out(disturbed),
        ),
    )


def _left_out(disturbed: Sequence[RingCall]) -> tuple[str, ...]:
    if not disturbed:
        return ()
    who = ", ".join(f"call {call.number}: {call.disturbed}" for call in disturbed[:4])
    return (
        f"{len(disturbed)} calls more are left out: others were at the allocator meanwhile ({who})",
    )


def _differences(call: RingCall) -> str:
    comparison = call.comparison
    parts = [
        f"{one.where}: model {_hex(one.model)}, kernel {_hex(one.kernel)}"
        for one in comparison.differing[:2]
    ]
    return "; ".join([*parts, *comparison.counters_differing[:2]])


def _hex(pfns: Sequence[int]) -> str:
    return " ".join(f"{pfn:#x}" for pfn in pfns[:6]) or "empty"


def block_text(blocks: Sequence[ZoneBlock]) -> str:
    """``0x1f980/5 0x1f9c0/6``: first page and order of each."""
    return " ".join(f"{block.pfn:#x}/{block.order}" for _, block in blocks) or "none"


def text_claim(claim_id: str, scope: Scope, predicted: str, observed: str, unit: str) -> Claim:
    """Two texts that must be equal."""
    return exact(
        claim_id,
        scope,
        predicted=predicted,
        observed=observed,
        unit=unit,
        why="the kernel did otherwise",
    )


def number_claim(
    claim_id: str,
    scope: Scope,
    predicted: int,
    observed: int,
    unit: str,
    working: tuple[str, ...] = (),
) -> Claim:
    """Two numbers that must be equal."""
    return exact(
        claim_id,
        scope,
        predicted=predicted,
        observed=observed,
        unit=unit,
        why=f"{observed - predicted:+} {unit}",
        working=working,
    )
