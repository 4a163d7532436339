"""Boot memory that zones got step by step, while the kernel computed sizes from what they managed.

Watermarks, reserves and the sizes of per-cpu lists are computed early in a boot, from the pages
that zones manage then. What the firmware held, the initrd and the kernel's init memory come later:
``managed`` of /proc/zoneinfo has them, what was computed before does not. This module says which
memory each step of a boot did not see yet, how much it was, and where it lay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import product

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.moments.boot_places import Places, ZoneKey
from analysis.errors import MissingInputError
from analysis.model.release import Release
from analysis.procfs.zoneinfo import Zone

_FREEING = re.compile(r"(?:efi: )?Freeing (.+) memory: (\d+)K\b")
_CMA = re.compile(r"cma: Reserved (\d+) MiB at (?:0x)?([0-9a-f]+)")
_CMA_LATER_THAN_WATERMARKS = Release(5, 8)
"""The release from which on CMA areas are handed over before the watermarks are computed."""
_CPUS_UP = re.compile(r"smp: Brought up \d+ node")
"""The CPUs are there, the initcalls follow."""
_GIGANTIC = re.compile(r"HugeTLB:? registered (\d+)\.00 GiB page size, pre-allocated (\d+) pages")
_DEFERRED = re.compile(r"node (\d+) initialised, (\d+) pages in \d+ms")
_DEFERRED_UNCOUNTED = re.compile(r"node \d+ deferred pages initialised")
_MEMORY = re.compile(r"Memory: (\d+)K/\d+K available")
_MEMORY_OF_CMA = re.compile(r"Memory: \d+K/\d+K available \(.*?(\d+)K cma-reserved")
_COUNTS_ALL = Release(6, 1)
"""The newest release compared that prints it before anything was allocated."""
_SWIOTLB_ANNOUNCED = Release(5, 15)
_SWIOTLB_USED = re.compile(r"PCI-DMA: Using software bounce buffering")
_SWIOTLB_SLABS = 32768
"""Slabs of 2 KiB, unless a parameter asks for others; each has 8 and 4 bytes in two tables."""
_EFI_BOOT = re.compile(r"efi: EFI v\d")
_EFI = "EFI boot services"
_SMP = "SMP alternatives"
_INIT = re.compile(r"unused (?:kernel|decrypted)\b")


class Step(IntEnum):
    """The steps of a boot that compute from managed pages, in the kernel's order.

    Kernel: init/main.c, ``start_kernel`` and ``kernel_init_freeable``; 4.19, 5.10 to 7.3.
    """

    LISTS = 0
    """``setup_per_cpu_pageset``: struct pages may still be deferred."""
    DEFERRED = 1
    """``page_alloc_init_late``: all struct pages are there, no initcall ran."""
    WATERMARKS = 2
    """``init_per_zone_wmark_min``, a core or postcore initcall."""
    HUGE_PAGES = 3
    """``hugepage_init``, a subsys initcall: it may compute the watermarks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFree:
    """Pages that came to a zone after some step of the boot."""

    name: str
    pages: int
    zones: tuple[ZoneKey, ...]
    """The zone that holds them; all that may where the capture does not tell. Empty: nothing says
    how they are spread over the zones."""
    missed: Step = Step.HUGE_PAGES
    """The last step that did not see them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Managed pages of a zone at some moment, and how they follow from those now."""

    managed_pages: int
    working: str


def late_frees(snapshot: Snapshot, step: Step = Step.HUGE_PAGES) -> tuple[LateFree, ...]:
    """What a step of the boot did not see yet, of which a message says how much and where.

    Raises:
        MissingInputError: no dmesg, or one that does not reach back to the hand-over, or speaks of
            memory of which nothing says when it came.
    """
    return tuple(free for free in _frees(snapshot) if free.zones and free.missed >= step)


def spread_frees(snapshot: Snapshot, step: Step = Step.HUGE_PAGES) -> tuple[LateFree, ...]:
    """What a step did not see, of zones that no message tells of.

    Raises:
        MissingInputError: as ``late_frees``.
    """
    return tuple(free for free in _frees(snapshot) if not free.zones and free.missed >= step)


def defers_struct_pages(snapshot: Snapshot) -> bool | None:
    """Whether struct pages are deferred until the CPUs are up; None where nothing tells.

    Where the kernel is configured to do so, it may still find nothing to defer.
    """
    if snapshot.has("config"):
        return snapshot.config.on("DEFERRED_STRUCT_PAGE_INIT")
    if snapshot.has("dmesg") and any(
        any(snapshot.dmesg.matching(pattern)) for pattern in (_DEFERRED, _DEFERRED_UNCOUNTED)
    ):
        return True
    return None


def deferred_uncounted(snapshot: Snapshot) -> bool:
    """Whether struct pages were deferred and no message says how many."""
    return any(snapshot.dmesg.matching(_DEFERRED_UNCOUNTED))


def _frees(snapshot: Snapshot) -> Iterator[LateFree]:
    messages = snapshot.dmesg.messages
    freed = [
        (at, match[1], int(match[2]) // snapshot.page_kib)
        for at, message in enumerate(messages)
        if (match := _FREEING.match(message.text))
    ]
    if _begin_lost(snapshot):
        raise MissingInputError("dmesg from the first message of the boot on (its begin is lost)")
    if not snapshot.dmesg.reaches_init:
        raise MissingInputError("dmesg up to what follows 'Freeing unused kernel memory'")
    up = next((at for at, one in enumerate(messages) if _CPUS_UP.match(one.text)), len(messages))
    places = Places(snapshot)
    for _, name, pages in freed:
        if name == "initrd":
            yield LateFree(name=name, pages=pages, zones=places.initrd(pages))
    image = places.image()
    parts = [(name, pages) for _, name, pages in freed if _INIT.match(name)]
    if len(image) > 1:  # wherever they are, they are together
        parts = [("unused parts of the kernel", sum(pages for _, pages in parts))]
    for name, pages in parts:
        yield LateFree(name=name, pages=pages, zones=image)
    for at, name, pages in freed:
        missed = Step.WATERMARKS if at > up else Step.LISTS
        if name == _SMP:
            yield LateFree(name=name, pages=pages, zones=image, missed=missed)
        elif name == _EFI:
            # Only kernels that wait for an initcall announce it.
            name = f"what {name} held"
            yield LateFree(name=name, pages=pages, zones=(), missed=Step.WATERMARKS)
        elif name != "initrd" and not _INIT.match(name):
            raise MissingInputError(f"when, before or after the initcalls, {name!r} was freed")
    known = list(_unannounced(snapshot, places))
    yield from known
    told = sum(pages for _, _, pages in freed) + sum(free.pages for free in known)
    if pages := _silent_swiotlb(snapshot):
        yield LateFree(name="what the bounce buffers of swiotlb took", pages=pages, zones=())
    if pages := _silent_efi(snapshot, told + pages):
        yield LateFree(name=f"what {_EFI} held", pages=pages, zones=(), missed=Step.LISTS)


def _begin_lost(snapshot: Snapshot) -> bool:
    """Whether messages of memory that came late, or of where it lay, may be lost.

    What is freed is told of after the message of memory available, but not CMA areas, which that
    message has a sum of, and on x86 the initrd's place and EFI.
    """
    log = snapshot.dmesg
    if log.whole:
        return False
    if snapshot.arch in ("x86_64", "i386") or not any(log.matching(_MEMORY)):
        return True
    cma_kib = sum(int(match[1]) for match in log.matching(_MEMORY_OF_CMA))
    return cma_kib != sum(int(match[1]) * 1024 for match in log.matching(_CMA))


def _unannounced(snapshot: Snapshot, places: Places) -> Iterator[LateFree]:
    """What is handed over with a message of its own kind."""
    later = snapshot.release < _CMA_LATER_THAN_WATERMARKS
    for match in snapshot.dmesg.matching(_CMA):
        pages = int(match[1]) * 1024 // snapshot.page_kib
        zones = places.at(int(match[2], 16)) or places.all
        missed = Step.WATERMARKS if later else Step.DEFERRED
        yield LateFree(name="CMA", pages=pages, zones=zones, missed=missed)
    gib = sum(int(match[1]) * int(match[2]) for match in snapshot.dmesg.matching(_GIGANTIC))
    if pages := gib * (1 << 30) // snapshot.page_size_bytes:
        name = "what gigantic pages took in boot"
        yield LateFree(name=name, pages=pages, zones=(), missed=Step.WATERMARKS)
    for match in snapshot.dmesg.matching(_DEFERRED):
        if highest := places.highest(int(match[1])):
            name = f"deferred struct pages of node {match[1]}"
            yield LateFree(name=name, pages=int(match[2]), zones=(highest,), missed=Step.LISTS)


def _silent_swiotlb(snapshot: Snapshot) -> int:
    """Pages of bounce buffers and their tables that an IOMMU made superfluous, without a message.

    Kernel: kernel/dma/swiotlb.c, ``swiotlb_exit``, of 5.10; arch/x86/kernel/pci-swiotlb.c: a PC
        with memory above 4 GiB sets them aside and says so only if it keeps them. Later kernels
        announce that they tear them down.
    """
    if snapshot.arch != "x86_64" or snapshot.release >= _SWIOTLB_ANNOUNCED:
        return 0
    size = snapshot.page_size_bytes
    ends = [
        zone.tail["start_pfn"] + zone.pages.get("spanned", 0)
        for zone in snapshot.zoneinfo.zones
        if "start_pfn" in zone.tail and zone.pages.get("present") and zone.zone != "Device"
    ]
    if max(ends, default=0) * size <= 1 << 32 or any(snapshot.dmesg.matching(_SWIOTLB_USED)):
        return 0
    given = snapshot.cmdline.last("swiotlb") if snapshot.has("proc/cmdline") else None
    number = (given or "").split(",")[0]
    slabs = -(-int(number) // 128) * 128 if number.isdecimal() else _SWIOTLB_SLABS
    return sum(-(-slabs * each // size) for each in (2048, 8, 4))


def _silent_efi(snapshot: Snapshot, told_pages: int) -> int:
    """Pages of EFI boot services that came before all initcalls, without a message of their own.

    Up to 6.1 the message of memory available counts what the page allocator has at its start; what
    is managed beyond that and beyond ``told_pages``, is theirs. 0 where that cannot be told.
    """
    says = any(match[1] == _EFI for match in snapshot.dmesg.matching(_FREEING))
    memory = [int(match[1]) for match in snapshot.dmesg.matching(_MEMORY)]
    booted_by_efi = any(snapshot.dmesg.matching(_EFI_BOOT))
    if says or not booted_by_efi or not memory or snapshot.release > _COUNTS_ALL:
        return 0
    now = sum(zone.pages.get("managed", 0) for zone in snapshot.zoneinfo.zones)
    if deferred_uncounted(snapshot):
        return 0
    return max(0, now - told_pages - memory[0] // snapshot.page_kib)


def as_now(zone: Zone) -> Earlier:
    """What a zone manages now."""
    now = zone.pages["managed"]
    return Earlier(managed_pages=now, working=f"{now} managed pages, as now")


def managed_before(zone: Zone, frees: tuple[LateFree, ...]) -> tuple[Earlier, ...]:
    """What a zone managed before its late frees, each possibility once, fewest pages first."""
    key = (zone.node, zone.zone)
    managed = zone.pages["managed"]
    mine = [free for free in frees if key in free.zones]
    choices = [(True,) if free.zones == (key,) else (True, False) for free in mine]
    found: dict[int, str] = {}
    for taken in product(*choices):
        off = [free for free, take in zip(mine, taken, strict=True) if take]
        left = managed - sum(free.pages for free in off)
        terms = "".join(f" - {free.pages} ({free.name})" for free in off)
        if left >= 0:
            found.setdefault(left, f"{managed} managed now{terms} = {left} pages" if off else "")
    return tuple(
        Earlier(managed_pages=pages, working=found[pages] or f"{pages} managed pages, as now")
        for pages in sorted(found)
    )


def placements(frees: tuple[LateFree, ...]) -> Iterator[Mapping[ZoneKey, tuple[LateFree, ...]]]:
    """Every way in which the late frees may lie: zone → what came to it.

    They are independent: ``late_frees`` gives the parts of the kernel's image as one.
    """
    for keys in product(*(free.zones for free in frees)):
        found: dict[ZoneKey, tuple[LateFree, ...]] = {}
        for free, key in zip(frees, keys, strict=True):
            found[key] = (*found.get(key, ()), free)
        yield found
