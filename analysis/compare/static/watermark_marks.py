"""Every way in which the watermarks of a capture may have been computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.watermark_boot import BootManaged, boot_managed, managed_now
from analysis.compare.static.watermark_moments import Key
from analysis.errors import MissingInputError
from analysis.model.boot_watermark import (
    DEFAULT_SCALE_FACTOR,
    BootWatermarks,
    Khugepaged,
    boot_watermarks,
)
from analysis.model.eras_watermark import WatermarkEra, watermark_eras
from analysis.model.min_free import holds_buffers
from analysis.model.release import Release
from analysis.model.watermark import Watermarks, watermarks
from analysis.procfs import pagetypeinfo

MIN_FREE = "vm/min_free_kbytes"
SCALE_FACTOR = "vm/watermark_scale_factor"
AT_BOOT = "at boot, before the initrd and the kernel's init memory were handed over"
AFTER_BOOT = "after boot, from all that is managed now"
SETTLED_LABEL = "settle/end"
"""Marked in a run after vm.watermark_scale_factor was written, so that all was computed anew."""

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
        yield f"  2. khugepaged is {self.khugepaged.value}"
        if self.marks.buffer_pages is None:
            yield "     so nothing is computed again"
            return
        high = sum(zone.high_pages for zone in self.marks.first.values())
        yield (
            f"     {self.marks.buffer_pages} pages are beyond the high watermarks of the first "
            f"computation ({high} in all zones)"
        )
        if self.marks.recommended_kbytes is None:
            yield f"     min_free_kbytes is computed again: {self.marks.min_free_kbytes}"
            return
        pageblock = pageblock_pages(snapshot)
        zones = populated_zones(snapshot)
        yield (
            f"     it asks for min({pageblock} x {zones} zones x (2 + 3 x 3), "
            f"{self.marks.buffer_pages} / 20) pages = {self.marks.recommended_kbytes} KiB"
        )
        yield f"     min_free_kbytes = {self.marks.min_free_kbytes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """One complete set of watermarks, and where it comes from."""

    name: str
    likely: bool
    after_boot: bool
    managed: Mapping[Key, int]
    min_free_kbytes: int
    scale_factor: int
    era: WatermarkEra
    zones: Mapping[Key, Watermarks]
    before: tuple[str, ...]
    """The working up to min_free_kbytes and managed pages."""


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


def possible_marks(snapshot: Snapshot) -> list[Marks]:
    """Every set of watermarks that the capture allows; at least one is likely.

    Boot computes them, and whoever writes vm.min_free_kbytes or vm.watermark_scale_factor makes
    the kernel compute them again. A value that boot does not give was written.

    Raises:
        MissingInputError: what boot computed cannot be known, and nothing was written since.
    """
    scale_factor = (
        snapshot.sysctl_number(SCALE_FACTOR)
        if snapshot.has_sysctl(SCALE_FACTOR)
        else DEFAULT_SCALE_FACTOR
    )
    kbytes = snapshot.sysctl_number(MIN_FREE) if snapshot.has_sysctl(MIN_FREE) else None
    scaled = scale_factor != DEFAULT_SCALE_FACTOR or _settled(snapshot)
    at_boot: list[Marks] = []
    try:
        at_boot = [] if scaled else list(_at_boot(snapshot, kbytes))
    except MissingInputError:
        if not _given(snapshot):
            raise
    if kbytes is None:
        if not at_boot:
            raise MissingInputError(f"proc/sys/{MIN_FREE}")
        return at_boot
    after = list(_after_boot(snapshot, kbytes, scale_factor, likely=not at_boot))
    return at_boot + after


def _settled(snapshot: Snapshot) -> bool:
    bundle = snapshot.source.bundle
    return bundle is not None and any(mark.label == SETTLED_LABEL for mark in bundle.marks)


def _given(snapshot: Snapshot) -> bool:
    """Whether a sysctl that computes watermarks anew is among the kernel's parameters."""
    if not snapshot.has("proc/cmdline"):
        return False
    return any(
        snapshot.cmdline.has(f"sysctl.{name.replace('/', sign)}")
        for name in (MIN_FREE, SCALE_FACTOR)
        for sign in "./"
    )


def _at_boot(snapshot: Snapshot, kbytes: int | None) -> Iterator[Marks]:
    if _given(snapshot):
        return
    chains = boot_chains(snapshot)
    # Whether it was computed twice decides from which managed pages; where only the total of the
    # first is known, no zone's marks are.
    usable = [
        chain
        for chain in chains
        if chain.marks.buffer_pages is not None or chain.managed.first_zones_known
    ]
    if not usable:
        raise MissingInputError("what each zone managed when its watermarks were computed")
    for chain in usable:
        if kbytes is not None and chain.marks.min_free_kbytes != kbytes:
            continue
        twice = chain.marks.buffer_pages is not None
        yield Marks(
            name=_named(AT_BOOT, chain.era, snapshot),
            likely=True,
            after_boot=False,
            managed=chain.managed.pages if twice else chain.managed.first_pages,
            min_free_kbytes=chain.marks.min_free_kbytes,
            scale_factor=DEFAULT_SCALE_FACTOR,
            era=chain.era,
            zones=chain.marks.last,
            before=tuple(chain.working(snapshot)),
        )


def _after_boot(
    snapshot: Snapshot, kbytes: int, scale_factor: int, *, likely: bool
) -> Iterator[Marks]:
    managed = managed_now(snapshot)
    for era in eras(snapshot):
        yield Marks(
            name=_named(AFTER_BOOT, era, snapshot),
            likely=likely,
            after_boot=True,
            managed=managed,
            min_free_kbytes=kbytes,
            scale_factor=scale_factor,
            era=era,
            zones=watermarks(
                managed,
                min_free_kbytes=kbytes,
                watermark_scale_factor=scale_factor,
                page_size_bytes=snapshot.page_size_bytes,
                movable_is_lowmem=era.movable_is_lowmem,
            ),
            before=(f"  min_free_kbytes = {kbytes} (proc/sys/{MIN_FREE})",),
        )


def _named(moment: str, era: WatermarkEra, snapshot: Snapshot) -> str:
    """The moment, and the rule where the release may follow one of several."""
    if len({other.movable_is_lowmem for other in eras(snapshot)}) == 1:
        return moment
    share = "shares min_free_kbytes" if era.movable_is_lowmem else "takes no share"
    return f"{moment} (where ZONE_MOVABLE {share})"


def _khugepaged(snapshot: Snapshot) -> Sequence[Khugepaged]:
    """What the setup of huge pages did at boot; several where the capture does not say."""
    shown = snapshot.source.text(_THP)
    has_config = snapshot.has("config")
    if has_config and not snapshot.config.on("TRANSPARENT_HUGEPAGE"):
        return (Khugepaged.ABSENT,)
    if shown is None and snapshot.arch == "i386":
        flags = snapshot.text("proc/cpuinfo")
        if " pse " not in flags.replace("\n", " "):
            return (Khugepaged.ABSENT,)
    if shown is None and not has_config:
        raise MissingInputError(f"{_THP} (or the kernel's config)")
    wanted = snapshot.cmdline.last("transparent_hugepage") if snapshot.has("proc/cmdline") else None
    if wanted not in ("always", "madvise", "never"):
        wanted = _configured(snapshot, shown)
    if wanted != "never":
        return (Khugepaged.STARTED,)
    fine = snapshot.has("proc/cmdline") and any(snapshot.cmdline.has(name) for name in _THP_FINE)
    if fine and any(release >= _FINE_SINCE for release in snapshot.releases):
        return (Khugepaged.STARTED, Khugepaged.STOPPED)
    return (Khugepaged.STOPPED,)


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
