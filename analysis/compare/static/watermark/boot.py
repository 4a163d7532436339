"""Managed pages at the moments of a boot at which watermarks are computed.

zoneinfo shows what is managed now. Some of it came later than the computation: the initrd, the
kernel's init memory. ``analysis.compare.late_frees`` says what, how much, and where it lay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.moments.boot_places import ZoneKey
from analysis.compare.static.moments.late_frees import (
    LateFree,
    Step,
    late_frees,
    placements,
    spread_frees,
)
from analysis.errors import MissingInputError
from analysis.model.min_free import holds_buffers

_MEMORY = re.compile(r"Memory: (\d+)K/(\d+)K available")
_LATER: Mapping[re.Pattern[str], str] = {
    re.compile(r"software IO TLB: tearing down"): "the bounce buffers of swiotlb were given back",
    re.compile(r"deferred_init=\S*: \d+ pages left"): (
        "memory was left to be handed over on demand, which no release that was compared does"
    ),
}
_SWIOTLB = re.compile(r"software IO TLB: mapped")
_SWIOTLB_USED = re.compile(r"PCI-DMA: Using software bounce buffering")
_PLACEMENTS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BootManaged:
    """One possibility of what was managed at boot."""

    first_pages: Mapping[ZoneKey, int]
    """When the watermarks are first computed (``Step.WATERMARKS``)."""
    first_zones_known: bool
    """False: only the total of ``first_pages`` is right, not each zone's share."""
    pages: Mapping[ZoneKey, int]
    """When transparent huge pages are set up (``Step.HUGE_PAGES``)."""
    working: tuple[str, ...]


def managed_now(snapshot: Snapshot) -> dict[ZoneKey, int]:
    """Managed pages of every zone, as zoneinfo shows them.

    Raises:
        MissingInputError: it shows none of the zones that every machine has, or not what one of
            its zones manages.
    """
    for zone in snapshot.zoneinfo.zones:
        if "managed" not in zone.pages:
            raise MissingInputError(
                f"managed pages of node {zone.node} {zone.zone} in proc/zoneinfo"
            )
    managed = {(zone.node, zone.zone): zone.pages["managed"] for zone in snapshot.zoneinfo.zones}
    if not any(pages and holds_buffers(zone) for (_, zone), pages in managed.items()):
        raise MissingInputError("managed pages of the whole machine in proc/zoneinfo")
    return managed


def boot_managed(snapshot: Snapshot) -> tuple[BootManaged, ...]:
    """What was managed when the watermarks were computed at boot, in every way that is possible.

    Raises:
        MissingInputError: the messages of the boot are not there, or say that pages came or went
            of which the number is not known.
    """
    _check_present(snapshot)
    for pattern, what in _LATER.items():
        if any(snapshot.dmesg.matching(pattern)):
            raise MissingInputError(f"how many pages were managed at boot: {what}")
    _check_nothing_else_came(snapshot)
    now = managed_now(snapshot)
    frees = late_frees(snapshot, Step.WATERMARKS)
    spread = spread_frees(snapshot, Step.WATERMARKS)
    late_pages = sum(free.pages for free in frees if free.missed >= Step.HUGE_PAGES)
    _check_nothing_went(snapshot, sum(now.values()) - late_pages)
    for free in spread:
        if free.missed >= Step.HUGE_PAGES:
            raise MissingInputError(
                f"how many pages each zone managed at boot: {free.name}, {free.pages} pages, was "
                f"handed over later, and nothing says where it lay"
            )
    if prod(len(free.zones) for free in frees) > _PLACEMENTS_MAX:
        raise MissingInputError("where the memory lay that was handed over after boot")
    found: list[BootManaged] = []
    for placed in placements(frees):
        pages, first = dict(now), dict(now)
        for key, pieces in placed.items():
            first[key] -= sum(piece.pages for piece in pieces)
            pages[key] -= sum(piece.pages for piece in pieces if piece.missed >= Step.HUGE_PAGES)
        if min(first.values(), default=0) < 0:
            continue
        early = sum(free.pages for free in spread)
        if early:
            largest = max(
                (key for key in first if holds_buffers(key[1])), key=lambda key: first[key]
            )
            first[largest] -= early
        one = BootManaged(
            first_pages=first,
            first_zones_known=not early or len([n for n in pages.values() if n]) == 1,
            pages=pages,
            working=tuple(_working(placed, spread)),
        )
        if not any((one.pages, one.first_pages) == (has.pages, has.first_pages) for has in found):
            found.append(one)
    if not found:
        raise MissingInputError("where the memory lay that was handed over after boot")
    return tuple(found)


def _working(
    placed: Mapping[ZoneKey, tuple[LateFree, ...]], spread: tuple[LateFree, ...]
) -> Iterator[str]:
    for (node, zone), pieces in placed.items():
        for piece in pieces:
            others = len(piece.zones) - 1
            guessed = f" (or in {others} other zones)" if others else ""
            when = "not managed yet"
            if piece.missed < Step.HUGE_PAGES:
                when = "nor, at the first computation"
            yield f"  {when}: {piece.name}, {piece.pages} pages of node {node} {zone}{guessed}"
    for free in spread:
        yield f"  nor, at the first computation: {free.name}, {free.pages} pages"


def _check_present(snapshot: Snapshot) -> None:
    """That no memory was plugged or taken offline since boot."""
    said = [int(match[2]) for match in snapshot.dmesg.matching(_MEMORY)]
    present_kib = snapshot.page_kib * sum(
        zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones
    )
    if not said:
        raise MissingInputError("dmesg from the message on that begins with 'Memory:'")
    if said[0] != present_kib:
        raise MissingInputError(
            f"how many pages were managed at boot: there were {said[0]} KiB present then, now "
            f"there are {present_kib}: memory was plugged or taken offline"
        )


def _check_nothing_went(snapshot: Snapshot, early_pages: int) -> None:
    """That no fewer pages are managed, but for late ones, than were free in the boot."""
    (match, *_) = snapshot.dmesg.matching(_MEMORY)
    free_pages = int(match[1]) // snapshot.page_kib
    if early_pages < free_pages:
        raise MissingInputError(
            f"how many pages were managed at boot: {free_pages} were free then, {early_pages} of "
            f"them are managed now: a balloon or somebody else took some"
        )


def _check_nothing_else_came(snapshot: Snapshot) -> None:
    """That managed pages changed by nothing of which no message says how much."""
    counters = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    meminfo = snapshot.meminfo.values if snapshot.has("proc/meminfo") else {}
    optimizing = "vm/hugetlb_optimize_vmemmap"
    cause = None
    if counters.get("balloon_inflate") or counters.get("balloon_deflate"):
        cause = "a balloon took or gave some"
    elif snapshot.has("proc/cmdline") and snapshot.cmdline.has("bootconfig"):
        cause = "the boot configuration's memory was given back"
    elif (
        meminfo.get("Hugetlb")
        and snapshot.has_sysctl(optimizing)
        and snapshot.sysctl_number(optimizing)
    ):
        cause = "struct pages of huge pages were given back"
    elif (
        any(snapshot.dmesg.matching(_SWIOTLB))
        and snapshot.arch == "x86_64"
        and not any(snapshot.dmesg.matching(_SWIOTLB_USED))
    ):
        # 5.10 gives them back without a message where an IOMMU does their work.
        cause = "the bounce buffers of swiotlb were given back"
    if cause is not None:
        raise MissingInputError(f"how many pages were managed at boot: {cause}")
