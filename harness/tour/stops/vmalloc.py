"""Stops about vmalloc areas."""

from __future__ import annotations

from harness.tour.evidence import Evidence
from harness.tour.slab_module import DIRECTORY, load_slab_module, say, show
from harness.tour.stop import Stop, StopBoot

_ADDRESSES = "no_hash_pointers"
"""Files print addresses as they are."""
_AREAS = "/proc/vmallocinfo"
_REFRESH = "/proc/sys/vm/stat_refresh"
_READ = f"[ -w {_REFRESH} ] && echo 1 > {_REFRESH} && echo '== {_REFRESH}'\n" + show(
    _AREAS, "/proc/meminfo"
)
"""What is read at each step; before, each CPU is made to hand in its share of the counters."""
_OBJECTS = show(f"{DIRECTORY}/objects")
_FIRST = (
    *("vmalloc 4 4096", "vmalloc 2 20000", "vmalloc 1 1048576", "vmap 2 8", "vmalloc 3 4097"),
    "vmalloc 1 4194304",
)
_FREED = ("free vmalloc forward 2 0",)
_SECOND = ("vmalloc 3 4096", "vmalloc 1 1048576", "vmap 1 3")


def _areas(evidence: Evidence) -> None:
    """Areas are asked for by one process that starts no other, so that no kernel stack comes or
    goes between what is read before and after."""
    evidence.capture()
    load_slab_module(evidence)
    evidence.keep_json("commands", [list(_FIRST), list(_FREED), list(_SECOND)])
    evidence.shell(
        "walk",
        _READ
        + say(*_FIRST)
        + _READ
        + _OBJECTS
        + say(*_FREED)
        + _READ
        + say(*_SECOND)
        + _READ
        + _OBJECTS,
    )
    evidence.shell("frames", f"cat {DIRECTORY}/frames")
    evidence.shell("state", f"cat {DIRECTORY}/state")


STOPS: tuple[Stop, ...] = (
    Stop(
        name="vmalloc/areas",
        boots=(
            StopBoot(label="main", kernel="bookworm", gather=_areas, append=_ADDRESSES),
            StopBoot(label="newest", kernel="sid", gather=_areas, append=_ADDRESSES),
        ),
    ),
)
