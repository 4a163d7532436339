"""Changes of watermarks and reserves."""

from __future__ import annotations

from collections.abc import Mapping

from tests.mutations.mutation import Mutation, plus

_BEYOND_MOVEMENT_PAGES = 20_000
"""More than free and file pages can move while a capture reads its files."""


def _mark(name: str) -> Mutation:
    return Mutation(file="proc/zoneinfo", pattern=rf"^ +{name} +(\d+)$", change=plus(1))


def _counter(name: str) -> Mutation:
    return Mutation(
        file="proc/vmstat", pattern=rf"^{name} (\d+)$", change=plus(_BEYOND_MOVEMENT_PAGES)
    )


_AVAILABLE = Mutation(
    file="proc/meminfo",
    pattern=r"^MemAvailable: +(\d+) kB$",
    change=plus(64 * _BEYOND_MOVEMENT_PAGES),
)

MUTATIONS: Mapping[str, Mutation] = {
    # Smaller steps vanish in the rounding to pages of 64 KiB.
    "min_free_kbytes": Mutation(
        file="proc/sys/vm/min_free_kbytes", pattern=r"^(\d+)$", change=plus(64)
    ),
    "watermark_min": _mark("min"),
    "watermark_low": _mark("low"),
    "watermark_high": _mark("high"),
    "watermark_promo": _mark("promo"),
    "watermark_boost": _mark("boost"),
    "lowmem_reserve": Mutation(
        file="proc/zoneinfo",
        pattern=r"^ +protection: \((?:\d+, )*(\d+)\)$",
        change=plus(1),
    ),
    "totalreserve": _AVAILABLE,
    "mem_available": _AVAILABLE,
    "nr_dirty_threshold": _counter("nr_dirty_threshold"),
    "nr_dirty_background_threshold": _counter("nr_dirty_background_threshold"),
}
