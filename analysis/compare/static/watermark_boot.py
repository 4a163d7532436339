"""Managed pages at the moments of a boot at which watermarks are computed.

zoneinfo shows what is managed now. Some of it came later than the computation: the initrd, the
kernel's init memory. dmesg says how many pages each of these had, the memory map where they lay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from analysis.capture.snapshot import Snapshot
from analysis.errors import MissingInputError
from analysis.model.min_free import holds_buffers
from analysis.model.watermark import ZoneKey

_FREEING = re.compile(r"(?:efi: )?Freeing (.+) memory: (\d+)K\b")
_BEFORE_INITCALLS = ("SMP alternatives",)
_WITH_KERNEL = re.compile(r"unused (kernel|decrypted)\b")
_EFI = "EFI boot services"
_MEMORY = re.compile(r"Memory: \d+K/(\d+)K available")
_RAMDISK = re.compile(r"(?:Allocated new )?RAMDISK: \[mem 0x([0-9a-f]+)-0x[0-9a-f]+\]")
_GIGANTIC = re.compile(r"HugeTLB: registered 1[.0-9]* GiB page size, pre-allocated (\d+) pages")
_LATER: Mapping[re.Pattern[str], str] = {
    re.compile(r"software IO TLB: tearing down"): "the bounce buffers of swiotlb were given back",
    re.compile(r"deferred_init=\S*: \d+ pages left"): (
        "memory was left to be handed over on demand, which no release that was compared does"
    ),
}
_SWIOTLB = re.compile(r"software IO TLB: mapped")
_SWIOTLB_USED = re.compile(r"PCI-DMA: Using software bounce buffering")
_RESERVED = re.compile(r"^\s+([0-9a-f]+)-([0-9a-f]+) : reserved$", re.MULTILINE)
_KERNEL = re.compile(r"^\s+([0-9a-f]+)-([0-9a-f]+) : Kernel ", re.MULTILINE)
_X86_KERNEL_BYTES_MIN = 16 << 20
"""No x86 kernel image begins below, with or without a random base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Memory that came to the page allocator after the initcalls that compute watermarks."""

    label: str
    pages: int
    zones: tuple[ZoneKey, ...]
    """Where it lay; several: the capture does not say which of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootManaged:
    """One possibility of what was managed at boot."""

    first_pages: Mapping[ZoneKey, int]
    """At postcore_initcall time."""
    first_zones_known: bool
    """False: only the total of ``first_pages`` is right, not each zone's share."""
    pages: Mapping[ZoneKey, int]
    """At subsys_initcall time."""
    working: tuple[str, ...]


def managed_now(snapshot: Snapshot) -> dict[ZoneKey, int]:
    """Managed pages of every zone, as zoneinfo shows them.

    Raises:
        MissingInputError: it shows none of the zones that every machine has.
    """
    managed = {
        (zone.node, zone.zone): zone.pages["managed"]
        for zone in snapshot.zoneinfo.zones
        if "managed" in zone.pages
    }
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
    later = tuple(_handed_over(snapshot, now))
    efi_pages = _pages_of(snapshot, (_EFI,))
    gigantic_pages = _gigantic_pages(snapshot)
    # Pieces of the kernel's image lie together: one choice of a zone counts for all of them.
    groups = list(dict.fromkeys(piece.zones for piece in later))
    found = []
    for choice in product(*groups):
        chosen = dict(zip(groups, choice, strict=True))
        pages = dict(now)
        for piece in later:
            pages[chosen[piece.zones]] -= piece.pages
        if min(pages.values(), default=0) < 0:
            continue
        first = dict(pages)
        early = efi_pages + gigantic_pages
        if early:
            largest = max(
                (key for key in first if holds_buffers(key[1])), key=lambda key: first[key]
            )
            first[largest] -= early
        found.append(
            BootManaged(
                first_pages=first,
                first_zones_known=not early or len([n for n in pages.values() if n]) == 1,
                pages=pages,
                working=tuple(_working(later, chosen, efi_pages, gigantic_pages)),
            )
        )
    if not found:
        raise MissingInputError("where the memory lay that was handed over after boot")
    return tuple(found)


def _working(
    later: Sequence[HandOver],
    chosen: Mapping[tuple[ZoneKey, ...], ZoneKey],
    efi_pages: int,
    gigantic_pages: int,
) -> Iterator[str]:
    for piece in later:
        node, zone = chosen[piece.zones]
        guessed = f" (or in {len(piece.zones) - 1} other zones)" if len(piece.zones) > 1 else ""
        yield (
            f"  not managed yet: {piece.label}, {piece.pages} pages of node {node} {zone}{guessed}"
        )
    if efi_pages:
        yield f"  nor, at the first computation: EFI boot services, {efi_pages} pages"
    if gigantic_pages:
        yield f"  nor, at the first computation: gigantic huge pages, {gigantic_pages} pages"


def _check_present(snapshot: Snapshot) -> None:
    """That no memory was plugged or taken offline since boot."""
    said = [int(match[1]) for match in snapshot.dmesg.matching(_MEMORY)]
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


def _pages_of(snapshot: Snapshot, labels: Sequence[str]) -> int:
    return sum(
        int(match[2]) // snapshot.page_kib
        for match in snapshot.dmesg.matching(_FREEING)
        if match[1] in labels
    )


def _gigantic_pages(snapshot: Snapshot) -> int:
    """Pages in huge pages that boot memory was set aside for; managed from hugetlb_init on."""
    count = sum(int(match[1]) for match in snapshot.dmesg.matching(_GIGANTIC))
    return count * ((1 << 30) // snapshot.page_size_bytes)


def _handed_over(snapshot: Snapshot, managed: Mapping[ZoneKey, int]) -> Iterator[HandOver]:
    for match in snapshot.dmesg.matching(_FREEING):
        label, pages = match[1], int(match[2]) // snapshot.page_kib
        if label in (*_BEFORE_INITCALLS, _EFI):
            continue
        if label == "initrd":
            zones = _initrd_zones(snapshot, managed, pages)
        elif _WITH_KERNEL.match(label):
            zones = _kernel_zones(snapshot, managed)
        else:
            raise MissingInputError(f"when, before or after the initcalls, {label!r} was freed")
        yield HandOver(label=label, pages=pages, zones=zones)


def _kernel_zones(snapshot: Snapshot, managed: Mapping[ZoneKey, int]) -> tuple[ZoneKey, ...]:
    iomem = snapshot.source.text("proc/iomem") or ""
    starts = [int(match[1], 16) for match in _KERNEL.finditer(iomem)]
    if any(starts):
        return _zones_at(snapshot, min(starts)) or _any_zone(managed)
    if snapshot.arch in ("x86_64", "i386"):
        return tuple(
            zone for zone in _any_zone(managed) if _reaches(snapshot, zone, _X86_KERNEL_BYTES_MIN)
        )
    return _any_zone(managed)


def _initrd_zones(
    snapshot: Snapshot, managed: Mapping[ZoneKey, int], pages: int
) -> tuple[ZoneKey, ...]:
    starts = [int(match[1], 16) for match in snapshot.dmesg.matching(_RAMDISK)]
    if starts:
        return _zones_at(snapshot, starts[-1]) or _any_zone(managed)
    # Architectures that do not print the place keep its reservation in the memory map.
    regions = [
        (int(match[1], 16), int(match[2], 16) + 1)
        for match in _RESERVED.finditer(snapshot.source.text("proc/iomem") or "")
    ]
    size = pages * snapshot.page_size_bytes
    ends = 2 * snapshot.page_size_bytes  # the first and last page may be another's in part
    fitting = [start for start, end in regions if size <= end - start <= size + ends]
    larger = [start for start, end in regions if size <= end - start]
    zones = [zone for start in fitting or larger for zone in _zones_at(snapshot, start)]
    return tuple(dict.fromkeys(zones)) or _any_zone(managed)


def _any_zone(managed: Mapping[ZoneKey, int]) -> tuple[ZoneKey, ...]:
    """Where the kernel and its initrd may lie: in mapped memory, so not in highmem."""
    outside = ("HighMem", "Device")
    return tuple(key for key, pages in managed.items() if pages and key[1] not in outside)


def _zones_at(snapshot: Snapshot, address: int) -> tuple[ZoneKey, ...]:
    """The zones that span an address: one, unless nodes lie interleaved."""
    pfn = address // snapshot.page_size_bytes
    return tuple(
        (zone.node, zone.zone)
        for zone in snapshot.zoneinfo.zones
        if zone.pages.get("managed")
        and zone.tail["start_pfn"] <= pfn < zone.tail["start_pfn"] + zone.pages["spanned"]
    )


def _reaches(snapshot: Snapshot, key: ZoneKey, address: int) -> bool:
    """Whether a zone has pages at or above an address."""
    pfn = address // snapshot.page_size_bytes
    return any(
        zone.tail["start_pfn"] + zone.pages["spanned"] > pfn
        for zone in snapshot.zoneinfo.zones
        if (zone.node, zone.zone) == key and zone.tail
    )
