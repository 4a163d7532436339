"""What the kernel says of its memory while it boots: totals and zones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of, unknown
from analysis.compare.static.handover.inputs import (
    boot,
    boot_memory,
    calls_between,
    dump_lists,
    guarded,
    kernel_image,
    memblock_calls,
    replayed,
    zones,
)
from analysis.compare.static.layout.memmap import struct_page
from analysis.errors import MissingInputError
from analysis.model.handover.boot_lines import managed_before_handover
from analysis.model.handover.eras_handover import HandoverEra, handover_era_of
from analysis.model.handover.memblock import Region, gaps
from analysis.model.layout import memory_model
from analysis.model.layout.eras_layout import layout_era_of
from analysis.model.layout.pfn import Span
from analysis.model.layout.zones import ZoneLayout
from analysis.model.pcp_sizes import zone_batchsize

_DMA_END = 16 << 20
_LOW_END = 1 << 20


def _eras(snapshot: Snapshot) -> list[HandoverEra]:
    """The eras that may be in force, each once."""
    found: list[HandoverEra] = []
    for release in snapshot.releases:
        era = handover_era_of(release)
        if era not in found:
            found.append(era)
    return found


def _early_managed(
    snapshot: Snapshot, zone: ZoneLayout, struct_bytes: int, reserved_pages: int
) -> tuple[int, int]:
    """What a zone counts as managed before the hand-over, to 6.9, and its memmap; pages."""
    memmap = memory_model.zone_memmap_pages(
        zone.spanned_pages,
        zone.present_pages,
        struct_bytes,
        snapshot.page_size_bytes,
        sparse=snapshot.config.on("SPARSEMEM"),
    )
    first = zone.zone == snapshot.zoneinfo.zones[0].zone
    managed = managed_before_handover(
        zone.present_pages,
        memmap,
        reserved_pages=reserved_pages if first else 0,
        highmem=zone.zone == "HighMem" or (zone.zone == "Movable" and _has_highmem(snapshot)),
    )
    return managed, memmap


def _has_highmem(snapshot: Snapshot) -> bool:
    """Whether ZONE_MOVABLE is cut from high memory."""
    return any(zone.zone == "HighMem" and zone.present_pages for zone in zones(snapshot))


def _dma_reserved(snapshot: Snapshot, era: HandoverEra) -> tuple[int, str]:
    """Pages that x86_64 found reserved below 16 MiB, and where that is known from."""
    if snapshot.arch != "x86_64":
        return 0, f"{snapshot.arch} counts nothing as reserved"
    for line in boot(snapshot).zone_lines:
        if line.kind == "reserved":
            return line.pages, "dmesg, pages reserved"
    page = snapshot.page_size_bytes
    low = [
        Span(start * page, min(end * page, _DMA_END))
        for _, start, end in boot_memory(snapshot)
        if start * page < _DMA_END
    ]
    dumps = memblock_calls(snapshot).dumps
    if dumps:
        calls = calls_between(snapshot, dumps[-1].at, _zone_ranges_at(snapshot))
        regions: Sequence[Region] = replayed(*dump_lists(dumps[-1]), calls)[1].regions
        source = "dmesg, memblock=debug"
    elif boot(snapshot).efi:
        raise MissingInputError("dmesg of a boot with memblock=debug (EFI: what lies below 16 MiB)")
    elif not era.reserves_low_megabyte:
        raise MissingInputError("dmesg with its 'DMA zone: … pages reserved'")
    else:
        spans = [Span(0, _LOW_END), kernel_image(snapshot)]
        disk = boot(snapshot).ramdisk
        spans += [Span(disk.base, disk.end)] if disk is not None else []
        regions = [Region(span.start, span.end) for span in sorted(spans)]
        source = "the first MiB, the kernel's image and the initrd"
    total = sum(span.size // page for span in low)
    free = sum(
        max(0, gap.end // page - -(-gap.start // page))
        for span in low
        for gap in gaps(regions, span)
    )
    return total - free, source


def _zone_ranges_at(snapshot: Snapshot) -> int:
    for at, message in enumerate(boot(snapshot).log.messages):
        if message.text.startswith("Zone ranges:"):
            return at
    raise MissingInputError("dmesg with its 'Zone ranges:'")


def _judge_total_pages(snapshot: Snapshot) -> Iterator[Claim]:
    said = boot(snapshot).total_pages
    if said is None:
        raise MissingInputError("dmesg with its 'Built N zonelists … Total pages'")
    if boot(snapshot).node_ranges:
        boot_memory(snapshot)  # unknown where memory came or went since
    layout = [zone for zone in zones(snapshot) if zone.present_pages]
    options: list[int] = []
    working: list[str] = []
    eras = _eras(snapshot)
    if any(line.kind == "memmap" for line in boot(snapshot).zone_lines):
        eras = [era for era in eras if era.memmap_taken_off]
        working.append("the kernel tells of each zone's memmap: it takes it off")
    for era in eras:
        if era.memmap_taken_off:
            struct_bytes = struct_page(snapshot, layout_era_of(snapshot.release))
            reserved, source = _dma_reserved(snapshot, era)
            working.append(
                f"struct page {struct_bytes} bytes; {reserved} pages of the first zone reserved "
                f"({source})"
            )
            total = 0
            for zone in layout:
                managed, memmap = _early_managed(snapshot, zone, struct_bytes, reserved)
                working.append(
                    f"node {zone.node} {zone.zone}: {zone.present_pages} present - "
                    f"{zone.present_pages - managed} (memmap {memmap}) = {managed}"
                )
                total += managed
        else:
            total = sum(zone.present_pages for zone in layout)
            working.append(" + ".join(str(zone.present_pages) for zone in layout) + " present")
        if total not in options:
            options.append(total)
            working.append(f"= {total} pages")
    yield one_of(
        "total_pages_line",
        {},
        options=options,
        observed=said.pages,
        unit="pages",
        undecided="whether the kernel still takes the memmap off (to 6.9) is not known",
        working=working,
    )


def _judge_zone_lines(snapshot: Snapshot) -> Iterator[Claim]:
    lines = [line for line in boot(snapshot).zone_lines if line.kind == "present"]
    if not lines:
        yield unknown(
            "boot_zone_lines",
            why="the kernel prints no line a zone (from 5.14 on only to debug)",
            lacking=True,
        )
        return
    struct_bytes = struct_page(snapshot, layout_era_of(snapshot.release))
    reserved, source = _dma_reserved(snapshot, _eras(snapshot)[0])
    predicted: list[str] = []
    working = [f"{reserved} pages of the first zone reserved ({source})"]
    for zone in zones(snapshot):
        if not zone.present_pages:
            continue
        managed, memmap = _early_managed(snapshot, zone, struct_bytes, reserved)
        batch = zone_batchsize(managed, snapshot.page_size_bytes)
        predicted.append(f"{zone.zone} {zone.present_pages} batch {batch}")
        working.append(
            f"node {zone.node} {zone.zone}: {zone.present_pages} present, memmap {memmap}, so "
            f"{managed} managed: batch {batch}"
        )
    yield exact(
        "boot_zone_lines",
        {},
        predicted=", ".join(predicted),
        observed=", ".join(f"{line.zone} {line.pages} batch {line.batch}" for line in lines),
        unit="pages",
        working=working,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="total_pages_line",
        says="'Total pages' of dmesg's 'Built N zonelists' is what all zones together count as "
        "managed before anything was handed over. To 6.9 that is what is present without the "
        "memmap that the zone would need (the spanned pages' struct pages, or those of the present "
        "ones where holes are more than a sixteenth) and, on x86_64, without what is reserved "
        "below 16 MiB, taken off the first zone of a node where it has more; high memory keeps "
        "its memmap. From 6.10 it is simply what is present.",
        inputs=("proc/zoneinfo", "config", "dmesg"),
        observed="dmesg, Built N zonelists … Total pages",
        model=(managed_before_handover, memory_model.zone_memmap_pages),
        judge=guarded("total_pages_line", _judge_total_pages),
    ),
    Rule(
        id="boot_zone_lines",
        says="To 5.13 the kernel prints for every zone with pages how many are present and which "
        "batch its per-cpu lists start with: a quarter of a thousandth of what the zone counts as "
        "managed before the hand-over, made one less than a power of two.",
        inputs=("proc/zoneinfo", "config", "dmesg"),
        observed="dmesg, … zone: N pages, LIFO batch:M",
        model=(managed_before_handover, zone_batchsize),
        judge=guarded("boot_zone_lines", _judge_zone_lines),
    ),
)
