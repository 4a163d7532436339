"""What the slab rules ask a capture for: the allocator, its rules, its parameters, the CPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import CPUS, Snapshot
from analysis.errors import MissingInputError, ParseError
from analysis.model.eras_slab import SlabEra, slab_era_of
from analysis.model.release import Release
from analysis.model.slab.kmalloc import KmallocAlignment, kmalloc_alignment, kmalloc_kinds
from analysis.model.slab.slub_layout import SlabFlags
from analysis.procfs import cpulist, slab_sysfs
from analysis.procfs.slab_sysfs import SlabSysfs

Attributes = Mapping[str, str]

BACKPORTS = "the kernel's vendor takes changes back, so several releases' rules are possible"
KMALLOC = re.compile(r"(?:dma-)?kmalloc-[\w-]*\d+[kM]?$")

_EVERY_SLUB = "destroy_by_rcu"
_FLAGS = frozenset(
    {
        *("hwcache_align", "reclaim_account", "cache_dma", _EVERY_SLUB, "usersize"),
        *("sanity_checks", "red_zone", "poison", "store_user", "trace"),
    }
)
"""Attributes that all caches of a kernel show or none."""
_NR_CPU_IDS = re.compile(r"setup_percpu: .*nr_cpu_ids:(\d+)")
_HWALIGN = re.compile(r"SLUB: HWalign=(\d+)")
_CACHE_ALIGNMENT = re.compile(r"^cache_alignment\s*: (\d+)$", re.MULTILINE)
_SIXTY_FOUR = ("x86_64", "arm64", "riscv64", "ppc64le", "s390x")


class OutsideRuleError(MissingInputError):
    """The capture has the inputs, and its kernel is none that the rule describes."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.message = why


def eras(snapshot: Snapshot) -> dict[SlabEra, Release]:
    """The rules that may be in force, each with the first release that has them."""
    found: dict[SlabEra, Release] = {}
    for release in snapshot.releases:
        found.setdefault(slab_era_of(release), release)
    return found


def allocator(snapshot: Snapshot) -> str:
    """``SLUB``, ``SLAB`` or ``SLOB``, by configuration or by what only one of them prints.

    Raises:
        MissingInputError: nothing tells.
    """
    if snapshot.has("config"):
        for name in ("SLUB", "SLAB", "SLOB"):
            if snapshot.config.on(name):
                return name
    if snapshot.release >= Release(6, 8) or snapshot.has("slab_sysfs"):
        return "SLUB"
    if snapshot.has("proc/slabinfo"):
        column = snapshot.slabinfo.columns.index("limit")
        used = any(cache.values[column] for cache in snapshot.slabinfo.caches)
        return "SLAB" if used else "SLUB"
    raise MissingInputError("the slab allocator (config, slabinfo or slab_sysfs)")


def require(snapshot: Snapshot, name: str) -> None:
    """Go on only where a kernel's allocator is ``name``.

    Raises:
        OutsideRuleError: it is another one.
        MissingInputError: nothing tells.
    """
    found = allocator(snapshot)
    if found != name:
        raise OutsideRuleError(f"the rule is {name}'s, and this kernel has {found}")


def plain_objects(snapshot: Snapshot) -> None:
    """Go on only where no checker adds bytes of its own to objects.

    Without the configuration the messages and the kernel's name must do.

    Raises:
        OutsideRuleError: KASAN is built in, or may be.
    """
    if snapshot.has("config"):
        for option in ("KASAN_GENERIC", "KASAN_SW_TAGS", "KASAN_HW_TAGS", "KASAN", "DEBUG_SLAB"):
            if snapshot.config.on(option):
                raise OutsideRuleError(f"CONFIG_{option} adds bytes that the rule leaves out")
        return
    told = snapshot.has("dmesg") and any(snapshot.dmesg.matching(re.compile("kasan: Kernel")))
    if told or re.search(r"[+-]debug", snapshot.kernel):
        raise OutsideRuleError("KASAN, which a debugging kernel may have, adds bytes")


def word_bytes(snapshot: Snapshot) -> int:
    """Bytes of a pointer."""
    return 8 if snapshot.arch in _SIXTY_FOUR else 4


def option(snapshot: Snapshot, name: str) -> bool:
    """Whether an option is built in.

    Raises:
        MissingInputError: the capture has no configuration.
    """
    return snapshot.config.on(name)


def tiny(snapshot: Snapshot) -> bool:
    """CONFIG_SLUB_TINY; without a configuration the distributions' choice, which is off."""
    return snapshot.has("config") and snapshot.config.on("SLUB_TINY")


def nr_cpu_ids(snapshot: Snapshot) -> int:
    """One more than the highest possible CPU.

    Raises:
        MissingInputError: nothing tells.
    """
    if snapshot.has(f"{CPUS}/possible"):
        return max(snapshot.parsed(f"{CPUS}/possible", cpulist.parse)) + 1
    if snapshot.has("dmesg"):
        for match in snapshot.dmesg.matching(_NR_CPU_IDS):
            return int(match[1])
    raise MissingInputError(f"{CPUS}/possible (or nr_cpu_ids in dmesg)")


def cache_line(snapshot: Snapshot) -> int:
    """Bytes of a cache line as the kernel takes it (``cache_line_size``).

    Raises:
        MissingInputError: nothing tells.
    """
    line = cpuinfo_cache_line(snapshot)
    if line is not None:
        return line
    if snapshot.has("dmesg"):
        for match in snapshot.dmesg.matching(_HWALIGN):
            return int(match[1])
    raise MissingInputError("the cache line (cache_alignment in cpuinfo, or dmesg)")


def cpuinfo_cache_line(snapshot: Snapshot) -> int | None:
    """Bytes of a cache line by cpuinfo, which x86 alone prints."""
    if not snapshot.has("proc/cpuinfo"):
        return None
    match = _CACHE_ALIGNMENT.search(snapshot.text("proc/cpuinfo"))
    return int(match[1]) if match else None


def alignment(snapshot: Snapshot, era: SlabEra) -> KmallocAlignment:
    """What the architecture wants of kmalloc.

    Raises:
        MissingInputError: an input is missing.
        OutsideRuleError: it is not known.
    """
    arch = snapshot.arch
    noncoherent = False
    line = None
    shift = None
    if arch == "arm64" and era.rounds_kmalloc_to_dma:
        bounced = option(snapshot, "DMA_BOUNCE_UNALIGNED_KMALLOC")
        off = any("noforce" in value for value in snapshot.cmdline.all("swiotlb"))
        noncoherent = off or not bounced
        line = cache_line(snapshot) if noncoherent else None
    elif arch == "riscv64":
        noncoherent = option(snapshot, "RISCV_DMA_NONCOHERENT") and not option(
            snapshot, "DMA_BOUNCE_UNALIGNED_KMALLOC"
        )
    elif arch == "arm":
        shift = snapshot.config.number("ARM_L1_CACHE_SHIFT")
    found = kmalloc_alignment(
        arch, era, l1_cache_shift=shift, noncoherent=noncoherent, cache_line=line
    )
    if found is None:
        raise OutsideRuleError(f"what {arch} wants of kmalloc in {snapshot.release} is not known")
    return found


def kinds(snapshot: Snapshot, era: SlabEra) -> tuple[str, ...]:
    """What the names of this kernel's kmalloc caches begin with.

    Raises:
        MissingInputError: no configuration.
        OutsideRuleError: one that may have kmalloc-no-objext caches.
    """
    config = snapshot.config
    accounting = config.on(era.memcg_option)
    profiling = config.on("MEM_ALLOC_PROFILING")
    if era.kmalloc_without_extensions and (profiling or (tiny(snapshot) and accounting)):
        raise OutsideRuleError("whether there are kmalloc-no-objext caches is not known")
    return kmalloc_kinds(
        era,
        zone_dma=config.on("ZONE_DMA"),
        accounting=accounting,
        kmem_off="nokmem" in ",".join(snapshot.cmdline.all("cgroup.memory")).split(","),
        tiny=tiny(snapshot),
        random=config.on("RANDOM_KMALLOC_CACHES"),
        partitions=config.on("KMALLOC_PARTITION_CACHES"),
        buckets=config.on("SLAB_BUCKETS"),
    )


def sysfs(snapshot: Snapshot) -> SlabSysfs:
    """/sys/kernel/slab."""
    return snapshot.parsed("slab_sysfs", slab_sysfs.parse)


def number(attributes: Attributes, cache: str, name: str) -> int | None:
    """The first number of an attribute (a sum; its nodes' parts follow); None where it is missing.

    Raises:
        ParseError: it does not begin with a number.
    """
    text = attributes.get(name)
    if text is None:
        return None
    head = text.partition(" ")[0]
    if not head.isdecimal():
        raise ParseError("slab_sysfs", 0, f"{cache}/{name}:{text}", "a number")
    return int(head)


def flags(attributes: Attributes, name: str) -> SlabFlags:
    """A cache's flags by its attributes; those that only some configurations show are off where
    they are missing.

    Raises:
        MissingInputError: the capture has not even the one that every SLUB shows.
    """
    if _EVERY_SLUB not in attributes:
        raise MissingInputError(f"slab_sysfs: {_EVERY_SLUB}")

    def on(attribute: str) -> bool:
        return attributes.get(attribute, "0") not in ("0", "")

    return SlabFlags(
        hwcache_align=on("hwcache_align"),
        reclaim_account=on("reclaim_account"),
        cache_dma=on("cache_dma"),
        destroy_by_rcu=on("destroy_by_rcu"),
        constructor=on("ctor"),
        sanity_checks=on("sanity_checks"),
        red_zone=on("red_zone"),
        poison=on("poison"),
        store_user=on("store_user"),
        trace=on("trace"),
        kmalloc=KMALLOC.match(name) is not None,
    )


def kmalloc_bytes(name: str) -> int:
    """The size that stands in the name of a kmalloc cache: 1024 of ``kmalloc-1k``."""
    short = name.rpartition("-")[2]
    return int(short.rstrip("kM")) << {"k": 10, "M": 20}.get(short[-1], 0)


def caches(snapshot: Snapshot, *needed: str) -> Iterator[tuple[str, Attributes, dict[str, int]]]:
    """Every directory that has the attributes ``needed``: name, attributes, and those as numbers.

    Left out are caches that lack a flag which others show: the file was cut short there.

    Raises:
        MissingInputError: no directory has one of them.
    """
    seen = False
    everything = sysfs(snapshot).caches
    shown = {flag for flag in _FLAGS if any(flag in of for of in everything.values())}
    for name, attributes in everything.items():
        if not shown <= attributes.keys():
            continue
        values = {}
        for attribute in needed:
            value = number(attributes, name, attribute)
            if value is None:
                break
            values[attribute] = value
        else:
            seen = True
            yield name, attributes, values
    if not seen:
        raise MissingInputError(f"slab_sysfs: {', '.join(needed)}")
