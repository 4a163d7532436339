"""Rules about what SLUB sets a cache's limits and alignment to, by /sys/kernel/slab."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact
from analysis.compare.static.slab import inputs
from analysis.compare.static.slab.ways import Row, claims
from analysis.model.slab.kmalloc import boot_align, cache_align, kmalloc_sizes
from analysis.model.slab.partial import SHEAF_OBJECTS, by_size, cpu_partial, min_partial
from analysis.model.slab.sheaves import ASKED_CAPACITY, header_bytes, sheaf_capacity

_LONG_LONG_ALIGN = {"m68k": 2}
"""Where the compiler aligns a 64-bit number to less than its size."""
_BOOT = ("kmem_cache", "kmem_cache_node")
_SEVERAL = "several releases' rules or configurations are possible"
_SLAB_SYSFS = ("slab_sysfs",)


def _slab_cpu_partial(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    return claims("slab_cpu_partial", _cpu_partial_rows(snapshot), undecided=_SEVERAL)


def _cpu_partial_rows(snapshot: Snapshot) -> Iterator[Row]:
    eras = tuple(inputs.eras(snapshot))
    page = snapshot.page_size_bytes
    configured: tuple[bool, ...]
    configured = (True, False)
    if snapshot.has("config"):
        configured = (snapshot.config.on("SLUB_CPU_PARTIAL"),)
        if configured[0]:  # the option went when the rule did
            eras = tuple(era for era in eras if era.keeps_cpu_partial)
    for name, attributes, values in inputs.caches(snapshot, "cpu_partial", "slab_size"):
        size = values["slab_size"]
        debugging = inputs.flags(attributes, name).debugging
        options = tuple(
            cpu_partial(size, era=era, page_size=page, configured=on, debugging=debugging)
            for era in eras
            for on in configured
        )
        asked = ", debugging" if debugging else ""
        yield Row(
            scope={"cache": name},
            options=options,
            observed=values["cpu_partial"],
            unit="objects",
            working=tuple(
                f"objects {size} bytes apart, pages of {page} bytes{asked}: {option} objects"
                for option in options
            ),
        )


def _slab_min_partial(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    small = inputs.tiny(snapshot)
    for name, _, values in inputs.caches(snapshot, "min_partial", "slab_size"):
        size = values["slab_size"]
        predicted = min_partial(size, tiny=small)
        log2 = size.bit_length() - 1
        yield exact(
            "slab_min_partial",
            {"cache": name},
            predicted=predicted,
            observed=values["min_partial"],
            unit="slabs",
            working=(f"log2 of {size} is {log2}; half, {log2 // 2}, within 5 and 10: {predicted}",),
        )


def _slab_sheaf_capacity(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    page = snapshot.page_size_bytes
    word = inputs.word_bytes(snapshot)
    era = next(iter(inputs.eras(snapshot)))
    for name, attributes, values in inputs.caches(snapshot, "sheaf_capacity", "slab_size"):
        predicted = sheaf_capacity(
            name,
            values["slab_size"],
            era=era,
            page_size=page,
            word_bytes=word,
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
            working=_sheaf_working(name, values["slab_size"], predicted, page, word),
        )


def _sheaf_working(
    name: str, size: int, predicted: int, page_bytes: int, word_bytes: int
) -> tuple[str, ...]:
    if not predicted:
        return ("no sheaves: debugging is on, or the cache's user wants none",)
    wanted = by_size(size, SHEAF_OBJECTS, page_bytes)
    header = header_bytes(word_bytes)
    return (
        f"objects {size} bytes apart: {wanted} wanted, and {ASKED_CAPACITY.get(name, 0)} asked for",
        f"header {header} + {wanted} x {word_bytes} = {header + wanted * word_bytes} bytes",
        f"as many as fill the kmalloc object of that, at least what is asked for: {predicted}",
    )


def _slab_align(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    inputs.plain_objects(snapshot)
    return claims("slab_align", _align_rows(snapshot), undecided=inputs.BACKPORTS)


def _slab_minalign(snapshot: Snapshot) -> int:
    """ARCH_SLAB_MINALIGN where nothing asks for more: the alignment of a 64-bit number."""
    return _LONG_LONG_ALIGN.get(snapshot.arch, 8)


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
                slab_minalign=_slab_minalign(snapshot),
                word_bytes=inputs.word_bytes(snapshot),
            )
            for era, alignment in ways
        )
        asks = f"asks for cache lines of {line} bytes" if lines else "serves kmalloc"
        yield Row(
            scope={"cache": name},
            options=options,
            observed=values["align"],
            unit="bytes",
            working=tuple(
                f"object_size {size} bytes, {asks}: aligned to {option}" for option in options
            ),
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
            values["object_size"],
            0,
            cache_line=line,
            slab_minalign=_slab_minalign(snapshot),
            word_bytes=word,
        )
        yield exact(
            "slab_align_least",
            {"cache": name},
            predicted=least,
            observed=align if align % least else least,
            unit="bytes at least",
            working=(
                f"object_size {values['object_size']} bytes, "
                + (f"cache lines of {line} bytes asked for" if line else "no cache line asked for"),
                f"at least a word of {word} bytes: {least}; the cache has {align}",
            ),
        )


RULES: tuple[Rule, ...] = (
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
)
