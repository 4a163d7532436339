"""Rules about SLAB (to 6.7). SLOB (to 6.3) shows nothing of its own: it has no slabinfo."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import CPUS, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of
from analysis.compare.static.slab import inputs
from analysis.model.eras_slab import SlabEra
from analysis.model.slab.kmalloc import kmalloc_sizes
from analysis.model.slab.slab import (
    SMALL_MACHINE_BYTES,
    SlabMachine,
    index_bytes,
    kmalloc_largest,
    slab_geometry,
    slab_tunables,
)
from analysis.procfs import cpulist


def slab_machine(snapshot: Snapshot, era: SlabEra) -> SlabMachine:
    """What SLAB's geometry depends on beside the cache.

    Raises:
        MissingInputError: an input is missing.
    """
    page = snapshot.page_size_bytes
    largest = kmalloc_largest(era, page_size=page, page_order_max=10)
    sizes = kmalloc_sizes(
        inputs.alignment(snapshot, era), page_size=page, largest=largest, smallest=32
    )
    given = snapshot.cmdline.last("slab_max_order")
    ram = snapshot.meminfo.values["MemTotal"] * 1024
    return SlabMachine(
        page_size=page,
        max_order=int(given) if given else int(ram > SMALL_MACHINE_BYTES),
        index_bytes=index_bytes(page_size=page, smallest_object=sizes[0]),
        kmalloc_sizes=sizes,
    )


def _slab_geometry(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLAB")
    inputs.plain_objects(snapshot)
    machines = [slab_machine(snapshot, era) for era in inputs.eras(snapshot)]
    zeroed = snapshot.cmdline.last("init_on_free") in ("1", "on", "y") or inputs.option(
        snapshot, "INIT_ON_FREE_DEFAULT_ON"
    )
    columns = snapshot.slabinfo.columns
    for cache in snapshot.slabinfo.caches:
        row = dict(zip(columns, cache.values, strict=True))
        size = row["objsize"]
        kmalloc = inputs.KMALLOC.match(cache.name) is not None
        # of others at most all: what a smaller object rules out is among the ways
        own = inputs.kmalloc_bytes(cache.name) if kmalloc else size
        in_object = [not zeroed] if kmalloc else [not zeroed, False]
        reclaim = [cache.name.startswith("kmalloc-rcl-")] if kmalloc else [False, True]
        made = {
            slab_geometry(
                size,
                own,
                machine,
                reclaim_account=reclaimable,
                index_in_object=inside,
                index_off_slab=outside,
            )
            for machine in machines
            for reclaimable in reclaim
            for inside in in_object
            for outside in ([True] if kmalloc else [True, False])
        }
        found = [geometry for geometry in made if geometry is not None]
        yield one_of(
            "slab_geometry",
            {"cache": cache.name},
            options={f"{geometry.objects} in {1 << geometry.order}" for geometry in found},
            observed=f"{row['objperslab']} in {row['pagesperslab']}",
            unit="objects in pages",
            undecided="SLAB shows neither flags nor the object's own size",
            working=[
                f"index of free objects {geometry.index}: {geometry.objects} objects of {size} in "
                f"{1 << geometry.order} pages, {geometry.left_bytes} bytes left over"
                for geometry in found
            ],
        )


def _slab_tunables(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLAB")
    page = snapshot.page_size_bytes
    if snapshot.has(f"{CPUS}/possible"):
        possible = len(snapshot.parsed(f"{CPUS}/possible", cpulist.parse))
    else:
        possible = inputs.nr_cpu_ids(snapshot)
    debug = inputs.option(snapshot, "DEBUG_SLAB")
    columns = snapshot.slabinfo.columns
    for cache in snapshot.slabinfo.caches:
        row = dict(zip(columns, cache.values, strict=True))
        size = row["objsize"]
        made = slab_tunables(size, page_size=page, possible_cpus=possible, debug=debug)
        yield exact(
            "slab_tunables",
            {"cache": cache.name},
            predicted=f"{made.limit} {made.batchcount} {made.shared}",
            observed=f"{row['limit']} {row['batchcount']} {row['sharedfactor']}",
            unit="objects, objects, batches",
            working=(f"size {size}, page {page}, {possible} possible CPUs",),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="slab_geometry",
        says=(
            "SLAB grows the order from 0 until at most an eighth of the slab is left over or "
            "slab_max_order (1) is reached. It first tries to keep the index of free objects in a "
            "free object, then outside the slab, then at the slab's end, where it takes room."
        ),
        inputs=("proc/slabinfo", "config", "proc/cmdline", "proc/meminfo"),
        observed="proc/slabinfo: objperslab, pagesperslab",
        model=(slab_geometry, index_bytes, kmalloc_largest),
        judge=_slab_geometry,
    ),
    Rule(
        id="slab_tunables",
        says=(
            "A CPU's array of free objects holds 120 up to 256 bytes, 54 up to 1024, 24 up to a "
            "page, 8 up to 128 KiB, then 1; half of it moves at a time. Up to a page, and with "
            "more than one CPU, nodes share an array of 8 such batches."
        ),
        inputs=("proc/slabinfo", "config", "sys/devices/system/cpu/possible"),
        observed="proc/slabinfo: limit, batchcount, sharedfactor",
        model=(slab_tunables,),
        judge=_slab_tunables,
    ),
)
