"""Boot hand-over: memblock's regions, and what each zone manages of the memory it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact
from analysis.compare.static.handover import boot_holes, boot_lines, memory_line
from analysis.compare.static.handover.inputs import (
    DEBUGFS,
    HandoverUnknownError,
    calls_between,
    dump_lists,
    freed_since,
    given,
    guarded,
    handover_index,
    iomem_tree,
    memblock_calls,
    replayed,
    reserved_at_handover,
    shown,
    zones,
)
from analysis.compare.static.handover.later import initrd_by_size, later
from analysis.errors import MissingInputError
from analysis.model.handover import freed, memblock
from analysis.model.handover.eras_handover import handover_era_of
from analysis.model.handover.memblock import Region, covered, remove
from analysis.model.layout.pfn import Span, merged
from analysis.procfs import memblock_regions

_LISTS = ("memory", "reserved")
_END = 1 << 60


def _judge_regions(snapshot: Snapshot) -> Iterator[Claim]:
    dumps = memblock_calls(snapshot).dumps
    if not dumps:
        raise MissingInputError("dmesg of a boot with memblock=debug")
    for number, (dump, following) in enumerate(pairwise(dumps), 2):
        calls = list(calls_between(snapshot, dump.at, following.at))
        before, after = dump_lists(dump), dump_lists(following)
        for kind, start, model, end in zip(
            _LISTS, before, replayed(*before, calls), after, strict=True
        ):
            yield exact(
                "memblock_regions",
                {"state": f"dump {number}", "list": kind},
                predicted=shown(covered(model.regions), 1000),
                observed=shown(covered(end.regions), 1000),
                unit="addresses",
                working=[
                    f"dump {number - 1}: {shown(covered(start.regions))}",
                    f"{len(calls)} calls to memblock from there to dump {number}",
                    f"replayed: {shown(covered(model.regions))}",
                ],
            )
    if snapshot.has(f"{DEBUGFS}/reserved") and snapshot.has(f"{DEBUGFS}/memory"):
        yield from _judge_debugfs(snapshot)


def _judge_debugfs(snapshot: Snapshot) -> Iterator[Claim]:
    """What memblock holds at run time, in whole pages: who frees up to the middle of a page does
    not say where that was."""
    if not snapshot.dmesg.reaches_init:
        raise MissingInputError("dmesg up to where init is run (its end is lost)")
    last = memblock_calls(snapshot).dumps[-1]
    calls = list(calls_between(snapshot, last.at, _END))
    memory, reserved = replayed(*dump_lists(last), calls)
    working = [f"{len(calls)} calls to memblock from the last dump on"]
    if handover_era_of(snapshot.release).late_free_hands_over:
        for name, span in _freed_without_call(snapshot, reserved.regions):
            working.append(f"{name} memory freed: {shown([span])}")
            reserved = remove(reserved, span)
    for kind, model in zip(_LISTS, (memory, reserved), strict=True):
        found = snapshot.parsed(f"{DEBUGFS}/{kind}", memblock_regions.parse)
        observed = [Region(r.base, r.end) for r in found]
        yield exact(
            "memblock_regions",
            {"state": "debugfs", "list": kind},
            predicted=shown(_pages(snapshot, model.regions), 1000),
            observed=shown(_pages(snapshot, observed), 1000),
            unit="addresses of whole pages",
            working=[*working, f"replayed: {shown(covered(model.regions))}"],
        )


def _freed_without_call(
    snapshot: Snapshot, reserved: Sequence[Region]
) -> Iterator[tuple[str, Span]]:
    """Name and place of what free_reserved_area() took out of the list."""
    page = snapshot.page_size_bytes
    parts = {r.name: r for r in iomem_tree(snapshot).resources if r.name.startswith("Kernel ")}
    for free in freed_since(snapshot, handover_index(snapshot)):
        if free.name == "initrd":
            start = initrd_by_size(reserved, free.kib * 1024 // page, page)
            if start is None:
                raise HandoverUnknownError("where the initrd lay is not in the capture")
            yield free.name, Span(start * page, start * page + free.kib * 1024)
        elif free.name == "unused kernel" and {"Kernel code", "Kernel data"} <= set(parts):
            yield free.name, Span(parts["Kernel code"].end, parts["Kernel data"].start)


def _pages(snapshot: Snapshot, regions: Sequence[Region]) -> tuple[Span, ...]:
    page = snapshot.page_size_bytes
    return merged(Span(r.base // page * page, -(-r.end // page) * page) for r in regions)


def _judge_managed(snapshot: Snapshot) -> Iterator[Claim]:
    reserved = reserved_at_handover(snapshot)
    extra = later(snapshot, reserved)
    layout = zones(snapshot)
    handed = given(snapshot, reserved)
    counts = freed.pages_by_zone(handed, layout)
    for zone, seen in zip(layout, snapshot.zoneinfo.zones, strict=True):
        if not zone.present_pages:
            continue
        key = (zone.node, zone.zone)
        terms = [(part.name, part.by_zone.get(key, 0)) for part in extra]
        total = counts[key] + sum(pages for _, pages in terms)
        ranges = [
            Span(max(start, zone.span.start), min(end, zone.span.end))
            for node, start, end in handed
            if node == zone.node and start < zone.span.end and zone.span.start < end
        ]
        low, high = (edge * snapshot.page_size_bytes for edge in zone.span)
        held = [
            Span(max(r.base, low), min(r.end, high))
            for r in reserved.regions
            if r.base < high and low < r.end
        ]
        yield exact(
            "boot_managed",
            {"node": zone.node, "zone": zone.zone},
            predicted=total,
            observed=seen.pages["managed"],
            unit="pages",
            working=[
                f"reserved in the zone ({reserved.source}): {shown(held)}",
                f"whole free pages of the zone, pfn: {shown(ranges)}",
                (
                    f"{zone.present_pages} present - {zone.present_pages - counts[key]} reserved"
                    f" = {counts[key]} handed over"
                ),
                *(f"+ {pages} freed later ({name})" for name, pages in terms if pages),
                f"= {total} managed pages",
            ],
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="memblock_regions",
        says="The first allocator of a boot keeps two lists of address ranges: memory, and what of "
        "it is reserved. Adding fills only what is not there yet, removing cuts, neighbours with "
        "the same node and flags become one. Every call that the log shows (memblock=debug), "
        "replayed from one dump of the lists, gives the next dump, and on architectures that keep "
        "the lists also what debugfs shows at run time. Addresses are compared, not the nodes and "
        "flags, which change without a line.",
        inputs=("dmesg",),
        observed="dmesg, the next 'MEMBLOCK configuration'; sys/kernel/debug/memblock",
        model=(memblock.add, memblock.remove, memblock.merged, memblock.covered),
        judge=guarded("memblock_regions", _judge_regions),
    ),
    Rule(
        id="boot_managed",
        says="A zone manages the whole pages of its memory of which memblock had no byte reserved "
        "when it handed over, and what was given back later: parts of the kernel's image, the "
        "initrd, areas for contiguous allocation (which movable pages may use). What is reserved "
        "is known from memblock's log, on arm64 also from /proc/iomem, which has it inside System "
        "RAM. Each later part goes to the zone in which it lies.",
        inputs=("dmesg", "proc/iomem", DEBUGFS),
        observed="proc/zoneinfo, managed",
        model=(freed.handed_over, freed.pages_by_zone, memblock.gaps),
        judge=guarded("boot_managed", _judge_managed),
    ),
    *memory_line.RULES,
    *boot_lines.RULES,
    *boot_holes.RULES,
)
