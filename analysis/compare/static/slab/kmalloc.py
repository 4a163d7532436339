"""Rules about kmalloc's caches, and about the line in which SLUB introduces itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.slab import inputs
from analysis.compare.static.slab.orders import limits
from analysis.compare.static.slab.ways import Row, claims
from analysis.errors import MissingInputError
from analysis.model.eras_slab import SlabEra
from analysis.model.slab.kmalloc import (
    boot_align,
    kmalloc_alignment,
    kmalloc_kinds,
    kmalloc_sizes,
    short_name,
)
from analysis.model.slab.slab import index_bytes, kmalloc_largest, slab_size
from analysis.model.slab.slub_layout import SlabFlags, slub_layout
from analysis.model.slab.slub_order import order_limits
from analysis.procfs import cpulist

_NAME = re.compile(
    r"((?:dma-)?kmalloc-(?:[a-z][a-z-]*-)?(?:\d\d-)?|memdup_user-|msg_msg-)(\d+[kM]?)$"
)
_BANNER = re.compile(
    r"SLUB: HWalign=(\d+), Order=(\d+)-(\d+), MinObjects=(\d+), CPUs=(\d+), Nodes=(\d+)"
)
_NR_NODE_IDS = re.compile(r"setup_percpu: .*nr_node_ids:(\d+)")
_NODES = "sys/devices/system/node/possible"


def _sizes(snapshot: Snapshot, era: SlabEra) -> tuple[int, ...]:
    page = snapshot.page_size_bytes
    alignment = inputs.alignment(snapshot, era)
    if inputs.allocator(snapshot) == "SLUB":
        return kmalloc_sizes(alignment, page_size=page)
    largest = kmalloc_largest(era, page_size=page, page_order_max=10)
    return kmalloc_sizes(alignment, page_size=page, largest=largest, smallest=32)


def _found(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """Kind → size as it stands in the name → objsize, by slabinfo."""
    column = snapshot.slabinfo.columns.index("objsize")
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for cache in snapshot.slabinfo.caches:
        if match := _NAME.match(cache.name):
            found[match[1]][match[2]] = cache.values[column]
    return found


def _kmalloc_classes(snapshot: Snapshot) -> Iterator[Claim]:
    return claims("kmalloc_classes", _class_rows(snapshot), undecided=inputs.BACKPORTS)


def _class_rows(snapshot: Snapshot) -> Iterator[Row]:
    found = _found(snapshot)
    ways = []
    steps: list[tuple[str, ...]] = []
    for era in inputs.eras(snapshot):
        sizes = " ".join(short_name(size, era) for size in _sizes(snapshot, era))
        steps.append(tuple(_size_steps(snapshot, era)))
        # which kinds there are is the configuration's choice, their sizes are not
        kinds = inputs.kinds(snapshot, era) if snapshot.has("config") else tuple(found)
        ways.append((kinds, sizes))
    everyone = {kind for kinds, _ in ways for kind in kinds}
    for kind in sorted(everyone | set(found)):
        options = tuple(sizes if kind in kinds else "none" for kinds, sizes in ways)
        yield Row(
            scope={"kind": kind},
            options=options,
            observed=" ".join(sorted(found.get(kind, {}), key=inputs.kmalloc_bytes)) or "none",
            unit="sizes",
            working=tuple(
                dict.fromkeys(
                    line
                    for option, before in zip(options, steps, strict=True)
                    for line in (
                        *(before if option != "none" else (_absent(snapshot, kind),)),
                        f"{kind}: {option}",
                    )
                )
            ),
        )


def _size_steps(snapshot: Snapshot, era: SlabEra) -> Iterator[str]:
    """The way from the page size and the architecture's alignment to the sizes."""
    alignment, sizes = inputs.alignment(snapshot, era), _sizes(snapshot, era)
    page, least = snapshot.page_size_bytes, alignment.kmalloc_minalign
    if inputs.allocator(snapshot) == "SLUB":
        yield f"largest: 2 pages of {page} bytes = {2 * page}"
        yield f"smallest: the larger of 8 and {least} (what {snapshot.arch} aligns to)"
    else:
        yield f"largest: {sizes[-1]}; smallest: the larger of 32 (SLAB) and {least}"
    yield f"powers of two from {sizes[0]} to {sizes[-1]}"
    yield f"96 where the smallest is at most 32: {'yes' if 96 in sizes else 'no'}"
    yield f"192 where the smallest is at most 64: {'yes' if 192 in sizes else 'no'}"
    if alignment.dma_minalign > least:
        yield f"each rounded up to {alignment.dma_minalign}, the cache line that DMA needs"


def _absent(snapshot: Snapshot, kind: str) -> str:
    return f"{kind}: neither the configuration nor the parameters of {snapshot.kernel} ask for it"


def _kmalloc_objsize(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.plain_objects(snapshot)
    found = _found(snapshot)
    if _debugging(snapshot, found):
        raise inputs.OutsideRuleError("debugging adds bytes (slab_size is about them)")
    taken = _taken(snapshot)
    for kind, sizes in found.items():
        for short, observed in sizes.items():
            size = inputs.kmalloc_bytes(short)
            predicted = taken(size)
            yield exact(
                "kmalloc_objsize",
                {"cache": f"{kind}{short}"},
                predicted=predicted,
                observed=observed,
                unit="bytes",
                working=(f"an object of {size} bytes takes {predicted} bytes",),
            )


def _taken(snapshot: Snapshot) -> Callable[[int], int]:
    """What an object of a kmalloc cache takes, by its size."""
    era = next(iter(inputs.eras(snapshot)))
    word = inputs.word_bytes(snapshot)
    if inputs.allocator(snapshot) == "SLUB":
        return lambda size: (
            slub_layout(
                size, size & -size, SlabFlags(), era=era, word_bytes=word, stack=True
            ).size_bytes
        )
    alignment = inputs.alignment(snapshot, era)
    line = inputs.cache_line(snapshot)
    smallest = _sizes(snapshot, era)[0]
    entry = index_bytes(page_size=snapshot.page_size_bytes, smallest_object=smallest)

    def slab(size: int) -> int:
        align = boot_align(
            size,
            era=era,
            alignment=alignment,
            kmalloc=True,
            cache_line=line,
            slab_minalign=8,
            word_bytes=word,
        )
        return slab_size(
            size, align, word_bytes=word, index_entry_bytes=entry, smallest_object=smallest
        )

    return slab


def _debugging(snapshot: Snapshot, found: dict[str, dict[str, int]]) -> bool:
    """Whether debugging is on by parameter, by configuration or, where that is not known, because
    not one object takes just its bytes."""
    if any(snapshot.cmdline.has(name) for name in ("slub_debug", "slab_debug")):
        return True
    if snapshot.has("config"):
        return snapshot.config.on("SLUB_DEBUG_ON")
    plain = (
        size == inputs.kmalloc_bytes(short)
        for sizes in found.values()
        for short, size in sizes.items()
    )
    return not any(plain)


def _slub_banner(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    match = next(snapshot.dmesg.matching(_BANNER), None)
    if match is None:
        raise MissingInputError("dmesg with the line 'SLUB: HWalign='")
    order = limits(snapshot, next(iter(inputs.eras(snapshot))))
    fields = (
        ("HWalign", 1, inputs.cpuinfo_cache_line(snapshot), "cache_alignment in cpuinfo, bytes"),
        ("Order min", 2, order.min_order, "slub_min_order, 0 without"),
        ("Order max", 3, order.max_order, "slub_max_order, 3 without"),
        ("MinObjects", 4, order.min_objects, "slub_min_objects, 0 without"),
        ("CPUs", 5, inputs.nr_cpu_ids(snapshot), "the highest possible CPU + 1"),
        ("Nodes", 6, _nr_node_ids(snapshot), "the highest possible node + 1"),
    )
    for name, group, predicted, source in fields:
        observed = int(match[group])
        if predicted is None:
            missing = "cache_alignment in cpuinfo" if group == 1 else _NODES
            yield unknown(
                "slub_banner",
                {"field": name},
                why=f"the capture lacks {missing}",
                observed=observed,
            )
        else:
            yield exact(
                "slub_banner",
                {"field": name},
                predicted=predicted,
                observed=observed,
                unit="",
                working=(f"{name}: {source}: {predicted}",),
            )


def _nr_node_ids(snapshot: Snapshot) -> int | None:
    if snapshot.has(_NODES):
        return max(snapshot.parsed(_NODES, cpulist.parse)) + 1
    for match in snapshot.dmesg.matching(_NR_NODE_IDS):
        return int(match[1])
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        id="kmalloc_classes",
        says=(
            "kmalloc has a cache for each power of two from 8 bytes to two pages, and for 96 and "
            "192: once for normal requests and, by configuration, once for reclaimable ones, for "
            "accounted ones, for the DMA zone, and for users that want their own. Where DMA needs "
            "more than 8 bytes of alignment the smallest are missing: arm64 began at 128 to 6.4."
        ),
        inputs=("config", "proc/cmdline", "proc/version"),
        observed="proc/slabinfo: the names",
        model=(kmalloc_sizes, kmalloc_kinds, kmalloc_alignment, short_name, kmalloc_largest),
        judge=_kmalloc_classes,
    ),
    Rule(
        id="kmalloc_objsize",
        says=(
            "Without debugging an object of a kmalloc cache takes just the bytes of its name; "
            "under SLAB whole cache lines where it is larger than half of one."
        ),
        inputs=("proc/slabinfo", "proc/cmdline", "proc/cpuinfo"),
        observed="proc/slabinfo: objsize",
        model=(slub_layout, slab_size, boot_align),
        judge=_kmalloc_objsize,
    ),
    Rule(
        id="slub_banner",
        says=(
            "At boot SLUB prints the cache line, the limits of its orders and of the objects in a "
            "slab (parameters; 0-3 and 0 without), nr_cpu_ids and nr_node_ids: one more than the "
            "highest possible CPU and node."
        ),
        inputs=("proc/cmdline", "proc/cpuinfo", "sys/devices/system/cpu/possible", _NODES),
        observed="dmesg: 'SLUB: HWalign='",
        model=(order_limits,),
        judge=_slub_banner,
    ),
)
