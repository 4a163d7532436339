"""Struct pages of holes, and how many struct pages there are, against what dmesg says of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number, Scope
from analysis.compare.rule import Rule
from analysis.compare.static.layout.blocks import block_order, section_shift
from analysis.compare.static.layout.capture import (
    LayoutInputError,
    LayoutUnknownError,
    boot,
    model_of,
)
from analysis.compare.static.layout.inputs import at_boot, layout, placement
from analysis.compare.static.layout.judge import ALL, Predicted, Predictions, judge, per_zone
from analysis.errors import MissingInputError
from analysis.model.layout import holes, memory_model, sections
from analysis.model.layout.eras_layout import LayoutEra


def hole_pages(snapshot: Snapshot, era: LayoutEra, model: str) -> dict[tuple[int, str], int]:
    """Struct pages of holes by node and zone, under an era and a memory model."""
    plan = layout(snapshot, era)
    ranges = plan.placement.ranges
    page = snapshot.page_size_bytes
    unit: int | None
    if model == memory_model.FLATMEM:
        if not era.flat_holes_set_up:
            return {}
        covered = holes.covered_by_flatmem(plan.placement.max_pfn)
        unit = (1 << (plan.orders - 1)) if era.flat_memmap_to_whole_blocks else None
    else:
        unit = (1 << section_shift(snapshot, era)) // page
        covered = holes.covered_by_sections(ranges, unit)
        if snapshot.arch == "arm64" and era.arm64_pfn_valid_by_memory:
            order, _ = block_order(snapshot, era)
            covered = holes.covered_by_memory(ranges, 1 << order)
    return holes.unavailable_pages(plan.zones, ranges, covered, memmap_unit_pages=unit)


def _unavailable_pages(snapshot: Snapshot) -> Iterator[Claim]:
    said = boot(snapshot)
    if not said.node_ranges:
        raise MissingInputError("dmesg: the messages of early boot")
    shown: dict[Hashable, Number] = dict(said.unavailable.items())
    shown[ALL] = sum(said.unavailable.values())
    model = model_of(snapshot)

    def predict(era: LayoutEra) -> Predictions:
        if not era.holes_follow_memory:
            raise LayoutUnknownError(
                f"how {snapshot.kernel} sets up the struct pages of holes is not known"
            )
        plan = layout(snapshot, era)
        found = hole_pages(snapshot, era, model)
        results: dict[Hashable, Predicted] = {
            key: Predicted(
                value=pages,
                working=(*plan.steps, f"{pages} frames of holes lie before memory of {key[1]}"),
            )
            for key, pages in found.items()
        }
        total = sum(found.values())
        said_total = f"{total} frames of holes have struct pages"
        results[ALL] = Predicted(value=total, working=(*plan.steps, said_total))
        return results

    yield from judge(
        "unavailable_pages",
        snapshot,
        predict=predict,
        observed=shown,
        scope=lambda key: {} if key == ALL else per_zone(key),
        unit="struct pages",
    )


def struct_pages(snapshot: Snapshot, era: LayoutEra, model: str) -> int:
    """Struct pages set up at boot, under an era and a memory model."""
    plan = layout(snapshot, era)
    present = sum(zone.present_pages for zone in plan.zones)
    return present + sum(hole_pages(snapshot, era, model).values())


def set_up_count(snapshot: Snapshot) -> int:
    """Struct pages that the kernel says it set up: of present pages, and of holes."""
    present = sum(zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones)
    return present + sum(boot(snapshot).unavailable.values())


def _counted(key: Hashable) -> Scope:
    del key
    return {"counted": "struct pages set up"}


def set_up_claims(snapshot: Snapshot, model: str) -> Iterator[Claim]:
    """The memmap as a number of struct pages, where the kernel does not count its pages."""

    def predict(era: LayoutEra) -> Predictions:
        if not era.holes_follow_memory or (
            model == memory_model.FLATMEM and not era.flat_holes_set_up
        ):
            raise LayoutInputError("this kernel does not say how many struct pages holes have")
        place = at_boot(placement(snapshot, era))
        if model == memory_model.FLATMEM:
            total = struct_pages(snapshot, era, model)
            said = f"one struct page for each frame from 0 on: {total}"
        else:
            section = (1 << section_shift(snapshot, era)) // snapshot.page_size_bytes
            count = len(sections.present_sections(place.ranges, section))
            if snapshot.arch == "arm64" and era.arm64_pfn_valid_by_memory:
                total = struct_pages(snapshot, era, model)
                said = f"struct pages of memory, and of pageblocks that begin with it: {total}"
            else:
                total = count * section
                said = f"{count} sections of {section} struct pages: {total}"
        return {ALL: Predicted(value=total, working=(*place.steps, said))}

    yield from judge(
        "memmap_pages",
        snapshot,
        predict=predict,
        observed={ALL: set_up_count(snapshot)},
        scope=_counted,
        unit="struct pages",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="unavailable_pages",
        says="Sections with any memory have struct pages for all of their frames. Those of holes "
        "are set up for the zone of the memory behind the hole, those at the end for the highest "
        "zone of the last node, and never reach the buddy.",
        inputs=("config", "dmesg | proc/iomem", "proc/cmdline"),
        observed="dmesg, pages in unavailable ranges, the holes of a zone together",
        model=(
            holes.unavailable_pages,
            holes.covered_by_sections,
            holes.covered_by_flatmem,
            holes.covered_by_memory,
        ),
        judge=_unavailable_pages,
    ),
)
