"""What the stop about merging shows, and about neighbours that stay apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from analysis.compare.claim import Claim, Verdict
from analysis.errors import MissingInputError
from analysis.figures import tour_buddy
from analysis.model.allocator.allocator import Allocator
from analysis.model.freelist import ZoneFreeLists
from analysis.model.neighbours import Pair, buddy_pfn, equal_neighbours, free_buddies, must_merge
from analysis.replay.allocator_state import load_allocator
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.ring_calls import (
    RingCall,
    alone,
    lists_claim,
    number_claim,
    read_calls,
    text_claim,
)
from analysis.tour.ring_claims import (
    blocks_claim,
    calls_listing,
    change_of,
    read_lists,
)
from analysis.tour.traced import unseen

_CMA_RESERVED = re.compile(r"cma: Reserved (\d+) MiB at 0x([0-9a-f]+)")
_CMA_REFUSED = re.compile(r"cma: (Failed to reserve.*)")
_MIB = 1 << 20


def coalescing(evidence: StopEvidence) -> Finding:
    """buddy/coalescing: what is given back merges with its buddy, and only with it."""
    every = read_calls(evidence.boot())
    calls = alone(every)
    drops = [call for call in calls if not call.taken]
    if not drops:
        raise MissingInputError("a call of free_pages")
    claims = [blocks_claim("merged_block", call) for call in drops]
    claims.append(lists_claim("merge_lists", every))
    claims.append(_apart_claim(drops))
    claims += _law("main", every[-1].after)
    cma = evidence.boot("cma")
    other = load_allocator(read_lists(cma))
    claims += _law("cma", other)
    claims.append(_reserved_pair(cma, other))
    largest = max(drops, key=lambda call: len(call.gone))
    exhibits: list[Plate | Listing] = [
        Plate(id="merge", draw=partial(tour_buddy.change, change_of(largest))),
        calls_listing(drops),
    ]
    apart = next((call for call in drops if _stays_apart(call.after, call)), None)
    if apart is not None:
        exhibits.insert(1, Plate(id="apart", draw=partial(tour_buddy.apart, _apart(apart))))
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _apart_claim(drops: Sequence[RingCall]) -> Claim:
    scope = {"calls": len(drops)}
    unit = "frees beside an equal block that is not the buddy"
    apart = [call for call in drops if _stays_apart(call.model_after, call)]
    observed = sum(_stays_apart(call.after, call) for call in drops)
    if not apart and not observed:
        why = "no block came back beside an equal one that is not its buddy"
        return unseen("stays_apart", why, unit, scope=scope)
    working = tuple(_apart_text(call) for call in apart[:4])
    return number_claim("stays_apart", scope, len(apart), observed, unit, working)


def _freed(allocator: Allocator, call: RingCall) -> tuple[int, int, ZoneFreeLists] | None:
    """First page and order of the free block that now holds what a call gave back."""
    assert call.pfn is not None, "a free names its block"
    lists = allocator.zone_of(call.pfn).free
    for order in range(lists.max_order + 1):
        block = lists.block_at(call.pfn & ~((1 << order) - 1))
        if block is not None and block.pfn + (1 << block.order) > call.pfn:
            return block.pfn, block.order, lists
    return None


def _touching(allocator: Allocator, call: RingCall) -> int | None:
    """First page of an equal free neighbour of the block that a free made, which is no buddy."""
    found = _freed(allocator, call)
    if found is None:
        return None
    pfn, order, lists = found
    if order == lists.max_order:
        return None
    for other in (pfn - (1 << order), pfn + (1 << order)):
        block = lists.block_at(other)
        if block is not None and block.order == order and other != buddy_pfn(pfn, order):
            return other
    return None


def _stays_apart(allocator: Allocator, call: RingCall) -> bool:
    return _touching(allocator, call) is not None


def _apart(call: RingCall) -> tour_buddy.Apart:
    found, other = _freed(call.after, call), _touching(call.after, call)
    assert found is not None, "the block is free"
    pfn, order, lists = found
    start = min(pfn, other if other is not None else pfn) & ~((4 << order) - 1)
    end = start + (8 << order)
    return tour_buddy.Apart(
        start=start,
        end=end,
        order=order,
        freed=pfn,
        neighbour=other if other is not None else pfn,
        blocks=tuple(
            (block.pfn, block.order) for block in lists.blocks() if start <= block.pfn < end
        ),
    )


def _apart_text(call: RingCall) -> str:
    found, other = _freed(call.model_after, call), _touching(call.model_after, call)
    assert found is not None, "the block is free"
    assert other is not None, "it has an equal neighbour"
    pfn, order, _ = found
    return (
        f"call {call.number}: {pfn:#x} and {other:#x} of order {order} touch, but "
        f"{pfn:#x} ^ {1 << order:#x} = {buddy_pfn(pfn, order):#x}"
    )


def _law(label: str, allocator: Allocator) -> Iterator[Claim]:
    """No two free buddies that must merge, in any zone; equal neighbours that are none."""
    pairs = [(pair, zone.free) for zone in allocator.zones for pair in free_buddies(zone.free)]
    wrong = [pair for pair, lists in pairs if must_merge(pair, lists, allocator.era)]
    beside = [pair for zone in allocator.zones for pair in equal_neighbours(zone.free)]
    blocks = sum(1 for zone in allocator.zones for _ in zone.free.blocks())
    yield number_claim(
        "no_unmerged_buddies",
        {"boot": label, "free_blocks": blocks, "equal_neighbours": len(beside)},
        0,
        len(wrong),
        "pairs of free buddies that must merge",
        tuple(_pair_text(pair) for pair in beside[:4]),
    )


def _pair_text(pair: Pair) -> str:
    one, other = pair
    return (
        f"{one.pfn:#x} and {other.pfn:#x}, both of order {one.order}, touch; the buddy of "
        f"{one.pfn:#x} is {buddy_pfn(one.pfn, one.order):#x}"
    )


def _reserved_pair(boot: BootEvidence, allocator: Allocator) -> Claim:
    """A CMA pageblock and the movable one that is its buddy, both free: they stay two."""
    snapshot = boot.snapshot()
    scope, unit = {"boot": boot.label}, "free buddies apart"
    dmesg = snapshot.text("dmesg")
    match, refused = _CMA_RESERVED.search(dmesg), _CMA_REFUSED.search(dmesg)
    why = ""
    if snapshot.has("config") and not snapshot.config.on("CMA"):
        why = "the kernel is built without CONFIG_CMA"
    elif match is None and refused is not None:
        why = f"the kernel refuses the area: {refused[1].strip()}"
    if why:
        return Claim(
            id="reserved_pair", scope=scope, predicted=None, observed=None, unit=unit,
            verdict=Verdict.UNKNOWN, why=why, lacking=True,
        )  # fmt: skip
    page = snapshot.page_size_bytes
    pairs = [(pair, zone.free) for zone in allocator.zones for pair in free_buddies(zone.free)]
    observed = " ".join(f"{pair[0].pfn:#x}+{pair[1].pfn:#x}/{pair[0].order}" for pair, _ in pairs)
    edges: set[int] = set()
    used = False
    order = allocator.zones[0].free.pageblock_order
    if match is not None:
        start = int(match[2], 16) // page
        end = start + int(match[1]) * _MIB // page
        for block in range(start, end, 1 << order):
            buddy = buddy_pfn(block, order)
            if not start <= buddy < end:
                if _whole(allocator, block, order) and _whole(allocator, buddy, order):
                    edges.add(min(block, buddy))
                else:
                    used = True
    if not edges and not observed:
        why = "no CMA area" if match is None else "a CMA area without half a pair of pageblocks"
        if used:
            why = "a CMA area whose half pairs of pageblocks are in use"
        return unseen("reserved_pair", f"the kernel reserved {why}", unit, scope=scope)
    predicted = " ".join(f"{pfn:#x}+{pfn + (1 << order):#x}/{order}" for pfn in sorted(edges))
    return text_claim("reserved_pair", scope, predicted or "none", observed or "none", unit)


def _whole(allocator: Allocator, pfn: int, order: int) -> bool:
    """Whether all pages of a range are free, in whatever blocks, those that reach beyond too."""
    try:
        lists = allocator.zone_of(pfn).free
    except ValueError:
        return False
    if not (lists.spans(pfn) and lists.spans(pfn + (1 << order) - 1)):
        return False
    for larger in range(order, lists.max_order + 1):
        block = lists.block_at(pfn & ~((1 << larger) - 1))
        if block is not None and block.order >= larger:
            return True
    free = 0
    for first in range(pfn, pfn + (1 << order)):
        block = lists.block_at(first)
        free += 0 if block is None else 1 << block.order
    return free == 1 << order
