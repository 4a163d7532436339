"""Zones, orders and page frames of the machine that a memory sample is of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError

OUTSIDE = -1
"""Value of ``Geometry.zone_of`` for page frames that belong to no zone."""
_LARGEST_MAP_PAGES = 1 << 28
_STRUCT_PAGE_BYTES = 64


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

    def holds(self, pfn: int) -> bool:
        """Whether the zone spans this page frame."""
        return self.start_pfn <= pfn < self.end_pfn

    def __str__(self) -> str:
        return f"node {self.node} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What of a machine's memory does not change, and page frames as indices of dense arrays.

    index = pfn - ``first_pfn``, which is a multiple of the largest block, so that a block's buddy
    has the index of the block with one bit flipped, as with pfns.
    """

    first_pfn: int
    zone_of: NDArray[np.int8]
    """Zone index of every page, ``OUTSIDE`` where there is none."""
    zones: tuple[Zone, ...]
    max_order: int
    pageblock_order: int
    pcp_types: int
    """MIGRATE_PCPTYPES: types below it have per-cpu lists and merge with each other."""
    pcp_lists: int
    isolate: int
    """Number of the migratetype Isolate; -1 where the kernel has none."""
    vmemmap: int | None
    """Address of the struct page of page frame 0, where the sample knows it."""
    struct_page_bytes: int

    @property
    def pages(self) -> int:
        """Number of page frames the arrays cover, holes included."""
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


def geometry_of(sample: MemorySample) -> Geometry:
    """Zones, orders and numbers of a sample.

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
    meta = sample.meta
    return Geometry(
        first_pfn=first_pfn,
        zone_of=zone_of,
        zones=zones,
        max_order=max_order,
        pageblock_order=pageblock_order,
        pcp_types=int(meta["pcp_types"]),
        pcp_lists=int(meta["pcp_lists"]),
        isolate=_isolate(sample),
        vmemmap=None if meta.get("vmemmap") is None else int(meta["vmemmap"]),
        struct_page_bytes=int(meta.get("struct_page_bytes") or _STRUCT_PAGE_BYTES),
    )


def _isolate(sample: MemorySample) -> int:
    names = [str(name).lower() for name in sample.meta["migratetypes"]]
    return names.index("isolate") if "isolate" in names else -1
