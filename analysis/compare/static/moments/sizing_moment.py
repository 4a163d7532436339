"""From which managed pages the kernel sized what follows the watermarks: its last time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.static.moments.boot_places import ZoneKey
from analysis.compare.static.moments.late_frees import (
    Earlier,
    LateFree,
    Step,
    as_now,
    late_frees,
    managed_before,
)
from analysis.compare.static.watermark.marks import boot_alike, shown_marks
from analysis.errors import MissingInputError
from analysis.procfs.zoneinfo import Zone

_CPU_CHANGED = re.compile(
    r"smpboot: Booting Node|smpboot: CPU \d+ is now offline|CPU\d+: Booted secondary processor"
    r"|psci: CPU\d+ killed|CPU \d+ is now offline"
)
_HANDED_OVER = re.compile(r"Freeing unused kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """When watermarks and per-cpu lists were last computed."""

    why: str
    """How the capture tells, or that it does not."""
    matches_watermarks: bool
    """The zones' watermarks are what follows from that moment's managed pages."""
    told: tuple[dict[ZoneKey, Earlier], ...] = ()
    """What all zones managed then, in every way that gives the zones' watermarks."""
    frees: tuple[LateFree, ...] = ()
    """Where nothing is told: it may have been at boot, before these came to their zones, or now."""

    def managed(self, zone: Zone) -> tuple[Earlier, ...]:
        """Every possible number of managed pages at that moment, with its arithmetic."""
        key = (zone.node, zone.zone)
        options = [one[key] for one in self.told if key in one]
        if not options:
            options = [*managed_before(zone, self.frees), as_now(zone)]
        found: dict[int, Earlier] = {}
        for earlier in options:
            found.setdefault(earlier.managed_pages, earlier)
        return tuple(found.values())


def unboosted(zone: Zone, field: str) -> int:
    """A watermark of zoneinfo without the boost that is printed in it."""
    return zone.pages[field] - zone.pages.get("boost", 0)


def last_sizing(snapshot: Snapshot) -> Sized:
    """When a kernel that sizes its lists with the watermarks last did so (5.14 and later).

    It did at boot, and again if a sysctl was written, memory plugged or a CPU turned on or off. The
    watermarks tell: they were computed at the same moment from the same managed pages.

    Raises:
        MissingInputError: as ``late_frees`` does.
    """
    zones = snapshot.zoneinfo.zones
    now = {(zone.node, zone.zone): as_now(zone) for zone in zones}
    if _cpus_changed_late(snapshot):
        return Sized(
            told=(now,),
            why="a CPU was turned on or off after boot, and all lists sized anew",
            matches_watermarks=False,
        )
    frees = late_frees(snapshot, Step.HUGE_PAGES)
    try:
        shown = shown_marks(snapshot)
    except MissingInputError as error:
        return Sized(
            frees=frees,
            why=f"when the lists were last sized cannot be told: {error.message}",
            matches_watermarks=False,
        )
    told = []
    if shown and all(marks.after_boot for marks in shown):
        told += [
            {
                key: Earlier(managed_pages=pages, working=f"{pages} pages managed at boot")
                for key, pages in managed.items()
            }
            for managed in boot_alike(snapshot, shown[0])
        ]
    undecided = bool(told)
    for marks in shown:
        earlier = {
            key: Earlier(
                managed_pages=pages, working=f"{pages} pages managed, as computed {marks.name}"
            )
            for key, pages in marks.managed.items()
        }
        told.append(now if marks.after_boot else earlier)
    if not told:
        return Sized(
            frees=frees,
            why="the watermarks do not tell whether the lists were sized at boot or later",
            matches_watermarks=False,
        )
    return Sized(
        told=tuple(told),
        why=(
            "the watermarks do not tell whether the lists were sized at boot or later"
            if undecided
            else f"the watermarks are those computed {' or '.join(sorted({m.name for m in shown}))}"
        ),
        matches_watermarks=True,
    )


def _cpus_changed_late(snapshot: Snapshot) -> bool:
    over = False
    for message in snapshot.dmesg.messages:
        over = over or _HANDED_OVER.match(message.text) is not None
        if over and _CPU_CHANGED.match(message.text):
            return True
    return False
