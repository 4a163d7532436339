"""In which ways the orders of a kernel's slabs may have been computed."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.capture.snapshot import CPUS, Snapshot
from analysis.compare.static.slab.inputs import eras, nr_cpu_ids, tiny
from analysis.errors import ParseError
from analysis.model.eras_slab import SlabEra
from analysis.model.slab.slub_order import (
    OrderLimits,
    SlabOrder,
    counted_cpus,
    order_limits,
    slub_order,
    wanted_objects,
)
from analysis.procfs import cpulist

UNDECIDED = "several releases' rules or numbers of CPUs are possible"

_LATE_PRESENT = ("arm64", "arm", "riscv64")
"""Architectures that mark CPUs as present when they are about to be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWay:
    """One way to compute a cache's order."""

    era: SlabEra
    cpus: int
    limits: OrderLimits
    page_size: int

    def order(self, size: int) -> SlabOrder:
        """The order for objects that lie ``size`` bytes apart."""
        return slub_order(
            size, cpus=self.cpus, limits=self.limits, page_size=self.page_size, era=self.era
        )

    def working(self, size: int, order: SlabOrder) -> tuple[str, ...]:
        """The arithmetic."""
        wanted = self.limits.min_objects or wanted_objects(self.cpus)
        fit = (self.page_size << self.limits.max_order) // size
        slab_bytes = self.page_size << order.order
        left = slab_bytes % size
        part = next((part for part in (16, 8, 4, 2) if left * part <= slab_bytes), 1)
        least, largest = self.limits.min_order, self.limits.max_order
        return (
            f"{self.cpus} CPUs: {wanted} objects wanted in orders {least}-{largest}",
            f"order {largest} holds {fit} of {size} bytes: at least {max(1, min(wanted, fit))}",
            f"order {order.order} of {slab_bytes} bytes holds {order.objects}",
            f"it leaves {left} bytes, not more than 1/{part}",
        )


def limits(snapshot: Snapshot, era: SlabEra) -> OrderLimits:
    """The limits of slab orders that the kernel's parameters set."""
    names = ("slub_", "slab_") if era.slab_parameters else ("slub_",)
    parameters: dict[str, int] = {}
    for word, value in snapshot.cmdline.words:
        short = word.partition("_")[2]
        if word.startswith(names) and short in ("min_order", "max_order", "min_objects"):
            parameters[short] = _number("proc/cmdline", word, value)
    guard = snapshot.cmdline.last("debug_guardpage_minorder")
    if guard:
        parameters["debug_guardpage_minorder"] = _number("proc/cmdline", "guard pages", guard)
    largest = 10
    if snapshot.has("proc/buddyinfo"):
        largest = len(snapshot.buddyinfo[0].free_blocks) - 1
    return order_limits(parameters, era, tiny=tiny(snapshot), page_order_max=largest)


def _number(source: str, name: str, text: str | None) -> int:
    try:
        return int(text or "", 0)
    except ValueError:
        raise ParseError(source, 1, f"{name}={text}", "a number") from None


def order_cpus(snapshot: Snapshot, era: SlabEra) -> tuple[int, ...]:
    """The numbers of CPUs that a cache's order may have been computed with: mostly one.

    Raises:
        MissingInputError: neither the possible nor the present CPUs are known.
    """
    possible = nr_cpu_ids(snapshot)
    if not era.counts_present_cpus:
        return (possible,)
    online = len(snapshot.cpus_online)
    if snapshot.has(f"{CPUS}/present"):
        present = [len(snapshot.parsed(f"{CPUS}/present", cpulist.parse))]
    else:
        present = list(range(online, possible + 1))
    found = {counted_cpus(era, possible=possible, present=count) for count in present}
    if snapshot.arch in _LATE_PRESENT:
        found.add(possible)
    # only the number of bits counts
    return tuple({count.bit_length(): count for count in sorted(found)}.values())


def order_ways(snapshot: Snapshot) -> tuple[OrderWay, ...]:
    """Every way in which the orders of this kernel's caches may have been computed.

    Raises:
        MissingInputError: an input is missing.
    """
    return tuple(
        OrderWay(
            era=era,
            cpus=cpus,
            limits=limits(snapshot, era),
            page_size=snapshot.page_size_bytes,
        )
        for era in eras(snapshot)
        for cpus in order_cpus(snapshot, era)
    )


def cpus_change(snapshot: Snapshot) -> bool:
    """Whether the number of CPUs that counts may have changed while caches were made."""
    return snapshot.arch in _LATE_PRESENT
