"""Zones against what the kernel printed of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, exact
from analysis.compare.static.layout.capture import (
    boot,
    options,
)
from analysis.compare.static.layout.inputs import Placement, device_zones, layout, layout_now
from analysis.compare.static.layout.judge import Predicted, Predictions, judge, per_node, per_zone
from analysis.compare.static.layout.memory import INPUTS, shown_bytes
from analysis.errors import MissingInputError
from analysis.model.layout import (
    device_zone,
    hot_added,
    memory_map,
    movable,
    nodes,
    zone_limits,
    zones,
)
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.zones import ZoneLayout


def _zone_range(snapshot: Snapshot) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    said: dict[Hashable, Number] = {
        name: f"{span[0]:#x}-{span[1] - 1:#x}" if span else "empty"
        for name, span in boot(snapshot).zone_ranges.items()
    }
    if not said:
        raise MissingInputError("dmesg: Zone ranges")

    def predict(era: LayoutEra) -> Predictions:
        plan = layout(snapshot, era)
        return {
            name: Predicted(
                value=shown_bytes(span, page) if span.size else "empty", working=plan.steps
            )
            for name, span in plan.limits.items()
        }

    yield from judge(
        "zone_range",
        snapshot,
        predict=predict,
        observed=said,
        scope=lambda key: {"zone": str(key)},
        unit="bytes",
        absent="not printed",
    )


def _movable_start(snapshot: Snapshot) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    found = boot(snapshot)
    if not found.movable_said:
        raise MissingInputError("dmesg: Movable zone start for each node")
    said: dict[Hashable, Number] = {
        node: f"{start:#x}" for node, start in found.movable_starts.items()
    }

    def predict(era: LayoutEra) -> Predictions:
        plan = layout(snapshot, era)
        return {
            node: Predicted(
                value=f"{plan.movable[node] * page:#x}" if node in plan.movable else "none",
                working=plan.steps,
            )
            for node in nodes.node_extents(plan.placement.ranges)
        }

    yield from judge(
        "movable_start",
        snapshot,
        predict=predict,
        observed=said,
        scope=per_node,
        unit="address",
        absent="none",
    )


def _node_zones(snapshot: Snapshot) -> Iterator[Claim]:
    shown: dict[int, list[str]] = {}
    for zone in snapshot.zoneinfo.zones:
        shown.setdefault(zone.node, []).append(zone.zone)
    names = zone_limits.zone_names(options(snapshot))
    on = sorted(options(snapshot) & {"ZONE_DMA", "ZONE_DMA32", "HIGHMEM", "ZONE_DEVICE"})
    for node, zone_texts in shown.items():
        yield exact(
            "node_zones",
            {"node": node},
            predicted=" ".join(names),
            observed=" ".join(zone_texts),
            unit="zones",
            working=(f"built in: {', '.join(on)}; Normal and Movable are always there",),
        )


def _zone_number(
    rule_id: str, value: Callable[[ZoneLayout], int], field: str
) -> Callable[[Snapshot], Iterator[Claim]]:
    def judge_zones(snapshot: Snapshot) -> Iterator[Claim]:
        shown: dict[Hashable, Number] = {
            (zone.node, zone.zone): zone.fields[field]
            for zone in snapshot.zoneinfo.zones
            if field in zone.fields
        }

        def predict(era: LayoutEra) -> Predictions:
            plan = layout_now(snapshot, era)
            return {
                (zone.node, zone.zone): Predicted(
                    value=value(zone), working=(*plan.steps, _zone_step(zone))
                )
                for zone in (*plan.zones, *_filled_devices(snapshot, plan.placement))
                if (zone.node, zone.zone) in shown or zone.present_pages
            }

        yield from judge(
            rule_id, snapshot, predict=predict, observed=shown, scope=per_zone, unit=_unit(field)
        )

    return judge_zones


def _filled_devices(snapshot: Snapshot, place: Placement) -> list[ZoneLayout]:
    """The zones Device that drivers gave memory to, which at boot have none."""
    filled = any(
        zone.zone == zone_limits.DEVICE and zone.pages.get("spanned")
        for zone in snapshot.zoneinfo.zones
    )
    return [
        ZoneLayout(
            node=node,
            zone=zone_limits.DEVICE,
            start_pfn=span.start,
            spanned_pages=span.size,
            present_pages=0,
        )
        for node, span in (device_zones(snapshot, place) if filled else {}).items()
    ]


def _unit(field: str) -> str:
    return "pfn" if field == "start_pfn" else "pages"


def _zone_step(zone: ZoneLayout) -> str:
    absent = zone.spanned_pages - zone.present_pages
    return (
        f"node {zone.node} {zone.zone}: from pfn {zone.start_pfn}, {zone.spanned_pages} spanned "
        f"- {absent} without memory = {zone.present_pages} present"
    )


_LAYOUT_MODEL = (
    memory_map.with_parameters,
    memory_map.trimmed,
    memory_map.end_of_ram_pfn,
    memory_map.memblock_memory,
    nodes.cleaned,
    nodes.assigned,
    nodes.in_pages,
    zone_limits.x86_zone_ends,
    zone_limits.arm64_zone_ends,
    zone_limits.riscv_zone_ends,
    zone_limits.zone_ranges,
    movable.movable_starts,
    zones.zone_span,
    zones.zone_layout,
    hot_added.added_blocks,
    hot_added.movable_zone,
    device_zone.device_zone_span,
    device_zone.node_of_range,
)


RULES: tuple[Rule, ...] = (
    Rule(
        id="zone_range",
        says="On x86 DMA ends at 16 MiB, DMA32 at 4 GiB, Normal at the end of memory (32 bits: at "
        "the end of what is mapped directly, HighMem above). On arm64 DMA ends where the least "
        "able bus master ends, at most at 4 GiB, so that below 4 GiB all is DMA. A zone begins "
        "where the one below ends, and none reaches beyond the end of memory.",
        inputs=INPUTS,
        observed="dmesg, Zone ranges",
        model=(
            zone_limits.x86_zone_ends,
            zone_limits.arm64_zone_ends,
            zone_limits.riscv_zone_ends,
            zone_limits.zone_ranges,
        ),
        judge=_zone_range,
    ),
    Rule(
        id="movable_start",
        says="kernelcore= pages (all but movablecore=) are spread evenly over the nodes from the "
        "first page of the highest zone on; a node that has fewer leaves the rest to the "
        "others. What lies above, up to whole largest buddy blocks, is ZONE_MOVABLE.",
        inputs=(*INPUTS, "proc/cmdline"),
        observed="dmesg, Movable zone start for each node",
        model=(movable.highest_zone, movable.required_kernelcore, movable.movable_starts),
        judge=_movable_start,
    ),
    Rule(
        id="node_zones",
        says="Every node has the zones that are built in, whether it has pages in them or not: "
        "DMA, DMA32, Normal, HighMem, Movable, Device, in this order.",
        inputs=("config",),
        observed="proc/zoneinfo, the zones of each node",
        model=(zone_limits.zone_names,),
        judge=_node_zones,
    ),
    Rule(
        id="zone_start_pfn",
        says="A zone begins at the first page of its node, or at the zone's lower limit where the "
        "node begins below; ZONE_MOVABLE at its start on the node, or at the first block of memory "
        "that was added as movable. Printed for zones with pages.",
        inputs=INPUTS,
        observed="proc/zoneinfo, start_pfn",
        model=_LAYOUT_MODEL,
        judge=_zone_number("zone_start_pfn", lambda zone: zone.start_pfn, "start_pfn"),
    ),
    Rule(
        id="zone_spanned",
        says="A zone spans the page frames from its first to its last, holes included: the node "
        "between the zone's limits, the limits themselves where they lie in a hole.",
        inputs=INPUTS,
        observed="proc/zoneinfo, spanned",
        model=_LAYOUT_MODEL,
        judge=_zone_number("zone_spanned", lambda zone: zone.spanned_pages, "spanned"),
    ),
    Rule(
        id="zone_present",
        says="Of the page frames a zone spans those are present that memory of its node stands "
        "for: spanned pages less holes and less what other nodes have in between.",
        inputs=INPUTS,
        observed="proc/zoneinfo, present",
        model=_LAYOUT_MODEL,
        judge=_zone_number("zone_present", lambda zone: zone.present_pages, "present"),
    ),
)
