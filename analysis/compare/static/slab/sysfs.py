"""Rules about the directories of /sys/kernel/slab: what SLUB made of each cache."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of
from analysis.compare.static.slab import inputs, orders
from analysis.compare.static.slab.ways import Row, claims
from analysis.model.slab.shown import counted
from analysis.model.slab.slub_layout import SlabFlags, free_pointer_inside, slub_layout
from analysis.model.slab.slub_order import (
    SlabOrder,
    counted_cpus,
    order_limits,
    slub_order,
    wanted_objects,
)

_COUNTS = ("total_objects", "slabs")


def _slab_size(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    inputs.plain_objects(snapshot)
    word = inputs.word_bytes(snapshot)
    eras = inputs.eras(snapshot)
    for name, attributes, values in inputs.caches(snapshot, "slab_size", "object_size", "align"):
        flags = inputs.flags(attributes, name)
        object_size, align = values["object_size"], values["align"]
        layouts = {
            slub_layout(
                object_size,
                align,
                flags,
                era=era,
                word_bytes=word,
                stack=not flags.store_user
                or inputs.option(snapshot, "STACKDEPOT" if era.tracks_in_depot else "STACKTRACE"),
                free_pointer_inside=inside,
            )
            for era in eras
            for release in snapshot.releases[:1] + snapshot.releases[-1:]
            for inside in free_pointer_inside(name, release)
        }
        layout = next(iter(layouts))
        pointer = layout.free_pointer_offset
        place = "where the user says" if pointer is None else f"at {pointer}"
        yield one_of(
            "slab_size",
            {"cache": name},
            options=(layout.size_bytes for layout in layouts),
            observed=values["slab_size"],
            unit="bytes",
            undecided="whether the free pointer has a place in the object is not known",
            working=(
                f"object_size {object_size} bytes, align {align}, {_said(flags)}",
                f"in whole words {layout.inuse_bytes} bytes, free pointer {place}",
                f"tracking {layout.tracking_bytes}, left red zone {layout.red_left_pad_bytes}",
                f"all rounded up to {align}: {layout.size_bytes} bytes",
            ),
        )


def _said(flags: SlabFlags) -> str:
    words = (
        (flags.destroy_by_rcu, "read by RCU after it is freed"),
        (flags.constructor, "a constructor"),
        (flags.red_zone, "red zones"),
        (flags.poison, "poison"),
        (flags.store_user, "tracking"),
    )
    return ", ".join(word for on, word in words if on) or "no flag that adds bytes"


def _order(snapshot: Snapshot, rule: str, observed: str) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    ways = orders.order_ways(snapshot)
    return claims(
        rule,
        _order_rows(snapshot, ways, observed),
        undecided=orders.UNDECIDED,
        same_for_all=not orders.cpus_change(snapshot),
    )


def _order_rows(
    snapshot: Snapshot, ways: tuple[orders.OrderWay, ...], observed: str
) -> Iterator[Row]:
    made: dict[int, tuple[SlabOrder, ...]] = {}
    for name, _, values in inputs.caches(snapshot, observed, "slab_size"):
        size = values["slab_size"]
        if size not in made:
            made[size] = tuple(way.order(size) for way in ways)
        found = made[size]
        yield Row(
            scope={"cache": name},
            options=tuple(order.order if observed == "order" else order.objects for order in found),
            observed=values[observed],
            unit="order" if observed == "order" else "objects",
            working=tuple(
                line
                for way, order in zip(ways, found, strict=True)
                for line in way.working(size, order)
            ),
        )


def _slab_order(snapshot: Snapshot) -> Iterator[Claim]:
    return _order(snapshot, "slab_order", "order")


def _slab_objs_per_slab(snapshot: Snapshot) -> Iterator[Claim]:
    return _order(snapshot, "slab_objs_per_slab", "objs_per_slab")


def _counts(snapshot: Snapshot) -> Iterator[str]:
    for attributes in inputs.sysfs(snapshot).caches.values():
        yield from (attributes.get(name, "") for name in _COUNTS)


def _slab_nodes_sum(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    if not any(" N" in text for text in _counts(snapshot)):
        raise inputs.OutsideRuleError("no cache shows its nodes: without CONFIG_NUMA none does")
    for attribute in _COUNTS:
        for name, attributes, values in inputs.caches(snapshot, attribute):
            parts = attributes[attribute].split()[1:]
            nodes = {
                int(part[1:].partition("=")[0]): int(part.partition("=")[2] or 0)
                for part in parts
                if part[0] == "N"
            }
            yield exact(
                "slab_nodes_sum",
                {"cache": name, "attribute": attribute},
                predicted=counted(nodes),
                observed=values[attribute],
                unit="objects" if attribute == "total_objects" else "slabs",
                working=(" + ".join(map(str, nodes.values())) or "no node has any",),
            )


_SLAB_SYSFS = ("slab_sysfs",)
_ORDER_SAYS = (
    "SLUB wants four times (1 + bits of the number of CPUs) objects in a slab, and takes the "
    "smallest order up to slub_max_order (3) that holds so many and leaves at most a sixteenth of "
    "the slab over; where none does, more may be left over (an eighth, a quarter, from 6.7 a half) "
    "and, to 6.6, fewer objects are asked for. Counted are the possible CPUs (5.10) or the present "
    "ones."
)
_ORDER_INPUTS = (
    "slab_sysfs",
    "sys/devices/system/cpu/possible",
    "sys/devices/system/cpu/present",
    "proc/cmdline",
)

RULES: tuple[Rule, ...] = (
    Rule(
        id="slab_size",
        says=(
            "An object takes its own bytes in whole words; a word for the free pointer where that "
            "must not overlay the object (RCU readers, a constructor, poison); what debugging "
            "adds (red zones, two tracking records); and is rounded up to the cache's alignment."
        ),
        inputs=_SLAB_SYSFS,
        observed="slab_sysfs: slab_size",
        model=(slub_layout, free_pointer_inside),
        judge=_slab_size,
    ),
    Rule(
        id="slab_order",
        says=_ORDER_SAYS,
        inputs=_ORDER_INPUTS,
        observed="slab_sysfs: order",
        model=(slub_order, order_limits, counted_cpus, wanted_objects),
        judge=_slab_order,
    ),
    Rule(
        id="slab_objs_per_slab",
        says="A slab of the cache's order holds as many objects as fit. " + _ORDER_SAYS,
        inputs=_ORDER_INPUTS,
        observed="slab_sysfs: objs_per_slab",
        model=(slub_order, order_limits, counted_cpus, wanted_objects),
        judge=_slab_objs_per_slab,
    ),
    Rule(
        id="slab_nodes_sum",
        says=(
            "An attribute that counts objects or slabs prints the sum and then each node that has "
            "any: both come from one pass over the nodes."
        ),
        inputs=_SLAB_SYSFS,
        observed="slab_sysfs: total_objects, slabs",
        model=(counted,),
        judge=_slab_nodes_sum,
    ),
)
