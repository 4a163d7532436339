"""What boot computed of watermarks, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.watermark.boot import BootManaged, boot_managed, managed_now
from analysis.compare.static.watermark.moments import Key
from analysis.errors import MissingInputError
from analysis.model.boot_watermark import (
    THP_BYTES_MIN,
    Asked,
    BootWatermarks,
    Khugepaged,
    boot_watermarks,
    khugepaged_min_free_kbytes,
)
from analysis.model.eras_watermark import WatermarkEra, watermark_eras
from analysis.model.min_free import holds_buffers
from analysis.model.release import Release
from analysis.procfs import pagetypeinfo

_THP = "sys/kernel/mm/transparent_hugepage/enabled"
_THP_FINE = ("thp_anon", "thp_shmem", "transparent_hugepage_shmem")
_FINE_SINCE = Release(6, 8)
"""Parameters for single sizes may start khugepaged although the general one says never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootChain:
    """One possibility of what boot computed, and from what."""

    managed: BootManaged
    era: WatermarkEra
    khugepaged: Khugepaged
    marks: BootWatermarks

    def working(self, snapshot: Snapshot) -> Iterator[str]:
        """The chain's arithmetic, a line a step."""
        page_kib = snapshot.page_kib
        first = _lowmem(self.managed.first_pages)
        yield from self.managed.working
        yield f"  1. first computation: {first} pages managed up to ZONE_NORMAL"
        yield (
            f"     min_free_kbytes = sqrt(16 x {first * page_kib} KiB) = "
            f"{self.marks.automatic_kbytes}"
        )
        total_bytes = sum(self.managed.pages.values()) * snapshot.page_size_bytes
        if total_bytes < THP_BYTES_MIN and self.khugepaged is not Khugepaged.ABSENT:
            yield f"  2. {total_bytes >> 20} MiB are below {THP_BYTES_MIN >> 20}: no khugepaged"
        else:
            yield f"  2. khugepaged is {self.khugepaged.value}"
        if self.marks.buffer_pages is None:
            yield "     so nothing is computed again"
            return
        high = sum(zone.high_pages for zone in self.marks.first.values())
        yield (
            f"     {self.marks.buffer_pages} pages are beyond the high watermarks of the first "
            f"computation ({high} in all zones)"
        )
        yield from _asked_lines(
            snapshot,
            Asked(
                buffer_pages=self.marks.buffer_pages,
                recommended_kbytes=self.marks.recommended_kbytes,
                min_free_kbytes=self.marks.min_free_kbytes,
            ),
        )

    def switched(self, snapshot: Snapshot) -> tuple[int, tuple[str, ...]] | None:
        """min_free_kbytes and its working, had transparent huge pages been switched after boot to
        what they are now; None where that computes nothing."""
        shown = snapshot.source.text(_THP)
        if shown is None or self.khugepaged is Khugepaged.ABSENT:
            return None
        now = Khugepaged.STOPPED if "[never]" in shown else Khugepaged.STARTED
        if now is self.khugepaged:
            return None  # as boot left it
        if now is Khugepaged.STOPPED and not self.era.recomputes_without_khugepaged:
            return None
        high_pages = {key: zone.high_pages for key, zone in self.marks.last.items()}
        asked = khugepaged_min_free_kbytes(
            self.marks.min_free_kbytes,
            managed_now(snapshot),
            high_pages,
            khugepaged=now,
            populated_zones=populated_zones(snapshot),
            pageblock_pages=pageblock_pages(snapshot),
            page_size_bytes=snapshot.page_size_bytes,
        )
        lines = (
            f"  3. after boot, transparent huge pages were switched: khugepaged is {now.value}",
            f"     {asked.buffer_pages} pages of those managed now are beyond the high watermarks",
            *_asked_lines(snapshot, asked),
        )
        return asked.min_free_kbytes, lines


def eras(snapshot: Snapshot) -> tuple[WatermarkEra, ...]:
    """The rules that the kernel may follow.

    Raises:
        MissingInputError: it is older than every release that was compared.
    """
    found: dict[WatermarkEra, None] = {}
    for release in snapshot.releases:
        try:
            found.update(dict.fromkeys(watermark_eras(release)))
        except ValueError as error:
            raise MissingInputError(f"a kernel whose rules are known: {error}") from None
    return tuple(found)


def pageblock_pages(snapshot: Snapshot) -> int:
    """Pages of a pageblock."""
    info = snapshot.parsed("proc/pagetypeinfo", pagetypeinfo.parse)
    return 1 << info.pageblock_order


def populated_zones(snapshot: Snapshot) -> int:
    """Zones up to ZONE_NORMAL that have memory, of all nodes."""
    return sum(
        1
        for zone in snapshot.zoneinfo.zones
        if zone.pages.get("present") and holds_buffers(zone.zone)
    )


def _asked_lines(snapshot: Snapshot, asked: Asked) -> Iterator[str]:
    if asked.recommended_kbytes is None:
        yield (
            f"     min_free_kbytes is computed again: sqrt(16 x "
            f"{asked.buffer_pages * snapshot.page_kib} KiB) = {asked.min_free_kbytes}"
        )
        return
    yield (
        f"     it asks for min({pageblock_pages(snapshot)} x {populated_zones(snapshot)} zones x "
        f"(2 + 3 x 3), {asked.buffer_pages} / 20) pages = {asked.recommended_kbytes} KiB"
    )
    yield f"     min_free_kbytes = {asked.min_free_kbytes}"


def boot_chains(snapshot: Snapshot) -> tuple[BootChain, ...]:
    """What boot computed, in every way that is possible.

    Raises:
        MissingInputError: as ``boot_managed`` and ``eras`` do, and where it is not known whether
            khugepaged was started.
    """
    return tuple(
        BootChain(
            managed=managed,
            era=era,
            khugepaged=khugepaged,
            marks=boot_watermarks(
                managed.first_pages,
                managed.pages,
                khugepaged=khugepaged,
                populated_zones=populated_zones(snapshot),
                pageblock_pages=pageblock_pages(snapshot),
                page_size_bytes=snapshot.page_size_bytes,
                era=era,
            ),
        )
        for managed in boot_managed(snapshot)
        for era in eras(snapshot)
        for khugepaged in _khugepaged(snapshot)
    )


def _khugepaged(snapshot: Snapshot) -> Sequence[Khugepaged]:
    """What the setup of huge pages did at boot; several where the capture does not say."""
    shown = snapshot.source.text(_THP)
    if shown is not None and "[" not in shown:
        shown = None  # cut off
    has_config = snapshot.has("config")
    if has_config and not snapshot.config.on("TRANSPARENT_HUGEPAGE"):
        return (Khugepaged.ABSENT,)
    if shown is None and snapshot.arch == "i386" and not _has_pse(snapshot):
        return (Khugepaged.ABSENT,)
    if shown is None and not has_config:
        raise MissingInputError(f"{_THP} (or the kernel's config)")
    wanted = snapshot.cmdline.last("transparent_hugepage") if snapshot.has("proc/cmdline") else None
    if wanted not in ("always", "madvise", "never"):
        wanted = _configured(snapshot, shown)
        if wanted == "never" and not has_config:
            # It may have been switched off after boot.
            return (Khugepaged.STARTED, Khugepaged.STOPPED)
    if wanted != "never":
        return (Khugepaged.STARTED,)
    fine = snapshot.has("proc/cmdline") and any(snapshot.cmdline.has(name) for name in _THP_FINE)
    if fine and any(release >= _FINE_SINCE for release in snapshot.releases):
        return (Khugepaged.STARTED, Khugepaged.STOPPED)
    return (Khugepaged.STOPPED,)


def _has_pse(snapshot: Snapshot) -> bool:
    """Whether a 32-bit PC has large pages: /proc/meminfo tells where the CPU's flags are missing.

    Kernel: arch/x86/mm/init.c, ``probe_page_size_mask``: the linear map has large pages only with
        PSE; mm/hugetlb.c, ``hugetlb_report_meminfo``: no line about huge pages without it.
    """
    flags = snapshot.source.text("proc/cpuinfo")
    if flags:
        return " pse " in flags.replace("\n", " ")
    meminfo = snapshot.meminfo.values if snapshot.has("proc/meminfo") else {}
    if "Hugepagesize" in meminfo or any(meminfo.get(f"DirectMap{size}M") for size in "24"):
        return True
    if meminfo and snapshot.has("config") and snapshot.config.on("HUGETLBFS"):
        return False
    raise MissingInputError("proc/cpuinfo")


def _configured(snapshot: Snapshot, shown: str | None) -> str:
    if snapshot.has("config"):
        for name in ("always", "madvise"):
            if snapshot.config.on(f"TRANSPARENT_HUGEPAGE_{name.upper()}"):
                return name
        return "never"
    assert shown is not None, "checked by _khugepaged"
    return next((name for name in ("always", "madvise") if f"[{name}]" in shown), "never")


def _lowmem(managed: Mapping[Key, int]) -> int:
    return sum(pages for (_, zone), pages in managed.items() if holds_buffers(zone))
