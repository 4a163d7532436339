"""What a kernel computes its per-cpu lists' sizes from: every possibility that a capture leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.capture.snapshot import Snapshot
from analysis.compare.late_frees import (
    Earlier,
    LateFree,
    as_now,
    between_initcalls,
    efi_pages_between,
    late_frees,
    managed_before,
)
from analysis.compare.sizing_moment import Moment, last_sizing, unboosted
from analysis.model.boot_watermark import THP_BYTES_MIN
from analysis.model.eras_pcp_sizes import PcpSizesEra, pcp_sizes_era_of
from analysis.model.pcp_sizes import (
    high_from_batch,
    high_limits,
    pageset_batch,
    sharing_cpus,
    sizes_by_fraction,
    zone_batchsize,
    zone_highsize,
)
from analysis.procfs.zoneinfo import Zone

_FRACTION = "vm/percpu_pagelist_fraction"
_HIGH_FRACTION = "vm/percpu_pagelist_high_fraction"
_GIGANTIC = re.compile(r"HugeTLB:? registered (\d+)\.00 GiB page size, pre-allocated (\d+) pages")
_MEMORY = re.compile(r"Memory: \d+K/(\d+)K available")
_LIFO = re.compile(r"\s*\S+ zone: (\d+) pages, LIFO batch:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What the sizes of one zone's lists are computed from, and they: one possibility."""

    era: PcpSizesEra
    managed: Earlier
    when: str
    """When the lists were last sized, and how one knows."""
    low_pages: int
    cpus: int
    page_size_bytes: int
    fraction: int

    @property
    def batchsize(self) -> int:
        return zone_batchsize(
            self.managed.managed_pages, self.page_size_bytes, limit_kib=self.era.batch_limit_kib
        )

    @property
    def batch(self) -> int:
        if self.fraction and not self.era.high_follows_low:
            return self._by_fraction[1]
        return pageset_batch(self.batchsize)

    @property
    def high(self) -> int:
        """``high`` of a kernel that does not tune it."""
        if self.era.high_follows_low:
            return self.limits[0]
        return self._by_fraction[0] if self.fraction else high_from_batch(self.batchsize)

    @property
    def limits(self) -> tuple[int, int]:
        return high_limits(
            self.managed.managed_pages,
            self.low_pages,
            self.batch,
            self.cpus,
            fraction=self.fraction,
        )

    @property
    def _by_fraction(self) -> tuple[int, int]:
        return sizes_by_fraction(self.managed.managed_pages, self.fraction, self.page_size_bytes)

    def batch_working(self) -> list[str]:
        pages = self.managed.managed_pages
        if self.fraction and not self.era.high_follows_low:
            high, batch = self._by_fraction
            return [
                self.when,
                self.managed.working,
                f"high: {pages} / {self.fraction} (percpu_pagelist_fraction) = {high}",
                f"batch: {high} / 4, within 1 and 8 times the page shift: {batch}",
            ]
        limit = self.era.batch_limit_kib * 1024 // self.page_size_bytes
        quarter = max(1, min(pages // 1024, limit) // 4)
        more = quarter + quarter // 2
        return [
            self.when,
            self.managed.working,
            f"{pages} / 1024 = {pages // 1024}, at most {self.era.batch_limit_kib} KiB = {limit}",
            f"a quarter of that, at least 1: {quarter}; half as much more: {more}",
            f"down to a power of two, less 1: {self.batchsize}",
            f"a list takes at least 1: batch {self.batch}",
        ]

    def split_working(self, name: str, total_pages: int, source: str) -> str:
        value = zone_highsize(total_pages, self.batch, self.cpus)
        return (
            f"{name}: {source} {total_pages} / {self.cpus} CPUs = {total_pages // self.cpus}, "
            f"at least 4 batches = {4 * self.batch}: {value}"
        )


class Sizings:
    """All possible sizings of a capture's zones."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.populated = [zone for zone in snapshot.zoneinfo.zones if zone.cpus]
        self.eras = _eras(snapshot, self.populated)
        self.online = len(snapshot.cpus_online)
        self.unplaced = _ballooned(snapshot)
        """Pages that some zones lost (+) or got (-) since, and what they are: the capture does not
        tell of which zones."""
        if any(not era.high_follows_low for era in self.eras):
            self.unplaced += gigantic_pages(snapshot)

    def _undecided(self, moment: Moment | None) -> str:
        releases = "" if len(self.eras) == 1 else "which release's rule the vendor took; "
        return releases + (moment.why if moment else "which zone held the memory freed late")

    def of(self, zone: Zone) -> tuple[list[Sizing], str]:
        """The possible sizings of a zone, and what decides between them."""
        found: list[Sizing] = []
        moment: Moment | None = None
        for era in self.eras:
            fraction = self._fraction(era)
            managed: Sequence[Earlier]
            if fraction:
                when = "last sized when the fraction was written, after boot"
                managed = [as_now(zone)]
            elif era.high_follows_low:
                moment = self._moment
                when = f"when last sized: {moment.why}"
                managed = moment.managed(zone)
            else:
                when = "sized once, in boot"
                managed = managed_before(zone, self._frees_early)
                if _memory_plugged(self.snapshot):
                    managed = (*managed, as_now(zone))
            found += [
                Sizing(
                    era=era,
                    managed=earlier,
                    when=when,
                    low_pages=unboosted(zone, "low"),
                    cpus=sharing_cpus(len(self.snapshot.node_cpus(zone.node)), self.online),
                    page_size_bytes=self.snapshot.page_size_bytes,
                    fraction=fraction,
                )
                for earlier in (*managed, *self._with_unplaced(managed))
            ]
        return found, self._undecided(moment)

    def _fraction(self, era: PcpSizesEra) -> int:
        name = _HIGH_FRACTION if era.high_follows_low else _FRACTION
        return self.snapshot.sysctl_number(name) if self.snapshot.has_sysctl(name) else 0

    @cached_property
    def _frees(self) -> tuple[LateFree, ...]:
        frees = late_frees(self.snapshot)
        if not sets_watermarks_once(self.snapshot, frees):
            return frees
        pages = efi_pages_between(self.snapshot)
        if pages:
            self.unplaced += ((-pages, "what EFI boot services held"),)
        return (*frees, *between_initcalls(self.snapshot))

    @cached_property
    def _frees_early(self) -> tuple[LateFree, ...]:
        return late_frees(self.snapshot, before_initcalls=True)

    @cached_property
    def _moment(self) -> Moment:
        return last_sizing(self.snapshot, self._frees)

    def _with_unplaced(self, managed: Sequence[Earlier]) -> Iterator[Earlier]:
        """The extremes: all pages that no zone can be told of came from, or went to, this one."""
        for pages, what in self.unplaced:
            bases = [earlier.managed_pages for earlier in managed]
            then = max(0, (min if pages < 0 else max)(bases) + pages)
            yield Earlier(managed_pages=then, working=f"{then} pages, if {what} was all here")

    def low_uncertain(self, zone: Zone) -> bool:
        """Whether the low watermark may hold a boost that this kernel does not print."""
        if "boost" in zone.pages or any(self._fraction(era) for era in self.eras):
            return False
        name = "vm/watermark_boost_factor"
        boosts = not self.snapshot.has_sysctl(name) or self.snapshot.sysctl_number(name) > 0
        return boosts and not self._moment.matches_watermarks


def sets_watermarks_once(snapshot: Snapshot, frees: tuple[LateFree, ...]) -> bool:
    """Whether a boot sets watermarks at postcore_initcall alone: no huge pages set them again."""
    if snapshot.has("config") and not snapshot.config.on("TRANSPARENT_HUGEPAGE"):
        return True
    managed = sum(zone.pages["managed"] for zone in snapshot.zoneinfo.zones)
    managed -= sum(free.pages for free in frees)
    return managed * snapshot.page_size_bytes < THP_BYTES_MIN


def _ballooned(snapshot: Snapshot) -> tuple[tuple[int, str], ...]:
    """Pages that a balloon holds: they no longer count as managed."""
    counters = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    taken = counters.get("balloon_inflate", 0) - counters.get("balloon_deflate", 0)
    pages = taken * 4096 // snapshot.page_size_bytes
    return ((pages, "what a balloon holds"),) if pages > 0 else ()


def gigantic_pages(snapshot: Snapshot) -> tuple[tuple[int, str], ...]:
    """Pages of gigantic huge pages taken in boot: they count as managed from subsys_initcall on.
    The change of managed pages, and what it is."""
    gib = sum(int(match[1]) * int(match[2]) for match in snapshot.dmesg.matching(_GIGANTIC))
    pages = gib * (1 << 30) // snapshot.page_size_bytes
    return ((-pages, "what gigantic pages took in boot"),) if pages else ()


def _memory_plugged(snapshot: Snapshot) -> bool:
    """Whether zones have more memory than the kernel found when it booted."""
    present = sum(zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones)
    booted = [int(match[1]) for match in snapshot.dmesg.matching(_MEMORY)]
    return bool(booted) and present * snapshot.page_kib > booted[0]


def _eras(snapshot: Snapshot, zones: list[Zone]) -> tuple[PcpSizesEra, ...]:
    """The rules that may be in force: what the capture shows of the code comes before its name."""
    eras = {pcp_sizes_era_of(release) for release in snapshot.releases}
    if snapshot.has_sysctl(_HIGH_FRACTION):
        eras = {era for era in eras if era.high_follows_low} or eras
    elif snapshot.has_sysctl(_FRACTION):
        eras = {era for era in eras if not era.high_follows_low} or eras
    batches = [int(match[2]) for match in snapshot.dmesg.matching(_LIFO)]
    if batches and max(batches) > zone_batchsize(1 << 40, snapshot.page_size_bytes, limit_kib=512):
        eras = {era for era in eras if era.batch_limit_kib > 512} or eras
    prints = any("high_min" in cpu.fields for zone in zones for cpu in zone.cpus)
    if prints or (snapshot.has("config") and "PCP_BATCH_SCALE_MAX" in snapshot.config.values):
        eras = {era for era in eras if era.tunes_itself} or eras
    elif snapshot.has("config"):
        eras = {era for era in eras if not era.tunes_itself} or eras
    return tuple(
        sorted(eras, key=lambda era: (era.batch_limit_kib, era.high_follows_low, era.tunes_itself))
    )
