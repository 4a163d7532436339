"""Rules about /proc/slabinfo under SLUB: geometry by size, sums, agreement with sysfs."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.slab import inputs, orders
from analysis.compare.static.slab.ways import Row, claims
from analysis.model.slab.shown import slabinfo_geometry
from analysis.model.slab.slub_order import counted_cpus, order_limits, page_order, slub_order


def _rows(snapshot: Snapshot) -> Iterator[tuple[str, dict[str, int]]]:
    columns = snapshot.slabinfo.columns
    for cache in snapshot.slabinfo.caches:
        yield cache.name, dict(zip(columns, cache.values, strict=True))


def _slabinfo_geometry(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    ways = orders.order_ways(snapshot)
    return claims(
        "slabinfo_geometry",
        _geometry_rows(snapshot, ways),
        undecided=orders.UNDECIDED,
        same_for_all=not orders.cpus_change(snapshot),
    )


def _geometry_rows(snapshot: Snapshot, ways: tuple[orders.OrderWay, ...]) -> Iterator[Row]:
    made: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for name, row in _rows(snapshot):
        size = row["objsize"]
        if size not in made:
            found = [way.order(size) for way in ways]
            made[size] = (
                tuple(_geometry(order.objects, 1 << order.order) for order in found),
                tuple(
                    line
                    for way, order in zip(ways, found, strict=True)
                    for line in way.working(size, order)
                ),
            )
        options, working = made[size]
        yield Row(
            scope={"cache": name},
            options=options,
            observed=_geometry(row["objperslab"], row["pagesperslab"]),
            unit="objects in pages",
            working=working,
        )


def _geometry(objects: int, pages: int) -> str:
    return f"{objects} in {pages}"


def _slab_num_objs(snapshot: Snapshot) -> Iterator[Claim]:
    exactly = inputs.allocator(snapshot) == "SLAB"
    page = snapshot.page_size_bytes
    for name, row in _rows(snapshot):
        size, slabs, objects = row["objsize"], row["num_slabs"], row["objperslab"]
        predicted, observed = slabs * objects, row["num_objs"]
        least = (page << page_order(size, page)) // size
        missing, step = predicted - observed, objects - least
        working = (f"{slabs} slabs of {objects} objects", f"the smallest slab holds {least}")
        scope: dict[str, int | str] = {"cache": name}
        if not exactly and observed != predicted:
            why = None
            if step and missing > 0 and missing % step == 0 and missing // step <= slabs:
                why = f"{missing // step} slabs may have fallen back to the smallest order"
            elif abs(missing) == objects:
                why = "a slab came or went between the sums of slabs and of objects"
            if why is not None:
                yield unknown(
                    "slab_num_objs",
                    scope,
                    why=why,
                    predicted=predicted,
                    observed=observed,
                    unit="objects",
                    working=working,
                )
                continue
        yield exact(
            "slab_num_objs",
            scope,
            predicted=predicted,
            observed=observed,
            unit="objects",
            working=working,
        )


def _slabinfo_sysfs(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    sysfs = inputs.sysfs(snapshot)
    for name, row in _rows(snapshot):
        attributes = sysfs.cache_of(name)
        scope: dict[str, int | str] = {"cache": name}
        if attributes is None:
            yield unknown("slabinfo_sysfs", scope, why=f"slab_sysfs has no cache {name}")
            continue
        size = inputs.number(attributes, name, "slab_size")
        objects = inputs.number(attributes, name, "objs_per_slab")
        order = inputs.number(attributes, name, "order")
        if size is None or objects is None or order is None:
            yield unknown("slabinfo_sysfs", scope, why="the capture lacks an attribute of it")
            continue
        yield exact(
            "slabinfo_sysfs",
            scope,
            predicted=slabinfo_geometry(size, objects, order),
            observed=(
                f"{row['objsize']} bytes, {_geometry(row['objperslab'], row['pagesperslab'])}"
            ),
            unit="objects in pages",
            working=(f"slab_size {size}, objs_per_slab {objects}, order {order}",),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="slabinfo_geometry",
        says=(
            "objsize is what an object takes; with the number of CPUs it determines the order of "
            "the slabs and the objects in one (see slab_order), also where /sys was not captured."
        ),
        inputs=(
            "proc/slabinfo",
            "sys/devices/system/cpu/possible",
            "sys/devices/system/cpu/present",
            "proc/cmdline",
        ),
        observed="proc/slabinfo: objperslab, pagesperslab",
        model=(slub_order, order_limits, counted_cpus),
        judge=_slabinfo_geometry,
    ),
    Rule(
        id="slab_num_objs",
        says=(
            "All slabs of a cache hold objperslab objects, except those that were taken in the "
            "smallest order that holds one object, when pages of the cache's order could not be "
            "had: such a cache has fewer objects by a multiple of the difference."
        ),
        inputs=("proc/slabinfo",),
        observed="proc/slabinfo: num_objs",
        model=(page_order,),
        judge=_slab_num_objs,
    ),
    Rule(
        id="slabinfo_sysfs",
        says="slabinfo and /sys/kernel/slab print the same size, objects and order of a cache.",
        inputs=("slab_sysfs",),
        observed="proc/slabinfo: objsize, objperslab, pagesperslab",
        model=(slabinfo_geometry,),
        judge=_slabinfo_sysfs,
    ),
)
