"""What the kernel says of holes while it boots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact
from analysis.compare.static.handover.inputs import (
    HandoverUnknownError,
    boot,
    boot_memory,
    guarded,
    zones,
)
from analysis.compare.static.layout.blocks import block_order, section_shift
from analysis.model.handover import boot_lines
from analysis.model.handover.boot_lines import Unavailable
from analysis.model.handover.eras_handover import handover_era_of
from analysis.model.layout import sections
from analysis.model.layout.eras_layout import LayoutEra, layout_era_of
from analysis.model.layout.nodes import NodeSpan


def _judge_unavailable(snapshot: Snapshot) -> Iterator[Claim]:
    said = boot(snapshot)
    era, layout_era = handover_era_of(snapshot.release), layout_era_of(snapshot.release)
    sparse = snapshot.config.on("SPARSEMEM")
    if not said.unavailable and not era.told_unavailable:
        raise HandoverUnknownError("the kernel does not tell of holes by zone (before 5.12)")
    if not sparse and era.flatmem_rounds_end:
        raise HandoverUnknownError("FLATMEM from 7.0 on: how far struct pages reach is not known")
    memory = boot_memory(snapshot)
    section_pages = (1 << section_shift(snapshot, layout_era)) // snapshot.page_size_bytes
    block_pages = 1 << block_order(snapshot, layout_era)[0]
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
