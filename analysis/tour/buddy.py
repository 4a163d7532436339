"""What the stops about the buddy allocator, from its first page on, show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from analysis.bundle import MemorySample, load_memory_sample
from analysis.compare.claim import Claim
from analysis.compare.static.handover.inputs import (
    boot_memory,
    given,
    reserved_at_handover,
    zones,
)
from analysis.compare.static.handover.memory_line import deferred_pages
from analysis.figures import tour_buddy
from analysis.model.allocator.allocator import Allocator
from analysis.model.eras import era_of
from analysis.model.freelist import ZoneFreeLists
from analysis.model.handover.first_lists import first_lists
from analysis.model.neighbours import Pair, equal_neighbours, free_buddies, must_merge
from analysis.replay.allocator_state import load_allocator, migratetypes_of
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.ring_calls import (
    RingCall,
    block_text,
    lists_claim,
    number_claim,
    read_calls,
    text_claim,
)

_EXTFRAG = re.compile(
    r"mm_page_alloc_extfrag: page=\S+ pfn=0x([0-9a-f]+) alloc_order=(\d+) fallback_order=(\d+) "
    r"pageblock_order=\d+ alloc_migratetype=(\d+) fallback_migratetype=(\d+) "
    r"fragmenting=\d+ change_ownership=(\d)"
)
_CMA_RESERVED = re.compile(r"cma: Reserved (\d+) MiB at 0x([0-9a-f]+)")
_DUMP_LINES = 14
_MIB = 1 << 20


def handover(evidence: StopEvidence) -> Finding:
    """buddy/handover: memblock's log makes the first free lists, every block in order."""
    boot = evidence.boot()
    snapshot, sample = boot.snapshot(), _sample(boot)
    reserved = reserved_at_handover(snapshot)
    memory, ranges = boot_memory(snapshot), given(snapshot, reserved)
    deferred = deferred_pages(snapshot)
    layouts = {(zone.node, zone.zone): zone for zone in zones(snapshot)}
    types = migratetypes_of(sample)
    claims: list[Claim] = []
    rows: list[tour_buddy.ZoneMap] = []
    for row in sample.zones:
        node, name = int(row["node"]), row["name"].decode()
        zone = layouts[node, name]
        model = first_lists(
            zone,
            memory,
            ranges,
            deferred,
            max_order=sample.meta["max_order"],
            pageblock_order=sample.meta["pageblock_order"],
            era=era_of(snapshot.release),
        )
        scope = {"node": node, "zone": name}
        mine = sample.blocks[sample.blocks["zone"] == row["zone"]]
        kernel = {
            (order, kind): tuple(listed["pfn"][listed["position"].argsort()].tolist())
            for order in range(sample.meta["max_order"] + 1)
            for number, kind in enumerate(types)
            for listed in [mine[(mine["order"] == order) & (mine["migratetype"] == number)]]
        }
        predicted = {key: model.pfns(*key) for key in kernel}
        equal = sum(len(predicted[key]) for key in kernel if predicted[key] == kernel[key])
        claims.append(
            number_claim(
                "handover_pages", scope, model.free_pages, int(row["nr_free_pages"]), "free pages"
            )
        )
        claims.append(
            number_claim(
                "handover_blocks",
                scope,
                max(sum(map(len, predicted.values())), sum(map(len, kernel.values()))),
                equal,
                "blocks in list order",
                (
                    f"reserved: {reserved.source}; {len(reserved.regions)} regions",
                    f"deferred from page {deferred.get(node, 0):#x}" if node in deferred else "",
                ),
            )
        )
        rows.append(
            tour_buddy.ZoneMap(
                name=f"node{node} {name}",
                start=zone.span.start,
                end=zone.span.end,
                blocks=tuple((int(b["pfn"]), int(b["order"])) for b in mine),
                deferred=deferred.get(node),
            )
        )
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="first_lists", draw=partial(tour_buddy.handover, rows)),
            _dump_listing(boot),
        ),
    )


def splitting(evidence: StopEvidence) -> Finding:
    """buddy/splitting: one request, one block taken, its upper halves put back."""
    calls = read_calls(evidence.boot())
    claims: list[Claim] = []
    for call in calls:
        claims.append(_taken_claim(call))
        claims.append(_blocks_claim("split_rest", call))
    claims.append(lists_claim("split_lists", calls))
    deepest = max(calls, key=lambda call: len(call.new))
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="split", draw=partial(tour_buddy.change, _change(deepest))),
            _calls_listing(calls),
        ),
    )


def coalescing(evidence: StopEvidence) -> Finding:
    """buddy/coalescing: what is given back merges with its buddy, and only with it."""
    calls = read_calls(evidence.boot())
    drops = [call for call in calls if not call.taken]
    claims = [_blocks_claim("merged_block", call) for call in drops]
    claims.append(lists_claim("merge_lists", calls))
    apart = [call for call in drops if _stays_apart(call.model_after, call)]
    claims.append(
        number_claim(
            "stays_apart",
            {"calls": len(drops)},
            len(apart),
            sum(_stays_apart(call.after, call) for call in drops),
            "frees beside an equal block that is not the buddy",
            tuple(_apart_text(call) for call in apart[:4]),
        )
    )
    claims += _law("main", calls[-1].after)
    cma = evidence.boot("cma")
    other = load_allocator(_sample(cma))
    claims += _law("cma", other)
    claims.append(_reserved_pair(cma, other))
    largest = max(drops, key=lambda call: len(call.gone))
    exhibits: list[Plate | Listing] = [
        Plate(id="merge", draw=partial(tour_buddy.change, _change(largest))),
        _calls_listing(drops),
    ]
    if apart:
        exhibits.insert(1, Plate(id="apart", draw=partial(tour_buddy.apart, _apart(apart[0]))))
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def migratetypes(evidence: StopEvidence) -> Finding:
    """buddy/migratetypes: unmovable requests that find none of their own, and what they take."""
    boot = evidence.boot()
    calls = read_calls(boot)
    stolen = [call for call in calls if call.fallback is not None]
    claims = [_taken_claim(call) for call in stolen]
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
    claims.append(lists_claim("steal_lists", calls))
    orders = {call.order for call in calls}
    told = [line for line in boot.text("trace").splitlines() if (m := _EXTFRAG.search(line))
            and int(m[2]) in orders]  # fmt: skip
    predicted = "; ".join(_extfrag_of(call) for call in stolen)
    observed = "; ".join(_extfrag_line(line) for line in told)
    claims.append(
        text_claim("extfrag", {"fallbacks": len(stolen)}, predicted, observed, "trace events")
    )
    telling = max(stolen, key=lambda call: len(call.gone), default=calls[0])
    lines = [_short(line) for line in told][:12]
    exhibits: list[Plate | Listing] = [
        Plate(id="steal", draw=partial(tour_buddy.steal, _steal(telling)))
    ]
    if lines:
        exhibits.append(Listing(id="extfrag", text="\n".join(lines)))
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _sample(boot: BootEvidence) -> MemorySample:
    return load_memory_sample(boot.path / "lists.npz")


def _taken_claim(call: RingCall) -> Claim:
    return text_claim(
        "block_taken", call.scope, _pfn(call.model_pfn), _pfn(call.pfn), "first page of the block"
    )


def _pfn(pfn: int | None) -> str:
    return "none" if pfn is None else f"{pfn:#x}"


def _blocks_claim(claim_id: str, call: RingCall) -> Claim:
    """Blocks that left the lists, and those that came, by the model and on the kernel's lists."""
    return text_claim(
        claim_id,
        call.scope,
        f"{block_text(call.model_gone)} → {block_text(call.model_new)}",
        f"{block_text(call.gone)} → {block_text(call.new)}",
        "free blocks that go and come (first page/order)",
    )


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
        if block is not None and block.order == order and other != pfn ^ (1 << order):
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
        f"{pfn:#x} ^ {1 << order:#x} = {pfn ^ (1 << order):#x}"
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
        f"{one.pfn:#x} is {one.pfn ^ (1 << one.order):#x}"
    )


def _reserved_pair(boot: BootEvidence, allocator: Allocator) -> Claim:
    """A CMA pageblock and the movable one that is its buddy, both free: they stay two."""
    match = _CMA_RESERVED.search(boot.snapshot().text("dmesg"))
    page = boot.snapshot().page_size_bytes
    pairs = [(pair, zone.free) for zone in allocator.zones for pair in free_buddies(zone.free)]
    observed = " ".join(f"{pair[0].pfn:#x}+{pair[1].pfn:#x}/{pair[0].order}" for pair, _ in pairs)
    predicted = "none"
    if match is not None:
        start = int(match[2], 16) // page
        end = start + int(match[1]) * _MIB // page
        order = allocator.zones[0].free.pageblock_order
        edges = {
            min(block, block ^ (1 << order))
            for block in range(start, end, 1 << order)
            if not start <= (block ^ (1 << order)) < end
        }
        predicted = " ".join(f"{pfn:#x}+{pfn + (1 << order):#x}/{order}" for pfn in sorted(edges))
    return text_claim(
        "reserved_pair", {"boot": boot.label}, predicted, observed or "none", "free buddies apart"
    )


def _types_at(allocator: Allocator, call: RingCall) -> str:
    assert call.fallback is not None, "asked of calls that fell back"
    lists = allocator.zone_of(call.fallback.pfn).free
    count = max(1, 1 << call.fallback.order >> lists.pageblock_order)
    names = [
        lists.pageblock_migratetype(call.fallback.pfn + (at << lists.pageblock_order)).name
        for at in range(count)
    ]
    return " ".join(names)


def _extfrag_of(call: RingCall) -> str:
    block = call.fallback
    assert block is not None, "asked of calls that fell back"
    owned = int(call.stolen_type is call.migratetype)
    return (
        f"{block.pfn:#x} order {call.order} from {block.order} type {int(call.migratetype)} from "
        f"{int(block.migratetype)} owned {owned}"
    )


def _extfrag_line(line: str) -> str:
    match = _EXTFRAG.search(line)
    assert match is not None, "only such lines are asked for"
    pfn, order, larger, kind, other, owned = match.groups()
    return f"0x{pfn} order {order} from {larger} type {kind} from {other} owned {owned}"


def _short(line: str) -> str:
    return re.sub(r"page=\S+ ", "", line[line.index("mm_page_alloc_extfrag") :])


def _change(call: RingCall) -> tour_buddy.Change:
    return tour_buddy.Change(
        step=call.step,
        gone=tuple((block.pfn, block.order) for _, block in call.gone),
        new=tuple((block.pfn, block.order) for _, block in call.new),
        pfn=call.pfn or 0,
        order=call.order,
        taken=call.taken,
    )


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


def _calls_listing(calls: Sequence[RingCall]) -> Listing:
    rows = [
        f"{call.number:3} {call.step:11} pfn {_pfn(call.pfn):8} "
        f"- {block_text(call.gone)}  + {block_text(call.new)}"
        for call in calls
    ]
    return Listing(id="calls", text="\n".join(rows[-24:]))


def _dump_listing(boot: BootEvidence) -> Listing:
    lines = [
        line.split("] ", 1)[-1]
        for line in boot.snapshot().text("dmesg").splitlines()
        if re.search(r"MEMBLOCK configuration|(memory|reserved)(\.cnt|\[0x)| memory size", line)
    ]
    last = max((at for at, line in enumerate(lines) if "MEMBLOCK" in line), default=0)
    return Listing(id="memblock", text="\n".join(lines[last : last + _DUMP_LINES]) or "none")


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "buddy/handover": handover,
        "buddy/splitting": splitting,
        "buddy/coalescing": coalescing,
        "buddy/migratetypes": migratetypes,
    }
)
