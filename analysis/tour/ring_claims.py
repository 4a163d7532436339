"""Claims and exhibits that several stops about single calls share."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.bundle import MemorySample, load_memory_sample
from analysis.compare.claim import Claim
from analysis.figures import tour_buddy
from analysis.tour.evidence import BootEvidence
from analysis.tour.finding import Listing
from analysis.tour.ring_calls import (
    RingCall,
    block_text,
    text_claim,
)


def taken_claim(call: RingCall) -> Claim:
    return text_claim(
        "block_taken",
        call.scope,
        pfn_text(call.model_pfn),
        pfn_text(call.pfn),
        "first page of the block",
    )


def pfn_text(pfn: int | None) -> str:
    """A page frame number, or that there is none."""
    return "none" if pfn is None else f"{pfn:#x}"


def blocks_claim(claim_id: str, call: RingCall) -> Claim:
    """Blocks that left the lists, and those that came, by the model and on the kernel's lists."""
    return text_claim(
        claim_id,
        call.scope,
        f"{block_text(call.model_gone)} → {block_text(call.model_new)}",
        f"{block_text(call.gone)} → {block_text(call.new)}",
        "free blocks that go and come (first page/order)",
    )


def calls_listing(calls: Sequence[RingCall]) -> Listing:
    """What each call changed, the last ones where there are many."""
    rows = [
        f"{call.number:3} {call.step:11} pfn {pfn_text(call.pfn):8} "
        f"- {block_text(call.gone)}  + {block_text(call.new)}"
        for call in calls
    ]
    return Listing(id="calls", text="\n".join(rows[-24:]))


def change_of(call: RingCall) -> tour_buddy.Change:
    """A call, to be drawn."""
    return tour_buddy.Change(
        step=call.step,
        gone=tuple((block.pfn, block.order) for _, block in call.gone),
        new=tuple((block.pfn, block.order) for _, block in call.new),
        pfn=call.pfn or 0,
        order=call.order,
        taken=call.taken,
    )


def read_lists(boot: BootEvidence) -> MemorySample:
    """The sample of a boot that took one.

    Raises:
        RecordError: it is missing or damaged.
    """
    return load_memory_sample(boot.path / "lists.npz")
