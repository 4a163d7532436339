"""The zones of a memory sample, and a map from page frames to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError

OUTSIDE = -1
"""Value of ``PageMap.zone_of`` for page frames that belong to no zone."""
_LARGEST_MAP_PAGES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One populated zone. ``index`` is what the sample's arrays call it."""

    index: int
    node: int
    name: str
    start_pfn: int
    spanned_pages: int
    managed_pages: int

    @property
    def end_pfn(self) -> int:
        """First page frame after the zone's span."""
        return self.start_pfn + self.spanned_pages

    def __str__(self) -> str:
        return f"node {self.node} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMap:
    """Page frames as indices of dense arrays: index = pfn - ``first_pfn``.

    ``first_pfn`` is a multiple of the largest block, so that a block's buddy has the index of the
    block with one bit flipped, as with pfns.
    """

    first_pfn: int
    zone_of: NDArray[np.int8]
    """Zone index of every page, ``OUTSIDE`` where there is none."""
    max_order: int
    pageblock_order: int

    @property
    def pages(self) -> int:
        """Number of page frames the map covers, holes included."""
        return len(self.zone_of)


def zones_of(sample: MemorySample) -> tuple[Zone, ...]:
    """The sample's zones in the order of their index."""
    rows = sorted(sample.zones, key=lambda row: int(row["zone"]))
    return tuple(
        Zone(
            index=int(row["zone"]),
            node=int(row["node"]),
            name=bytes(row["name"]).decode("ascii", "replace"),
            start_pfn=int(row["start_pfn"]),
            spanned_pages=int(row["spanned_pages"]),
            managed_pages=int(row["managed_pages"]),
        )
        for row in rows
    )


def page_map(sample: MemorySample) -> PageMap:
    """Which zone every page frame belongs to.

    Raises:
        BundleError: there is no zone, two zones span the same page frame, or the zones lie too
            far apart for a dense map.

    Ignores: nodes whose spans interleave, as some firmware lays them out: refused.
    """
    zones = zones_of(sample)
    max_order, pageblock_order = int(sample.meta["max_order"]), int(sample.meta["pageblock_order"])
    if not zones or [zone.index for zone in zones] != list(range(len(zones))):
        raise BundleError(f"memory sample {sample.label}: its zones are not numbered from 0")
    if not 0 <= pageblock_order <= max_order < 32:
        raise BundleError(
            f"memory sample {sample.label}: pageblock order {pageblock_order} and largest order "
            f"{max_order} do not go together"
        )
    block = 1 << max_order
    first_pfn = min(zone.start_pfn for zone in zones) // block * block
    end_pfn = -(-max(zone.end_pfn for zone in zones) // block) * block
    if first_pfn < 0 or end_pfn - first_pfn > _LARGEST_MAP_PAGES:
        raise BundleError(
            f"memory sample {sample.label}: zones from page {first_pfn:#x} to {end_pfn:#x} span "
            f"more than {_LARGEST_MAP_PAGES} pages",
            fix="replay a guest whose memory lies closer together",
        )
    zone_of = np.full(end_pfn - first_pfn, OUTSIDE, np.int8)
    for zone in zones:
        span = zone_of[zone.start_pfn - first_pfn : zone.end_pfn - first_pfn]
        if (span != OUTSIDE).any():
            raise BundleError(
                f"memory sample {sample.label}: {zone} spans pages of another zone",
                fix="replay a guest whose nodes do not interleave",
            )
        span[:] = zone.index
    return PageMap(
        first_pfn=first_pfn,
        zone_of=zone_of,
        max_order=max_order,
        pageblock_order=pageblock_order,
    )
