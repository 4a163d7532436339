"""What a kernel computes its per-cpu lists' sizes from: every possibility that a capture leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.moments.late_frees import (
    Earlier,
    Step,
    as_now,
    deferred_uncounted,
    defers_struct_pages,
    late_frees,
    managed_before,
    spread_frees,
)
from analysis.compare.static.moments.sizing_moment import Sized, last_sizing, unboosted
from analysis.compare.static.pcp.eras import FRACTION, HIGH_FRACTION, possible_eras
from analysis.errors import MissingInputError
from analysis.model.deferred_pages import managed_while_deferred
from analysis.model.eras_pcp_sizes import PcpSizesEra
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

_SECTION_BYTES = {"x86_64": 128 << 20, "arm64": 1 << 30}
"""Memory of a section before 5.12; arm64's became smaller later, when no list was sized early."""
_MEMORY = re.compile(r"Memory: \d+K/(\d+)K available")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What the sizes of one zone's lists are computed from, and they: one possibility."""

    era: PcpSizesEra
    managed: Earlier
    when: str
    """When the lists were last sized, and how one knows."""
    low_pages: int
    sharing: Callable[[], int]
    """CPUs that share the zone; asked for only where it matters."""
    page_size_bytes: int
    fraction: int

    @property
    def cpus(self) -> int:
        return self.sharing()

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
        self.eras = possible_eras(snapshot, self.populated)
        self.unplaced = _ballooned(snapshot)
        """Pages that some zones lost (+) or got (-) since, and what they are: the capture does not
        tell of which zones."""
        if any(not era.high_follows_low for era in self.eras):
            spread = spread_frees(snapshot, self._step)
            self.unplaced += tuple((-free.pages, free.name) for free in spread)

    def _undecided(self, moment: Sized | None) -> str:
        releases = "" if len(self.eras) == 1 else "which release's rule the vendor took; "
        if len(self._again) > 1 and defers_struct_pages(self.snapshot) is not False:
            releases += (
                "whether the lists were sized again after deferred struct pages were there; "
            )
        return releases + (moment.why if moment else "which zone held the memory freed late")

    def of(self, zone: Zone) -> tuple[list[Sizing], str]:
        """The possible sizings of a zone, and what decides between them.

        Raises:
            MissingInputError: the messages of the boot are not there, or the lists were sized while
                an unknown number of struct pages was deferred.
        """
        found: list[Sizing] = []
        moment: Sized | None = None
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
                when, managed = self._in_boot(era, zone)
                if _memory_plugged(self.snapshot):
                    managed = (*managed, as_now(zone))
            found += [
                Sizing(
                    era=era,
                    managed=earlier,
                    when=when,
                    low_pages=unboosted(zone, "low"),
                    sharing=lambda: self._cpus(zone),
                    page_size_bytes=self.snapshot.page_size_bytes,
                    fraction=fraction,
                )
                for earlier in (*managed, *self._with_unplaced(managed))
            ]
        return found, self._undecided(moment)

    def _cpus(self, zone: Zone) -> int:
        node_cpus = len(self.snapshot.node_cpus(zone.node))
        return sharing_cpus(node_cpus, online_cpus(self.snapshot))

    def _fraction(self, era: PcpSizesEra) -> int:
        name = HIGH_FRACTION if era.high_follows_low else FRACTION
        return self.snapshot.sysctl_number(name) if self.snapshot.has_sysctl(name) else 0

    @property
    def _step(self) -> Step:
        """The step of the boot at which lists are sized that are sized once."""
        deferred = defers_struct_pages(self.snapshot) is not False
        return Step.DEFERRED if deferred and self._again == {True} else Step.LISTS

    @property
    def _again(self) -> set[bool]:
        return {era.sized_after_deferral for era in self.eras if not era.high_follows_low}

    def _in_boot(self, era: PcpSizesEra, zone: Zone) -> tuple[str, tuple[Earlier, ...]]:
        """When lists that are sized once were, and what the zone may have managed then."""
        if not any(self.snapshot.dmesg.matching(_MEMORY)):
            raise MissingInputError("dmesg from the message on that begins with 'Memory:'")
        deferred = defers_struct_pages(self.snapshot)
        found: list[Earlier] = []
        if era.sized_after_deferral and deferred is not False:
            when = "sized in boot, again after all struct pages were there"
            found += managed_before(zone, late_frees(self.snapshot, Step.DEFERRED))
        if not (era.sized_after_deferral and deferred):
            when = "sized once, in boot"
            found += self._while_deferred(zone)
        return when, tuple({one.managed_pages: one for one in reversed(found)}.values())

    def _while_deferred(self, zone: Zone) -> Iterator[Earlier]:
        if deferred_uncounted(self.snapshot):
            raise MissingInputError(
                "how many struct pages were deferred when the lists were sized: no message says it"
            )
        frees = late_frees(self.snapshot, Step.LISTS)
        key = (zone.node, zone.zone)
        deferred = [free for free in frees if free.zones == (key,) and "deferred" in free.name]
        for earlier in managed_before(zone, frees):
            yield earlier
            if not deferred:
                continue
            pages = sum(free.pages for free in deferred)
            section = _SECTION_BYTES.get(self.snapshot.arch, 128 << 20)
            for less in managed_while_deferred(
                earlier.managed_pages + pages, pages, section // self.snapshot.page_size_bytes
            )[1:]:
                working = f"{earlier.working}, or {less} if boot had asked for fewer by then"
                yield Earlier(managed_pages=less, working=working)

    @cached_property
    def _moment(self) -> Sized:
        return last_sizing(self.snapshot)

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


def online_cpus(snapshot: Snapshot) -> int:
    """How many CPUs are online.

    Raises:
        MissingInputError: the capture names none.
    """
    if not snapshot.cpus_online:
        raise MissingInputError("the CPUs in sys/devices/system/cpu/online")
    return len(snapshot.cpus_online)


def _ballooned(snapshot: Snapshot) -> tuple[tuple[int, str], ...]:
    """Pages that a balloon holds: they no longer count as managed."""
    counters = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    taken = counters.get("balloon_inflate", 0) - counters.get("balloon_deflate", 0)
    pages = taken * 4096 // snapshot.page_size_bytes
    return ((pages, "what a balloon holds"),) if pages > 0 else ()


def _memory_plugged(snapshot: Snapshot) -> bool:
    """Whether zones have more memory than the kernel found when it booted."""
    present = sum(zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones)
    booted = [int(match[1]) for match in snapshot.dmesg.matching(_MEMORY)]
    return bool(booted) and present * snapshot.page_kib > booted[0]
