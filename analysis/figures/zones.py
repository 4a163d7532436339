"""Which zones a run has, in the kernel's order."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.compare.facts import Tables
from analysis.figures.facts import table

_ZONE_ORDER = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    node: int
    zone: str

    @property
    def label(self) -> str:
        return f"node {self.node} {self.zone}"

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a per-zone table that are about this zone."""
        return frame[(frame["node"] == self.node) & (frame["zone"] == self.zone)]


def zones_of(frame: pd.DataFrame) -> list[Zone]:
    """The zones that occur in a per-zone table, by node, lowest zone first."""
    pairs = frame[["node", "zone"]].drop_duplicates().itertuples(index=False)
    return sorted(
        (Zone(node=int(node), zone=str(zone)) for node, zone in pairs),
        key=lambda z: (z.node, _rank(z.zone), z.zone),
    )


def populated_zones(tables: Tables, frame: pd.DataFrame) -> list[Zone]:
    """The zones of ``frame`` that have managed pages as far as ``zoneinfo`` tells."""
    zones = zones_of(frame)
    zoneinfo = table(tables, "zoneinfo")
    if zoneinfo is None:
        return zones
    managed = zoneinfo[zoneinfo["field"] == "managed"]
    empty = {zone for zone in zones_of(managed) if zone.rows(managed)["value"].max() == 0}
    return [zone for zone in zones if zone not in empty]


def large_zones(tables: Tables) -> list[Zone]:
    """The zones with at least a twentieth of all managed pages, as far as ``zoneinfo`` tells."""
    zoneinfo = table(tables, "zoneinfo")
    if zoneinfo is None:
        return []
    managed = zoneinfo[zoneinfo["field"] == "managed"]
    pages = {zone: int(zone.rows(managed)["value"].max()) for zone in zones_of(managed)}
    return [zone for zone, count in pages.items() if count * 20 >= sum(pages.values()) > 0]


def memoryless_nodes(tables: Tables) -> list[int]:
    """Nodes whose zones all have no managed page."""
    zoneinfo = table(tables, "zoneinfo")
    if zoneinfo is None:
        return []
    managed = zoneinfo[zoneinfo["field"] == "managed"].groupby("node")["value"].max()
    return [int(node) for node, value in managed.items() if value == 0]  # type: ignore[call-overload]


def zone_caption(tables: Tables, base: str) -> str:
    """The caption, with the nodes that no panel is about named."""
    nodes = memoryless_nodes(tables)
    if not nodes:
        return base
    names = ", ".join(str(node) for node in nodes)
    return f"{base} · no memory on node {names}"


def _rank(zone: str) -> int:
    return _ZONE_ORDER.index(zone) if zone in _ZONE_ORDER else len(_ZONE_ORDER)
