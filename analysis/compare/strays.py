"""Pages that nobody of ours asked for, between two marks: the per-cpu lists at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.compare.facts import Tables
from analysis.compare.zones import RoundZone, frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """Free pages of a zone that came or went beside the request of a step."""

    label: str
    pages: int
    """Growth of the zone's free pages beyond what the step gave back or took; not 0."""
    percpu_pages: int
    """Growth of the zone's per-cpu lists meanwhile, of the opposite sign."""

    @property
    def size(self) -> int:
        """Single pages seen on both sides: no more than so many blocks of an order can change."""
        return min(abs(self.pages), abs(self.percpu_pages))

    def __str__(self) -> str:
        direction = "gave the zone" if self.pages > 0 else "took from the zone"
        return f"per-cpu lists {direction} {abs(self.pages)} pages at {self.label}"


def stray_of(
    label: str, *, free_growth: int, requested_growth: int, percpu_growth: int | None
) -> Stray | None:
    """The stray pages of one step, all numbers in pages; None when there are none.

    Only what the per-cpu lists show on their own side counts: a ring that took another number of
    blocks than it should does not pass for stray pages.

    Kernel: mm/page_alloc.c, ``rmqueue_bulk`` and ``free_pcppages_bulk`` move batches between
        per-cpu lists and free lists; mm/vmstat.c, ``refresh_cpu_vm_stats`` has a periodic worker
        give back the lists of other nodes' zones, from 6.7 on also lists that grew long.
    Ignores: batches that came and went between the two marks.
    """
    pages = free_growth - requested_growth
    if not pages or not percpu_growth or (pages > 0) == (percpu_growth > 0):
        return None
    return Stray(label=label, pages=pages, percpu_pages=percpu_growth)


def percpu_pages(tables: Tables) -> Mapping[RoundZone, int]:
    """Pages on the per-cpu lists of each zone, all CPUs together, as /proc/zoneinfo counts them."""
    cpus = frame(tables, "zone_cpus")
    if cpus is None:
        return {}
    counts = cpus[cpus["field"] == "count"]
    total: dict[RoundZone, int] = {}
    columns = (counts[name].tolist() for name in ("round", "node", "zone", "value"))
    for number, node, zone, pages in zip(*columns, strict=True):
        key = (int(number), int(node), str(zone))
        total[key] = total.get(key, 0) + int(pages)
    return total
