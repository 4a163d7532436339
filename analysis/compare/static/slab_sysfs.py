"""Rules about the directories of /sys/kernel/slab: what SLUB made of each cache."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of
from analysis.compare.static import slab_inputs as inputs
from analysis.compare.static.slab_ways import Row, claims
from analysis.model.slab.kmalloc import boot_align, cache_align, kmalloc_sizes
from analysis.model.slab.partial import cpu_partial, min_partial
from analysis.model.slab.sheaves import sheaf_capacity
from analysis.model.slab.slub_layout import SlabFlags, free_pointer_inside, slub_layout
from analysis.model.slab.slub_order import (
    SlabOrder,
    counted_cpus,
    order_limits,
    slub_order,
    wanted_objects,
)

SLAB_MINALIGN = 8
"""ARCH_SLAB_MINALIGN where nothing asks for more: the alignment of a 64-bit number."""
_COUNTS = ("total_objects", "slabs")
_BOOT = ("kmem_cache", "kmem_cache_node")


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
                f"object_size {object_size}, align {align}, {_said(flags)}",
                f"in use {layout.inuse_bytes}, free pointer {place}",
                f"tracking {layout.tracking_bytes}, left red zone {layout.red_left_pad_bytes}",
                f"rounded up to {align}: {layout.size_bytes}",
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
    ways = inputs.order_ways(snapshot)
    return claims(
        rule,
        _order_rows(snapshot, ways, observed),
        undecided=inputs.UNDECIDED,
        same_for_all=not inputs.cpus_change(snapshot),
    )


def _order_rows(
    snapshot: Snapshot, ways: tuple[inputs.OrderWay, ...], observed: str
) -> Iterator[Row]:
    made: dict[int, tuple[SlabOrder, ...]] = {}
    for name, _, values in inputs.caches(snapshot, observed, "slab_size"):
        size = values["slab_size"]
        if size not in made:
            made[size] = tuple(way.order(size) for way in ways)
        orders = made[size]
        yield Row(
            scope={"cache": name},
            options=tuple(
                order.order if observed == "order" else order.objects for order in orders
            ),
            observed=values[observed],
            unit="order" if observed == "order" else "objects",
            working=tuple(
                way.working(size, order) for way, order in zip(ways, orders, strict=True)
            ),
        )


def _slab_order(snapshot: Snapshot) -> Iterator[Claim]:
    return _order(snapshot, "slab_order", "order")


def _slab_objs_per_slab(snapshot: Snapshot) -> Iterator[Claim]:
    return _order(snapshot, "slab_objs_per_slab", "objs_per_slab")


def _slab_cpu_partial(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    return claims("slab_cpu_partial", _cpu_partial_rows(snapshot), undecided=inputs.BACKPORTS)


def _cpu_partial_rows(snapshot: Snapshot) -> Iterator[Row]:
    eras = tuple(inputs.eras(snapshot))
    page = snapshot.page_size_bytes
    keeps = any(era.keeps_cpu_partial for era in eras)
    configured = keeps and inputs.option(snapshot, "SLUB_CPU_PARTIAL")
    if configured:  # the option went when the rule did
        eras = tuple(era for era in eras if era.keeps_cpu_partial)
    for name, attributes, values in inputs.caches(snapshot, "cpu_partial", "slab_size"):
        size = values["slab_size"]
        debugging = inputs.flags(attributes, name).debugging
        options = tuple(
            cpu_partial(size, era=era, page_size=page, configured=configured, debugging=debugging)
            for era in eras
        )
        why = "with debugging" if debugging else "" if configured else "CPUs keep no partial slabs"
        yield Row(
            scope={"cache": name},
            options=options,
            observed=values["cpu_partial"],
            unit="objects",
            working=tuple(f"size {size}, page {page}: {option} {why}" for option in options),
        )


def _slab_min_partial(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    small = inputs.tiny(snapshot)
    for name, _, values in inputs.caches(snapshot, "min_partial", "slab_size"):
        size = values["slab_size"]
        predicted = min_partial(size, tiny=small)
        yield exact(
            "slab_min_partial",
            {"cache": name},
            predicted=predicted,
            observed=values["min_partial"],
            unit="slabs",
            working=(f"log2 of {size} is {size.bit_length() - 1}, half of it within 5 and 10",),
        )


def _slab_sheaf_capacity(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    page = snapshot.page_size_bytes
    era = next(iter(inputs.eras(snapshot)))
    for name, attributes, values in inputs.caches(snapshot, "sheaf_capacity", "slab_size"):
        predicted = sheaf_capacity(
            name,
            values["slab_size"],
            era=era,
            page_size=page,
            word_bytes=inputs.word_bytes(snapshot),
            kmalloc_sizes=kmalloc_sizes(inputs.alignment(snapshot, era), page_size=page),
            debugging=inputs.flags(attributes, name).debugging,
            tiny=inputs.tiny(snapshot),
        )
        yield exact(
            "slab_sheaf_capacity",
            {"cache": name},
            predicted=predicted,
            observed=values["sheaf_capacity"],
            unit="objects",
            working=(f"size {values['slab_size']}: as many as fill a kmalloc object: {predicted}",),
        )


def _slab_align(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    inputs.plain_objects(snapshot)
    return claims("slab_align", _align_rows(snapshot), undecided=inputs.BACKPORTS)


def _align_rows(snapshot: Snapshot) -> Iterator[Row]:
    ways = [(era, inputs.alignment(snapshot, era)) for era in inputs.eras(snapshot)]
    for name, attributes, values in inputs.caches(snapshot, "align", "object_size"):
        kmalloc = inputs.KMALLOC.match(name) is not None
        if not kmalloc and name not in _BOOT:
            continue
        size = values["object_size"]
        lines = inputs.flags(attributes, name).hwcache_align
        line = inputs.cache_line(snapshot) if lines else None
        options = tuple(
            boot_align(
                size,
                era=era,
                alignment=alignment,
                kmalloc=kmalloc,
                cache_line=line,
                slab_minalign=SLAB_MINALIGN,
                word_bytes=inputs.word_bytes(snapshot),
            )
            for era, alignment in ways
        )
        asks = f"cache line {line}" if lines else "kmalloc"
        yield Row(
            scope={"cache": name},
            options=options,
            observed=values["align"],
            unit="bytes",
            working=tuple(f"size {size}, {asks}: {option}" for option in options),
        )


def _slab_align_least(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    inputs.plain_objects(snapshot)
    word = inputs.word_bytes(snapshot)
    for name, attributes, values in inputs.caches(snapshot, "align", "object_size"):
        line = None
        if inputs.flags(attributes, name).hwcache_align:
            line = inputs.cache_line(snapshot)
        align = values["align"]
        least = cache_align(
            values["object_size"], 0, cache_line=line, slab_minalign=SLAB_MINALIGN, word_bytes=word
        )
        yield exact(
            "slab_align_least",
            {"cache": name},
            predicted=least,
            observed=align if align % least else least,
            unit="bytes at least",
            working=(
                f"object_size {values['object_size']}, cache line {line or 'not asked for'}",
                f"at least {least}",
                f"the cache has {align}",
            ),
        )


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
            nodes = [int(part.partition("=")[2] or 0) for part in parts if part[0] == "N"]
            yield exact(
                "slab_nodes_sum",
                {"cache": name, "attribute": attribute},
                predicted=sum(nodes),
                observed=values[attribute],
                unit="objects" if attribute == "total_objects" else "slabs",
                working=(" + ".join(map(str, nodes)) or "no node has any",),
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
        id="slab_cpu_partial",
        says=(
            "How many objects a CPU's partly used slabs may hold falls with the object's size: "
            "from a page 2, from 1024 bytes 6, from 256 bytes 13, below 30; from 5.16 it is 6, 24, "
            "52, 120 and a number of slabs is computed from it. None with debugging, without "
            "CONFIG_SLUB_CPU_PARTIAL, and from 7.0, where sheaves took their place."
        ),
        inputs=("slab_sysfs", "config"),
        observed="slab_sysfs: cpu_partial",
        model=(cpu_partial,),
        judge=_slab_cpu_partial,
    ),
    Rule(
        id="slab_min_partial",
        says=(
            "A node keeps at least half of log2 of the object's size as partly used or empty "
            "slabs, within 5 and 10, before it gives empty ones back."
        ),
        inputs=_SLAB_SYSFS,
        observed="slab_sysfs: min_partial",
        model=(min_partial,),
        judge=_slab_min_partial,
    ),
    Rule(
        id="slab_sheaf_capacity",
        says=(
            "From 7.0 each CPU has two arrays of free objects. One holds 4, 12, 26 or 60 by the "
            "object's size, raised to fill the kmalloc object that it lies in, or what the cache's "
            "user asks for if that is more. In 6.18 and 6.19 only caches that ask have them."
        ),
        inputs=("slab_sysfs", "config"),
        observed="slab_sysfs: sheaf_capacity",
        model=(sheaf_capacity,),
        judge=_slab_sheaf_capacity,
    ),
    Rule(
        id="slab_align",
        says=(
            "kmalloc's caches are aligned to the architecture's least, those whose size is a power "
            "of two to their size (from 6.11 each to the largest power of two that divides its "
            "size); the two caches of the caches themselves to cache lines."
        ),
        inputs=("slab_sysfs", "config", "proc/cpuinfo"),
        observed="slab_sysfs: align",
        model=(boot_align, cache_align),
        judge=_slab_align,
    ),
    Rule(
        id="slab_align_least",
        says=(
            "Every cache is aligned to a word at least, and with hwcache_align to the cache line, "
            "halved as long as an object fits the half. What its user asks for can only be more, "
            "and is a multiple of that."
        ),
        inputs=("slab_sysfs", "proc/cpuinfo", "dmesg"),
        observed="slab_sysfs: align",
        model=(cache_align,),
        judge=_slab_align_least,
    ),
    Rule(
        id="slab_nodes_sum",
        says=(
            "An attribute that counts objects or slabs prints the sum and then each node that has "
            "any: both come from one pass over the nodes."
        ),
        inputs=_SLAB_SYSFS,
        observed="slab_sysfs: total_objects, slabs",
        model=(),
        judge=_slab_nodes_sum,
    ),
)
"""Rules of this part, in the order of /sys/kernel/slab's own dependencies."""
