"""What a capture tells of the hand-over: memory, what was reserved then, what was freed later."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import unknown
from analysis.compare.static.layout.capture import LayoutInputError, LayoutUnknownError
from analysis.errors import MissingInputError
from analysis.model.handover.eras_handover import handover_era_of
from analysis.model.handover.freed import handed_over
from analysis.model.handover.memblock import Region, RegionList, add, gaps, region_list, remove
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, merged
from analysis.model.layout.zones import ZoneLayout
from analysis.procfs import boot_messages, iomem, memblock_log, memblock_regions
from analysis.procfs.boot_messages import BootMessages, Freeing, MemoryLine
from analysis.procfs.iomem import Iomem, Resource
from analysis.procfs.memblock_log import LoggedRegion, MemblockCall, MemblockDump, MemblockLog

DEBUGFS = "sys/kernel/debug/memblock"

_ALLOCATOR_UP = re.compile(r"SLUB: HWalign=|Memory: ")
"""Printed when memblock has handed over: the first thing that the slab allocator says, or the
``Memory:`` line where that comes before."""
_END = 1 << 60


class HandoverUnknownError(Exception):
    """An input says that memory came or went in a way that the rules here do not follow; or
    (``lacking``) that the kernel shows no such thing."""

    def __init__(self, why: str, *, lacking: bool = False) -> None:
        super().__init__(why)
        self.lacking = lacking


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What memblock held back at the hand-over."""

    regions: tuple[Region, ...]
    source: str
    freed_late: tuple[Span, ...] = ()
    """Ranges that calls after the hand-over gave back, in bytes."""


def guarded(
    rule_id: str, judge: Callable[[Snapshot], Iterator[Claim]]
) -> Callable[[Snapshot], list[Claim]]:
    """The judge; unknown where memory came or went in a way that is not followed."""

    def judged(snapshot: Snapshot) -> list[Claim]:
        try:
            return list(judge(snapshot))
        except HandoverUnknownError as error:
            return [unknown(rule_id, why=str(error), lacking=error.lacking)]
        except LayoutUnknownError as error:
            return [unknown(rule_id, why=str(error), lacking=isinstance(error, LayoutInputError))]

    return judged


def boot(snapshot: Snapshot) -> BootMessages:
    """What the kernel said of its memory while it booted.

    Raises:
        MissingInputError: there are no messages, or they end before the hand-over.
    """
    _check_end(snapshot)
    return snapshot.parsed("dmesg", boot_messages.parse)


def _check_end(snapshot: Snapshot) -> None:
    if not snapshot.dmesg.tells_layout:
        raise MissingInputError("dmesg up to where the slab allocator starts (its end is lost)")


def memblock_calls(snapshot: Snapshot) -> MemblockLog:
    """What memblock said of itself; without calls where it was not asked to.

    Raises:
        MissingInputError: as ``boot``.
    """
    _check_end(snapshot)
    return snapshot.parsed("dmesg", memblock_log.parse)


def memory_line(snapshot: Snapshot) -> MemoryLine:
    """The ``Memory:`` line.

    Raises:
        MissingInputError: dmesg is missing, or has lost the line.
    """
    line = boot(snapshot).memory
    if line is None:
        raise MissingInputError("dmesg with its 'Memory: …K available' line")
    return line


def zones(snapshot: Snapshot) -> tuple[ZoneLayout, ...]:
    """The zones that zoneinfo shows, those without pages too."""
    return tuple(
        ZoneLayout(
            node=zone.node,
            zone=zone.zone,
            start_pfn=zone.tail.get("start_pfn", 0),
            spanned_pages=zone.pages.get("spanned", 0),
            present_pages=zone.pages.get("present", 0),
        )
        for zone in snapshot.zoneinfo.zones
    )


def boot_memory(snapshot: Snapshot) -> tuple[NodeSpan, ...]:
    """Memory at boot in pages, each range with its node (dmesg, ``Early memory node ranges``).

    Raises:
        MissingInputError: dmesg is missing, or has lost the ranges.
        HandoverUnknownError: memory came or went since.
    """
    page = snapshot.page_size_bytes
    ranges = tuple(
        NodeSpan(line.node, -(-line.base // page), line.end // page)
        for line in boot(snapshot).node_ranges
    )
    if not ranges:
        raise MissingInputError("dmesg with its 'Early memory node ranges'")
    at_boot = sum(end - start for _, start, end in ranges)
    present = sum(zone.present_pages for zone in zones(snapshot))
    if at_boot != present:
        raise HandoverUnknownError(
            f"memory came or went after boot: {at_boot} pages then, {present} present now"
        )
    return ranges


def handover_index(snapshot: Snapshot) -> int:
    """Index of the first message after the hand-over.

    Raises:
        MissingInputError: dmesg has lost it.
    """
    for at, message in enumerate(boot(snapshot).log.messages):
        if _ALLOCATOR_UP.match(message.text):
            return at
    raise MissingInputError("dmesg from the start of the slab allocator on")


def regions(logged: Iterable[LoggedRegion]) -> tuple[Region, ...]:
    """Regions of a dump, for the model."""
    return tuple(Region(r.base, r.end, r.node, r.flags) for r in logged)


def replayed(
    memory: RegionList, reserved: RegionList, calls: Iterable[MemblockCall]
) -> tuple[RegionList, RegionList]:
    """Both lists after some calls."""
    for call in calls:
        name = call.function.lstrip("_")
        region = Region(call.base, call.end, call.node, call.flags)
        if region.size <= 0:
            continue
        span = Span(call.base, call.end)
        if name in ("memblock_add", "memblock_add_node"):
            memory = add(memory, region)
        elif name == "memblock_remove":
            memory = remove(memory, span)
        elif name == "memblock_reserve":
            reserved = add(reserved, region)
        elif name in ("memblock_free", "memblock_phys_free"):
            reserved = remove(reserved, span)
    return memory, reserved


def dump_lists(dump: MemblockDump) -> tuple[RegionList, RegionList]:
    """Both lists as a dump shows them."""
    return region_list(regions(dump.memory)), region_list(regions(dump.reserved))


def calls_between(snapshot: Snapshot, start: int, end: int) -> Iterator[MemblockCall]:
    """The calls that messages from ``start`` to before ``end`` tell of."""
    for event in memblock_calls(snapshot).events:
        if isinstance(event, MemblockCall) and start <= event.at < end:
            yield event


def reserved_at_handover(snapshot: Snapshot) -> Reserved:
    """What was reserved when memory was handed over.

    Raises:
        MissingInputError: neither memblock's log nor (arm64) /proc/iomem tells.
    """
    dumps = memblock_calls(snapshot).dumps
    if dumps:
        up = handover_index(snapshot)
        last = [dump for dump in dumps if dump.at < up][-1]
        _, reserved = replayed(*dump_lists(last), calls_between(snapshot, last.at, up))
        late = [
            Span(call.base, call.end)
            for call in calls_between(snapshot, up, _END)
            if call.function.lstrip("_") in _late_functions(snapshot)
        ]
        return Reserved(
            regions=reserved.regions,
            source="dmesg, memblock=debug: the last dump and the calls from there to the hand-over",
            freed_late=tuple(late),
        )
    if snapshot.arch != "arm64":
        raise MissingInputError("dmesg of a boot with memblock=debug")
    return _reserved_of_iomem(snapshot)


def _reserved_of_iomem(snapshot: Snapshot) -> Reserved:
    """arm64: what lies inside System RAM was reserved, but for the page tables of the first
    moments, which end the kernel's data and are free again; debugfs has the image without them."""
    tree = iomem_tree(snapshot)
    inner = [resource for ram in _ram(tree) for resource in below(tree, ram)]
    source = "proc/iomem: what lies inside System RAM"
    spans = [Span(resource.start, resource.end) for resource in inner]
    kept = debugfs_reserved(snapshot)
    if kept is not None:
        image = kernel_image(snapshot)
        spans = [
            Span(resource.start, resource.end)
            for resource in inner
            if not resource.name.startswith("Kernel ")
        ]
        spans += [Span(max(r.base, image.start), min(r.end, image.end)) for r in kept]
        source += f"; of the kernel's image, {DEBUGFS}/reserved"
    elif handover_era_of(snapshot.release).arm64_frees_init_tables:
        raise MissingInputError(f"{DEBUGFS}/reserved")
    spans += _not_mapped(snapshot, tree)
    return Reserved(
        regions=tuple(Region(span.start, span.end) for span in merged(spans)), source=source
    )


def _late_functions(snapshot: Snapshot) -> tuple[str, ...]:
    """The calls that give pages to the buddy once it is there."""
    if handover_era_of(snapshot.release).late_free_hands_over:
        return ("memblock_free_late", "memblock_phys_free")
    return ("memblock_free_late",)


def _not_mapped(snapshot: Snapshot, tree: Iomem) -> Iterator[Span]:
    """Memory that is not System RAM: regions that nobody may map (MEMBLOCK_NOMAP)."""
    page = snapshot.page_size_bytes
    ram = tuple(Region(resource.start, resource.end) for resource in _ram(tree))
    for _, start, end in boot_memory(snapshot):
        yield from gaps(ram, Span(start * page, end * page))


def iomem_tree(snapshot: Snapshot) -> Iomem:
    """/proc/iomem, with addresses.

    Raises:
        MissingInputError: it is missing, or was read by somebody who may not see addresses.
    """
    tree = snapshot.parsed("proc/iomem", iomem.parse)
    if tree.hidden:
        raise MissingInputError("proc/iomem as root reads it: its addresses are hidden")
    return tree


def below(tree: Iomem, outer: Resource) -> Iterator[Resource]:
    """The resources right below one."""
    for resource in tree.resources[tree.resources.index(outer) + 1 :]:
        if resource.depth <= outer.depth:
            return
        if resource.depth == outer.depth + 1:
            yield resource


def _ram(tree: Iomem) -> list[Resource]:
    return [r for r in tree.resources if r.depth == 0 and r.name == "System RAM"]


def kernel_image(snapshot: Snapshot) -> Span:
    """From the first to the last byte of the kernel's code and data.

    Raises:
        MissingInputError: /proc/iomem does not show it.
    """
    parts = [r for r in iomem_tree(snapshot).resources if r.name.startswith("Kernel ")]
    if not parts:
        raise MissingInputError("proc/iomem with the kernel's code and data")
    return Span(min(part.start for part in parts), max(part.end for part in parts))


def debugfs_reserved(snapshot: Snapshot) -> tuple[Region, ...] | None:
    """What memblock holds reserved now, where the architecture keeps it and the capture has it."""
    name = f"{DEBUGFS}/reserved"
    if not snapshot.has(name):
        return None
    return tuple(Region(r.base, r.end) for r in snapshot.parsed(name, memblock_regions.parse))


def freed_since(snapshot: Snapshot, at: int) -> tuple[Freeing, ...]:
    """The ``Freeing … memory`` lines after a message."""
    return tuple(free for free in boot(snapshot).freeing if free.at > at)


def given(snapshot: Snapshot, reserved: Reserved) -> tuple[NodeSpan, ...]:
    """Page frames that the buddy got at the hand-over."""
    return handed_over(boot_memory(snapshot), reserved.regions, snapshot.page_size_bytes)


def shown(spans: Sequence[Span] | Sequence[Region], limit: int = 12) -> str:
    """Ranges as the kernel's log writes them; the first ones where there are many."""
    texts = []
    for item in spans[:limit]:
        base, end = (item.base, item.end) if isinstance(item, Region) else item
        texts.append(f"{base:#x}-{end - 1:#x}")
    more = f" … ({len(spans)} in all)" if len(spans) > limit else ""
    return " ".join(texts) + more
