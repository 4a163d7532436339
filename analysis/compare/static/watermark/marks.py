"""Every way in which the watermarks of a capture may have been computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.watermark.boot import boot_managed, managed_now
from analysis.compare.static.watermark.chain import boot_chains, eras
from analysis.compare.static.watermark.moments import Key
from analysis.errors import MissingInputError
from analysis.model.boot_watermark import DEFAULT_SCALE_FACTOR
from analysis.model.eras_watermark import WatermarkEra
from analysis.model.watermark import Watermarks, watermarks

MIN_FREE = "vm/min_free_kbytes"
SCALE_FACTOR = "vm/watermark_scale_factor"
AT_BOOT = "at boot, before the initrd and the kernel's init memory were handed over"
AFTER_BOOT = "after boot, from all that is managed now"
SETTLED_LABEL = "settle/end"
"""Marked in a run after vm.watermark_scale_factor was written, so that all was computed anew."""


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


def shown_marks(snapshot: Snapshot) -> list[Marks]:
    """Those of ``possible_marks`` that all zones show, in min, low and high without boost; where a
    likely one is among them, the likely ones.

    Raises:
        MissingInputError: as ``possible_marks`` does.
    """
    shown = {
        (zone.node, zone.zone): tuple(
            zone.pages[name] - zone.pages.get("boost", 0) for name in ("min", "low", "high")
        )
        for zone in snapshot.zoneinfo.zones
        if zone.pages.get("managed") and {"min", "low", "high"} <= zone.pages.keys()
    }
    fitting = [
        marks
        for marks in possible_marks(snapshot)
        if all(
            shown[key] == (zone.min_pages, zone.low_pages, zone.high_pages)
            for key, zone in marks.zones.items()
            if key in shown
        )
    ]
    return [marks for marks in fitting if marks.likely] or fitting


def boot_alike(snapshot: Snapshot, marks: Marks) -> Iterator[Mapping[Key, int]]:
    """What was managed at boot, where it gives the very watermarks of a set computed after boot:
    those do not tell when they were computed."""
    with suppress(MissingInputError):
        for boot in boot_managed(snapshot):
            alike = watermarks(
                boot.pages,
                min_free_kbytes=marks.min_free_kbytes,
                watermark_scale_factor=marks.scale_factor,
                page_size_bytes=snapshot.page_size_bytes,
                movable_is_lowmem=marks.era.movable_is_lowmem,
                highmem_by_name=marks.era.highmem_by_name,
            )
            if alike == marks.zones:
                yield boot.pages


def scale_factor_of(snapshot: Snapshot) -> int:
    """vm.watermark_scale_factor, by default where the capture lacks it."""
    if snapshot.has_sysctl(SCALE_FACTOR):
        return snapshot.sysctl_number(SCALE_FACTOR)
    return DEFAULT_SCALE_FACTOR


def possible_marks(snapshot: Snapshot) -> list[Marks]:
    """Every set of watermarks that the capture allows; at least one is likely.

    Boot computes them, and whoever writes vm.min_free_kbytes or vm.watermark_scale_factor makes
    the kernel compute them again. A value that boot does not give was written.

    Raises:
        MissingInputError: what boot computed cannot be known, and nothing was written since.
    """
    scale_factor = scale_factor_of(snapshot)
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
    after = list(marks_after_boot(snapshot, kbytes, scale_factor, likely=not at_boot))
    return _distinct(at_boot + after)


def _distinct(sets: Iterable[Marks]) -> list[Marks]:
    """Each set once: eras may differ in what does not matter on this machine."""
    found: list[Marks] = []
    for marks in sets:
        if not any(replace(marks, era=one.era, before=one.before) == one for one in found):
            found.append(marks)
    return found


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


def marks_after_boot(
    snapshot: Snapshot, kbytes: int, scale_factor: int, *, likely: bool
) -> Iterator[Marks]:
    """The sets that follow from a min_free_kbytes and all that is managed now."""
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
                highmem_by_name=era.highmem_by_name,
            ),
            before=(f"  min_free_kbytes = {kbytes} (proc/sys/{MIN_FREE})",),
        )


def _named(moment: str, era: WatermarkEra, snapshot: Snapshot) -> str:
    """The moment, and the rule where the release may follow one of several."""
    if len({other.movable_is_lowmem for other in eras(snapshot)}) == 1:
        return moment
    share = "shares min_free_kbytes" if era.movable_is_lowmem else "takes no share"
    return f"{moment} (where ZONE_MOVABLE {share})"
