"""From which managed pages the kernel computed what follows a zone's size: its last time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from analysis.capture.snapshot import Snapshot
from analysis.compare.late_frees import Earlier, LateFree, as_now, managed_before
from analysis.errors import MissingInputError
from analysis.model.boot_watermark import DEFAULT_SCALE_FACTOR, Khugepaged, boot_watermarks
from analysis.model.eras_watermark import watermark_eras
from analysis.model.min_free import holds_buffers
from analysis.model.watermark import ZoneKey, watermarks
from analysis.procfs import pagetypeinfo
from analysis.procfs.zoneinfo import Zone

_CPU_CHANGED = re.compile(
    r"smpboot: Booting Node|smpboot: CPU \d+ is now offline|CPU\d+: Booted secondary processor"
    r"|psci: CPU\d+ killed|CPU \d+ is now offline"
)
_HANDED_OVER = re.compile(r"Freeing unused kernel")


Placement = tuple[LateFree, ...]
"""The late frees, each in one zone."""

_PLACEMENTS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When watermarks and per-cpu lists were last computed."""

    boot: tuple[Placement, ...] = ()
    """It may have been during boot, before these came to their zones; none: it was not."""
    now: bool
    """It may have been after boot, with the pages managed now."""
    why: str
    """How the capture tells, or that it does not."""
    matches_watermarks: bool
    """The zones' watermarks are what follows from that moment's managed pages."""

    def managed(self, zone: Zone) -> tuple[Earlier, ...]:
        """Every possible number of managed pages at that moment, with its arithmetic."""
        found: dict[int, Earlier] = {}
        for placement in self.boot:
            for earlier in managed_before(zone, placement):
                found.setdefault(earlier.managed_pages, earlier)
        if self.now:
            found.setdefault(zone.pages["managed"], as_now(zone))
        return tuple(found.values())


def unboosted(zone: Zone, field: str) -> int:
    """A watermark of zoneinfo without the boost that is printed in it."""
    return zone.pages[field] - zone.pages.get("boost", 0)


def last_sizing(snapshot: Snapshot, frees: tuple[LateFree, ...]) -> Moment:
    """When a kernel that sizes its lists with the watermarks last did so (5.14 and later).

    It did at boot, and again if a sysctl was written, memory plugged or a CPU turned on or off. The
    watermarks tell: they were computed at the same moment from the same managed pages.
    """
    if _cpus_changed_late(snapshot):
        return Moment(
            now=True,
            why="a CPU was turned on or off after boot, and all lists sized anew",
            matches_watermarks=False,
        )
    zones = snapshot.zoneinfo.zones
    now = {(zone.node, zone.zone): zone.pages["managed"] for zone in zones}
    placements = _placements(frees)
    try:
        fitting = [
            (placement, boot)
            for placement in placements
            for boot in [_managed_with(zones, placement)]
            if boot is not None and _fits(snapshot, boot)
        ]
        now_fits = _fits(snapshot, now)
    except MissingInputError as error:
        return Moment(
            boot=placements,
            now=True,
            why=f"when the lists were last sized cannot be told: {error.message}",
            matches_watermarks=False,
        )
    boot_fits = tuple(placement for placement, _ in fitting)
    as_booted = [boot for _, boot in fitting if boot != now and _as_booted(snapshot, boot)]
    if now_fits and as_booted:
        return Moment(
            boot=boot_fits,
            now=False,
            why="min_free_kbytes and watermark_scale_factor are those of the boot",
            matches_watermarks=True,
        )
    if bool(boot_fits) != now_fits:
        return Moment(
            boot=boot_fits,
            now=now_fits,
            why="the watermarks follow from the pages managed "
            + ("then, and not from those now" if boot_fits else "now"),
            matches_watermarks=True,
        )
    return Moment(
        boot=boot_fits or placements,
        now=True,
        why="the watermarks do not tell whether the lists were sized at boot or later",
        matches_watermarks=now_fits,
    )


def _placements(frees: tuple[LateFree, ...]) -> tuple[Placement, ...]:
    """Every way in which the late frees may lie; left as they are where that is too many."""
    if prod(len(free.zones) for free in frees) > _PLACEMENTS_MAX:
        return (frees,)
    return tuple(
        tuple(replace(free, zones=(key,)) for free, key in zip(frees, keys, strict=True))
        for keys in product(*(free.zones for free in frees))
    )


def _managed_with(zones: Sequence[Zone], placement: Placement) -> dict[ZoneKey, int] | None:
    """What all zones managed before; None where a zone is too small, or a place is not known."""
    found = {}
    for zone in zones:
        options = managed_before(zone, placement)
        if len(options) != 1:
            return None
        found[zone.node, zone.zone] = options[0].managed_pages
    return found


def _fits(snapshot: Snapshot, managed: Mapping[ZoneKey, int]) -> bool:
    """Whether all watermarks follow from these managed pages, by either release's rule."""
    shown = {
        (zone.node, zone.zone): tuple(unboosted(zone, name) for name in ("min", "low", "high"))
        for zone in snapshot.zoneinfo.zones
    }
    for movable_is_lowmem in (True, False):
        try:
            marks = watermarks(
                managed,
                min_free_kbytes=snapshot.sysctl_number("vm/min_free_kbytes"),
                watermark_scale_factor=snapshot.sysctl_number("vm/watermark_scale_factor"),
                page_size_bytes=snapshot.page_size_bytes,
                movable_is_lowmem=movable_is_lowmem,
            )
        except ValueError:
            return False
        if all(
            (marks[key].min_pages, marks[key].low_pages, marks[key].high_pages) == shown[key]
            for key, pages in managed.items()
            if pages
        ):
            return True
    return False


def _as_booted(snapshot: Snapshot, managed: Mapping[ZoneKey, int]) -> bool:
    """Whether the sysctls that watermarks follow have the values that the boot gives them."""
    if snapshot.sysctl_number("vm/watermark_scale_factor") != DEFAULT_SCALE_FACTOR:
        return False
    pageblocks = snapshot.parsed("proc/pagetypeinfo", pagetypeinfo.parse)
    try:
        eras = watermark_eras(snapshot.release)
        automatic = {
            boot_watermarks(
                managed,
                managed,
                khugepaged=khugepaged,
                populated_zones=sum(
                    1
                    for zone in snapshot.zoneinfo.zones
                    if zone.pages["present"] and holds_buffers(zone.zone)
                ),
                pageblock_pages=1 << pageblocks.pageblock_order,
                page_size_bytes=snapshot.page_size_bytes,
                era=era,
            ).min_free_kbytes
            for khugepaged in Khugepaged
            for era in eras
        }
    except ValueError:
        return False
    return snapshot.sysctl_number("vm/min_free_kbytes") in automatic


def _cpus_changed_late(snapshot: Snapshot) -> bool:
    over = False
    for message in snapshot.dmesg.messages:
        over = over or _HANDED_OVER.match(message.text) is not None
        if over and _CPU_CHANGED.match(message.text):
            return True
    return False
