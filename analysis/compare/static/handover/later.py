"""What came to each zone after the hand-over, and whether all of it is told of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.handover.inputs import (
    HandoverUnknownError,
    Reserved,
    boot,
    boot_memory,
    calls_between,
    debugfs_reserved,
    freed_since,
    handover_index,
    kernel_image,
    memblock_calls,
    memory_line,
    zones,
)
from analysis.errors import MissingInputError
from analysis.model.handover.freed import ZoneKey, pages_by_zone
from analysis.model.handover.memblock import Region, gaps
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_down, align_up, merged
from analysis.procfs.boot_messages import Freeing

_END = 1 << 60
_TORN_DOWN = re.compile(r"software IO TLB: tearing down")
_BALLOONS = re.compile(r"hv_balloon: |xen:balloon: ")
_IMAGE = ("SMP alternatives", "unused kernel", "unused decrypted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Pages that came to a zone after the hand-over."""

    name: str
    pages: int
    by_zone: Mapping[ZoneKey, int]


def check_nothing_untold(snapshot: Snapshot) -> None:
    """Whether all that was freed or taken after the hand-over is told of.

    Raises:
        HandoverUnknownError: something else changed what is managed.
        MissingInputError: the messages end before the boot does.
    """
    said = boot(snapshot)
    if not said.log.reaches_init:
        raise MissingInputError("dmesg up to where init is run")
    if any(True for _ in said.log.matching(_TORN_DOWN)):
        raise HandoverUnknownError("the software IO TLB was given back, which no line counts")
    ballooned = snapshot.has("proc/vmstat") and snapshot.vmstat.values.get("balloon_inflate", 0)
    if ballooned or any(True for _ in said.log.matching(_BALLOONS)):
        raise HandoverUnknownError("a balloon takes pages from what is managed")
    told = any(free.name == "EFI boot services" for free in said.freeing)
    told = told or bool(memblock_calls(snapshot).events)
    if said.efi and snapshot.arch in ("x86_64", "i386") and not told:
        raise HandoverUnknownError(
            "booted by EFI: the boot services' memory was given back, which no line counts"
        )
    if snapshot.cmdline.has("hugepages"):
        raise HandoverUnknownError("huge pages of the command line may come from memblock")
    if snapshot.cmdline.has("bootconfig"):
        raise HandoverUnknownError("bootconfig's memory is given back, which no line counts")
    if (
        snapshot.has_sysctl("vm/hugetlb_optimize_vmemmap")
        and snapshot.sysctl_number("vm/hugetlb_optimize_vmemmap")
        and snapshot.meminfo.values.get("HugePages_Total", 0)
    ):
        raise HandoverUnknownError("huge pages gave parts of the memmap back")


def later(snapshot: Snapshot, reserved: Reserved) -> tuple[Later, ...]:
    """What came to each zone after the hand-over: what the image needed to start, the initrd, CMA.

    Raises:
        HandoverUnknownError: where something lay is not in the capture.
        MissingInputError: as ``kernel_image``.
    """
    check_nothing_untold(snapshot)
    found: list[Later] = []
    for free in freed_since(snapshot, handover_index(snapshot)):
        pages = free.kib // snapshot.page_kib
        if free.name == "initrd":
            start = _initrd_pfn(snapshot, reserved, pages)
            span = None if start is None else Span(start, start + pages)
        elif free.name.startswith(_IMAGE):
            span = _page_span(kernel_image(snapshot), snapshot.page_size_bytes)
        else:
            span = None
        found.append(Later(name=free.name, pages=pages, by_zone=_placed(snapshot, free, span)))
    for call in reserved.freed_late:
        whole = _inner_span(call, snapshot.page_size_bytes)
        counts = _in_zones(snapshot, whole)
        found.append(Later(name=f"{call.start:#x}", pages=sum(counts.values()), by_zone=counts))
    found += _cma(snapshot)
    return tuple(found)


def _cma(snapshot: Snapshot) -> Iterator[Later]:
    areas = boot(snapshot).cma
    told = sum(area.mib for area in areas) * 1024
    if told != memory_line(snapshot).cma_kib:
        raise HandoverUnknownError(
            f"where the contiguous areas lie: {told} KiB of "
            f"{memory_line(snapshot).cma_kib} are told of"
        )
    for area in areas:
        if area.base is None:
            raise HandoverUnknownError("a contiguous area has several ranges, which are not told")
        start = area.base // snapshot.page_size_bytes
        pages = area.mib * 1024 // snapshot.page_kib
        counts = _in_zones(snapshot, Span(start, start + pages))
        yield Later(name="CMA", pages=pages, by_zone=counts)


def _initrd_pfn(snapshot: Snapshot, reserved: Reserved, pages: int) -> int | None:
    """First page of the initrd: told on x86, elsewhere by the call that frees it, by what debugfs
    holds no more, or by its size."""
    page = snapshot.page_size_bytes
    disk = boot(snapshot).ramdisk
    if disk is not None:
        if align_up(disk.end, page) - align_down(disk.base, page) != pages * page:
            raise HandoverUnknownError("not all of the initrd was given back, or it was moved")
        return disk.base // page
    for call in calls_between(snapshot, handover_index(snapshot), _END):
        if 0 <= call.end - call.base - pages * page < 2 * page:
            return call.base // page
    kept = debugfs_reserved(snapshot)
    if kept is None:
        return initrd_by_size(reserved.regions, pages, page)
    image = kernel_image(snapshot)
    gone = [
        gap
        for region in reserved.regions
        for gap in gaps(kept, Span(region.base, region.end))
        if not image.start <= gap.start < image.end and gap.size >= pages * page
    ]
    return gone[0].start // page if len(gone) == 1 else None


def initrd_by_size(regions: Iterable[Region], pages: int, page: int) -> int | None:
    """First page of the only reserved range that is as large as the initrd, or a page larger at
    each end; None where there is none, or several."""
    fitting = [
        span
        for span in merged(Span(region.base, region.end) for region in regions)
        if 0 <= span.size - pages * page <= 2 * page
    ]
    return -(-fitting[0].start // page) if len(fitting) == 1 else None


def _placed(snapshot: Snapshot, free: Freeing, span: Span | None) -> Mapping[ZoneKey, int]:
    pages = free.kib // snapshot.page_kib
    populated = [zone for zone in zones(snapshot) if zone.present_pages]
    if len(populated) == 1:
        return {(populated[0].node, populated[0].zone): pages}
    if span is None:
        raise HandoverUnknownError(f"where the {free.name} memory lay is not in the capture")
    counts = {key: count for key, count in _in_zones(snapshot, span).items() if count}
    if len(counts) == 1:
        return dict.fromkeys(counts, pages)
    if span.size == pages and sum(counts.values()) == pages:
        return counts
    raise HandoverUnknownError(f"the {free.name} memory lay in one of several zones")


def _in_zones(snapshot: Snapshot, span: Span) -> Mapping[ZoneKey, int]:
    parts = [
        NodeSpan(node, max(start, span.start), min(end, span.end))
        for node, start, end in boot_memory(snapshot)
        if max(start, span.start) < min(end, span.end)
    ]
    return pages_by_zone(parts, zones(snapshot))


def _page_span(span: Span, page: int) -> Span:
    return Span(span.start // page, -(-span.end // page))


def _inner_span(span: Span, page: int) -> Span:
    return Span(-(-span.start // page), span.end // page)
