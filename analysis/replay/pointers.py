"""What the pointers mean that probes show: struct pages, zones and nodes."""

from __future__ import annotations

from typing import TypedDict

from analysis.bundle import MemorySample
from analysis.replay.timeline import PageAddresses


class Pointers(TypedDict):
    """What a ``Predictor`` has to know of them, as its arguments."""

    zone_pointers: dict[int, int]
    """Address of a struct zone → the zone's number."""
    node_pointers: dict[int, int]
    """Address of a struct pglist_data → the node's number."""
    page_shift: int


def addresses_of(sample: MemorySample) -> PageAddresses:
    """Where the guest's struct pages lie."""
    return PageAddresses(
        vmemmap_base=int(sample.meta["vmemmap"] or 0),
        struct_page_bytes=int(sample.meta["struct_page_bytes"]),
    )


def pointers_of(sample: MemorySample) -> Pointers:
    """Zones and nodes by address; empty where a sample does not say (earlier versions)."""
    zones = sample.meta.get("zone_addresses") or []
    nodes = sample.meta.get("node_addresses") or {}
    return {
        "zone_pointers": {int(address): number for number, address in enumerate(zones)},
        "node_pointers": {int(address): int(node) for node, address in nodes.items()},
        "page_shift": int(sample.meta["page_size_bytes"]).bit_length() - 1,
    }
