"""What the kernel says of its memory while it boots: totals, zones, holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of, unknown
from analysis.compare.static.handover_inputs import (
    HandoverUnknownError,
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
from analysis.errors import MissingInputError
from analysis.model.handover import boot_lines
from analysis.model.handover.boot_lines import Unavailable, managed_before_handover
from analysis.model.handover.eras_handover import HandoverEra, handover_era_of
from analysis.model.handover.memblock import Region, gaps
from analysis.model.layout import memory_model, orders, sections
from analysis.model.layout.eras_layout import LayoutEra, layout_era_of
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span
from analysis.model.layout.zones import ZoneLayout
from analysis.model.pcp_sizes import zone_batchsize

_DMA_END = 16 << 20
_LOW_END = 1 << 20
_BITS = {"x86_64": 64, "arm64": 64, "riscv64": 64, "i386": 32, "arm": 32}


def _eras(snapshot: Snapshot) -> list[HandoverEra]:
    """The eras that may be in force, each once."""
    found: list[HandoverEra] = []
    for release in snapshot.releases:
        era = handover_era_of(release)
        if era not in found:
            found.append(era)
    return found


def _struct_page_bytes(snapshot: Snapshot) -> int:
    bits = _BITS.get(snapshot.arch)
    if bits is None:
        raise HandoverUnknownError(f"the size of a struct page on {snapshot.arch} is not known")
    return memory_model.struct_page_bytes(
        bits=bits,
        memcg=snapshot.config.on("MEMCG"),
        double_aligned=snapshot.config.on("HAVE_ALIGNED_STRUCT_PAGE"),
    )


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
            struct_bytes = _struct_page_bytes(snapshot)
            reserved, source = _dma_reserved(snapshot, era)
            working.append(
                f"struct page {struct_bytes} bytes; {reserved} pages of the first zone reserved "
                f"({source})"
            )
            total = 0
            for zone in layout:
                managed, memmap = _early_managed(snapshot, zone, struct_bytes, reserved)
                working.append(
                    f"node {zone.node} {zone.zone}: {zone.present_pages} present, memmap {memmap}:"
                    f" {managed}"
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
    struct_bytes = _struct_page_bytes(snapshot)
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


def _judge_unavailable(snapshot: Snapshot) -> Iterator[Claim]:
    said = boot(snapshot)
    era, layout_era = _eras(snapshot)[0], layout_era_of(snapshot.release)
    sparse = snapshot.config.on("SPARSEMEM")
    if not said.unavailable and not era.told_unavailable:
        raise HandoverUnknownError("the kernel does not tell of holes by zone (before 5.12)")
    if not sparse and era.flatmem_rounds_end:
        raise HandoverUnknownError("FLATMEM from 7.0 on: how far struct pages reach is not known")
    memory = boot_memory(snapshot)
    page = snapshot.page_size_bytes
    bits = sections.section_bits(
        snapshot.arch,
        page,
        arm64_small=layout_era.arm64_small_sections,
        pae=snapshot.config.on("X86_PAE"),
    )
    huge = orders.huge_page_shift(snapshot.arch, page, pae=snapshot.config.on("X86_PAE"))
    if bits is None or huge is None:
        raise HandoverUnknownError(f"sections and pageblocks of {snapshot.arch} are not modelled")
    section_pages = (1 << bits) // page
    block_pages = _block_pages(snapshot, layout_era, page, huge)
    valid = _Validity(snapshot, layout_era, memory, section_pages if sparse else None)
    holes: Sequence[Unavailable] = ()
    if sparse or era.flatmem_tells_unavailable:
        holes = boot_lines.unavailable_ranges(
            memory,
            zones(snapshot),
            end_align=section_pages if sparse else 1,
            block_pages=block_pages,
            valid=valid,
        )
    yield exact(
        "unavailable_ranges",
        {},
        predicted=_holes_text(holes),
        observed=_holes_text([Unavailable(u.node, u.zone, u.pages) for u in said.unavailable]),
        unit="pages",
        working=[
            "memory, pfn: " + " ".join(f"{s:#x}-{e - 1:#x} (node {n})" for n, s, e in memory),
            valid.says,
            *(f"node {n} {zone}: {pages} pages without memory" for n, zone, pages in holes),
        ],
    )


def _block_pages(snapshot: Snapshot, era: LayoutEra, page: int, huge: int) -> int:
    config = snapshot.config
    value = config.number("ARCH_FORCE_MAX_ORDER")
    old = config.number("FORCE_MAX_ZONEORDER")
    count = (
        orders.buddy_orders(old, inclusive=False)
        if value is None
        else orders.buddy_orders(value, inclusive=era.max_order_inclusive)
    )
    return 1 << orders.pageblock_order(
        era,
        orders=count,
        page_bytes=page,
        huge_shift=huge,
        hugetlb=config.on("HUGETLB_PAGE"),
        thp=config.on("TRANSPARENT_HUGEPAGE"),
        own_limit=config.number("PAGE_BLOCK_MAX_ORDER"),
    )


class _Validity:
    """Whether a page frame has a struct page."""

    def __init__(
        self,
        snapshot: Snapshot,
        era: LayoutEra,
        memory: Sequence[NodeSpan],
        section_pages: int | None,
    ) -> None:
        self.memory = memory
        self.end = max(end for _, _, end in memory)
        self.by_memory = snapshot.arch == "arm64" and era.arm64_pfn_valid_by_memory
        self.section_pages = section_pages
        self.sections = (
            {} if section_pages is None else sections.present_sections(memory, section_pages)
        )

    @property
    def says(self) -> str:
        if self.by_memory:
            return "a pageblock has struct pages where its first page is memory"
        if self.section_pages is None:
            return "every frame up to the end of memory has a struct page (FLATMEM)"
        return f"a frame has a struct page where its {self.section_pages} pages have any memory"

    def __call__(self, pfn: int) -> bool:
        if self.by_memory:
            return any(start <= pfn < end for _, start, end in self.memory)
        if self.section_pages is None:
            return pfn < self.end
        return pfn // self.section_pages in self.sections


def _holes_text(holes: Sequence[Unavailable]) -> str:
    return ", ".join(f"node {n} {zone} {pages}" for n, zone, pages in holes) or "none"


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
    Rule(
        id="unavailable_ranges",
        says="Page frames in a hole have a struct page where their section has memory elsewhere "
        "(SPARSEMEM), or always (FLATMEM). "
        "Before each part of memory that a zone has, the kernel tells how many such frames there "
        "were since the part before, and names the zone that follows; those behind all memory, up "
        "to the end of its section, go to the last zone (with FLATMEM there are none).",
        inputs=("dmesg", "proc/zoneinfo", "config"),
        observed="dmesg, On node N, zone Z: P pages in unavailable ranges",
        model=(boot_lines.unavailable_ranges, sections.present_sections),
        judge=guarded("unavailable_ranges", _judge_unavailable),
    ),
)
