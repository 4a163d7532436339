"""What the linear map maps, against the memory that zones have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.identities.zones import FILE, is_high
from analysis.model.identities import zones as model

_XEN = re.compile(r"Booting paravirtualized kernel on Xen( PV)?$")


def _direct_map(snapshot: Snapshot) -> Iterator[Claim]:
    lines = {k: v for k, v in snapshot.meminfo.values.items() if k.startswith("DirectMap")}
    if not lines:
        why = "this architecture does not print its linear map"
        yield unknown("direct_map", why=why, lacking=True)
        return
    if snapshot.arch not in ("x86_64", "i386"):
        yield unknown("direct_map", why=f"the linear map of {snapshot.arch} is not described")
        return
    zones = snapshot.zoneinfo.zones
    if any(zone.zone == "Device" and zone.pages["spanned"] for zone in zones):
        yield unknown("direct_map", why="memory of devices is mapped and in no zone's pages")
        return
    if snapshot.has("dmesg") and any(True for _ in snapshot.dmesg.matching(_XEN)):
        yield unknown("direct_map", why="Xen maps memory before the kernel does")
        return
    offline = [
        name
        for name in snapshot.source.files
        if name.startswith("sys/devices/system/memory/memory")
        and name.endswith("/state")
        and snapshot.source.read(name).strip() != b"online"
    ]
    if offline:
        yield unknown("direct_map", why="memory blocks are offline: mapped, and in no zone")
        return
    first = next((zone for zone in zones if zone.zone == "DMA" and zone.pages["present"]), None)
    if first is None:
        yield unknown("direct_map", why="without ZONE_DMA the hole below 1 MiB is not seen")
        return
    low = [zone for zone in zones if not is_high(zone, zones)]
    present = sum(zone.pages["present"] for zone in low)
    start = first.tail["start_pfn"]
    hole = first.pages["spanned"] - first.pages["present"]
    try:
        pages = model.direct_map_pages(
            present_pages=present, first_pfn=start, lower_hole_pages=hole
        )
    except ValueError as error:
        yield unknown("direct_map", why=str(error))
        return
    shown = sum(lines.values())
    predicted = pages * snapshot.page_kib
    working = [
        f"{present} pages present in zones of low memory",
        f"of the first 1 MiB no zone has {start} pages below the first and {hole} in its hole",
        f"{pages} pages of 4 KiB are {predicted} KiB; the kernel shows "
        + " + ".join(f"{value} ({name})" for name, value in lines.items()),
    ]
    again_kib = _counted_again_kib(snapshot, lines)
    if again_kib:
        working.append(f"pages of {again_kib} KiB may be counted twice: compared modulo that")
        predicted = model.counted_once(predicted, again_kib)
        shown = model.counted_once(shown, again_kib)
    yield exact(
        "direct_map",
        {"modulo_kib": again_kib} if again_kib else {},
        predicted=predicted,
        observed=shown,
        unit="KiB",
        working=working,
    )


def _counted_again_kib(snapshot: Snapshot, lines: Mapping[str, int]) -> int:
    """The smallest page that may be counted twice; 0 where none is."""
    if not snapshot.has("proc/cmdline") or snapshot.cmdline.has("movable_node"):
        return 2048
    return 1 << 20 if lines.get("DirectMap1G") else 0


RULES: tuple[Rule, ...] = (
    Rule(
        id="direct_map",
        says=(
            "The DirectMap lines tell in which page sizes the linear map maps memory. Their sum "
            "is all low memory that zones have, and what is missing of the first 1 MiB, which is "
            "mapped whole. Pages of 1 GiB, and with movable_node those of 2 MiB, may be counted "
            "twice: then the sum is right modulo such a page."
        ),
        inputs=(FILE,),
        observed="meminfo, DirectMap*",
        model=(model.direct_map_pages, model.counted_once),
        judge=_direct_map,
    ),
)
