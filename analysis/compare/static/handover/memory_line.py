"""The ``Memory:`` line: total, available, reserved, kept for contiguous allocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of
from analysis.compare.static.handover.inputs import (
    HandoverUnknownError,
    boot,
    boot_memory,
    calls_between,
    freed_since,
    given,
    guarded,
    handover_index,
    memory_line,
    reserved_at_handover,
    zones,
)
from analysis.compare.static.handover.later import check_nothing_untold
from analysis.compare.static.layout.blocks import section_shift
from analysis.compare.static.layout.inputs import orders_of
from analysis.errors import MissingInputError
from analysis.model.handover import freed
from analysis.model.handover.eras_handover import handover_era_of
from analysis.model.layout.eras_layout import layout_era_of
from analysis.model.layout.pfn import Span

_END = 1 << 60


def _judge_line_total(snapshot: Snapshot) -> Iterator[Claim]:
    line = memory_line(snapshot)
    present = {(z.node, z.zone): z.present_pages for z in zones(snapshot) if z.present_pages}
    if boot(snapshot).node_ranges:
        boot_memory(snapshot)  # unknown where memory came or went since
    pages = sum(present.values())
    yield exact(
        "memory_line_total",
        {},
        predicted=pages * snapshot.page_kib,
        observed=line.total_kib,
        unit="KiB",
        working=[
            " + ".join(f"{count} (node {node} {zone})" for (node, zone), count in present.items())
            + f" = {pages} present pages",
            f"x {snapshot.page_kib} KiB",
        ],
    )


def _judge_line_reserved(snapshot: Snapshot) -> Iterator[Claim]:
    line = memory_line(snapshot)
    check_nothing_untold(snapshot)
    if boot(snapshot).node_ranges:
        boot_memory(snapshot)  # unknown where memory came or went since
    free = freed_since(snapshot, line.at)
    present = sum(zone.present_pages for zone in zones(snapshot)) * snapshot.page_kib
    total = snapshot.meminfo.values["MemTotal"]
    late = sum(
        max(0, span.end // page - -(-span.start // page)) * snapshot.page_kib
        for page in [snapshot.page_size_bytes]
        for span in _late_calls(snapshot, line.at)
    )
    predicted = present - total + sum(part.kib for part in free) + late
    yield exact(
        "memory_line_reserved",
        {},
        predicted=predicted,
        observed=line.reserved_kib,
        unit="KiB",
        working=[
            f"{present} KiB present - {total} KiB MemTotal",
            *(f"+ {part.kib} KiB freed after the line ({part.name})" for part in free),
            *([f"+ {late} KiB freed by later calls to memblock"] if late else []),
            f"= {predicted} KiB ({line.cma_kib} KiB for contiguous allocation are not among them)",
        ],
    )


def _late_calls(snapshot: Snapshot, at: int) -> list[Span]:
    names = ["memblock_free_late"]
    if handover_era_of(snapshot.release).late_free_hands_over:
        names.append("memblock_phys_free")
    return [
        Span(call.base, call.end)
        for call in calls_between(snapshot, at, _END)
        if call.function.lstrip("_") in names
    ]


def _judge_line_available(snapshot: Snapshot) -> Iterator[Claim]:
    line = memory_line(snapshot)
    if line.at > handover_index(snapshot):
        raise HandoverUnknownError(
            "the line came when the allocator was long in use (6.11 and later): what is free then "
            "is no matter of the hand-over",
            lacking=True,
        )
    if snapshot.arch not in ("x86_64", "arm64", "i386"):
        raise HandoverUnknownError(f"what {snapshot.arch} takes before the line is not known")
    deferred = deferred_pages(snapshot)
    tables: tuple[int, ...] = (0,)
    if snapshot.arch == "x86_64":
        tables = freed.vmalloc_table_pages(
            five_levels=_five_levels(snapshot), aligned=_begins_aligned(snapshot)
        )
    if deferred:
        reserved = reserved_at_handover(snapshot)
        handed = given(snapshot, reserved)
        largest = orders_of(snapshot, layout_era_of(snapshot.release)) - 1
        free = sum(freed.free_at_once(handed, deferred, largest).values())
        total = sum(end - start for _, start, end in handed)
        working = [
            f"handed over: {total} pages ({reserved.source})",
            *(
                f"node {node}: struct pages from pfn {pfn:#x} on are made later"
                for node, pfn in deferred.items()
            ),
            f"{free} of them in blocks below these",
        ]
    else:
        kib = line.total_kib - line.reserved_kib - line.cma_kib
        free = kib // snapshot.page_kib
        working = [
            "no struct pages are made later: free is what is neither reserved nor for CMA",
            f"{line.total_kib} - {line.reserved_kib} - {line.cma_kib} KiB = {free} pages",
        ]
    if tables != (0,):
        words = " or ".join(map(str, tables))
        working.append(
            f"- {words} pages of page tables for the vmalloc area, x {snapshot.page_kib} KiB"
        )
    yield one_of(
        "memory_line_available",
        {},
        options=[(free - taken) * snapshot.page_kib for taken in tables],
        observed=line.available_kib,
        unit="KiB",
        undecided="the vmalloc area begins at random, so that its page tables may be one more",
        working=working,
    )


def deferred_pages(snapshot: Snapshot) -> Mapping[int, int]:
    """The first page of each node whose struct page is made later; see ``first_deferred``."""
    if not snapshot.config.on("DEFERRED_STRUCT_PAGE_INIT"):
        return {}
    if snapshot.cmdline.has("early_page_ext"):
        return {}
    section = 1 << section_shift(snapshot, layout_era_of(snapshot.release))
    return freed.first_deferred(
        boot_memory(snapshot), zones(snapshot), section // snapshot.page_size_bytes
    )


def _five_levels(snapshot: Snapshot) -> bool:
    return " la57" in snapshot.text("proc/cpuinfo") and not snapshot.cmdline.has("no5lvl")


def _begins_aligned(snapshot: Snapshot) -> bool:
    """Whether the vmalloc area begins where the layout without randomness has it."""
    return not snapshot.config.on("RANDOMIZE_MEMORY") or snapshot.cmdline.has("nokaslr")


def _judge_cma(snapshot: Snapshot) -> Iterator[Claim]:
    line = memory_line(snapshot)
    areas = boot(snapshot).cma
    if not boot(snapshot).log.whole:
        raise MissingInputError("dmesg from the first message of the boot on (its begin is lost)")
    yield exact(
        "memory_line_cma",
        {},
        predicted=sum(area.mib for area in areas) * 1024,
        observed=line.cma_kib,
        unit="KiB",
        working=[f"{area.mib} MiB reserved" for area in areas] or ["no area was reserved"],
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="memory_line_total",
        says="The second number of dmesg's 'Memory: …K/…K available' is all memory of all nodes: "
        "the present pages of the zones.",
        inputs=("proc/zoneinfo",),
        observed="dmesg, Memory:",
        model=(freed.pages_by_zone,),
        judge=guarded("memory_line_total", _judge_line_total),
    ),
    Rule(
        id="memory_line_reserved",
        says="'reserved' in dmesg's 'Memory:' line is what is present without what had been given "
        "to the buddy by then (deferred pages count as given) and without the areas for contiguous "
        "allocation. So it is what MemTotal lacks, and what was freed after the line.",
        inputs=("proc/zoneinfo", "proc/meminfo", "dmesg"),
        observed="dmesg, Memory:",
        model=(freed.handed_over,),
        judge=guarded("memory_line_reserved", _judge_line_reserved),
    ),
    Rule(
        id="memory_line_available",
        says="To 6.10 the 'Memory:' line comes right after the hand-over, so that its first number "
        "is the free pages that memblock gave: without those whose struct pages are made later "
        "(CONFIG_DEFERRED_STRUCT_PAGE_INIT: of each node's last zone only a section and what "
        "brings it to the next one is made at once), and on x86_64 without the page tables of the "
        "vmalloc area, taken just before. Where no struct pages are made later, the free pages "
        "are taken from the line's own total and reserved: then this is a law within the line, and "
        "memory_line_total and memory_line_reserved hold those two against other files.",
        inputs=("dmesg", "config", "proc/cmdline", "proc/cpuinfo", "proc/iomem"),
        observed="dmesg, Memory:",
        model=(
            freed.first_deferred,
            freed.first_blocks,
            freed.free_at_once,
            freed.vmalloc_table_pages,
        ),
        judge=guarded("memory_line_available", _judge_line_available),
    ),
    Rule(
        id="memory_line_cma",
        says="'cma-reserved' in dmesg's 'Memory:' line is the sum of the areas for contiguous "
        "allocation that were reserved before.",
        inputs=("dmesg",),
        observed="dmesg, Memory:",
        model=(freed.pages_by_zone,),
        judge=guarded("memory_line_cma", _judge_cma),
    ),
)
