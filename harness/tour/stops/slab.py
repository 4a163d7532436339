"""Stops about SLAB, SLUB and SLOB, and caches of our own."""

from __future__ import annotations

from harness.tour.evidence import Evidence
from harness.tour.slab_load import loads
from harness.tour.slab_module import DIRECTORY, load_slab_module, say
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import PROGRAMS

_WHOLE = "kfence.sample_interval=0"
"""No object comes from KFENCE's pages instead of its cache's, as one now and then would."""
_ALONE = f"slab_nomerge {_WHOLE}"
"""Caches of one size are not merged, so that ours have no other users."""
_CHURN = (f"{PROGRAMS}/slabchurn", "--objects", "2000", "--rounds", "2", "--seed", "5")
_ATTRIBUTES = (
    *("object_size", "slab_size", "objs_per_slab", "order", "align", "cpu_partial"),
    *("min_partial", "slabs", "objects", "total_objects", "partial", "cpu_slabs"),
    "slabs_cpu_partial",
)


def _load(evidence: Evidence) -> None:
    load_slab_module(evidence)
    commands = [command for load in loads() for command in load.commands()]
    evidence.keep_json("commands", commands)
    lines = []
    for load in loads():
        lines.append(say(*load.commands()))
        lines.append(f"grep '^{load.cache} ' /proc/slabinfo 2>/dev/null")
    evidence.shell("slabinfo", "\n".join((*lines, "true")))
    evidence.shell("objects", f"cat {DIRECTORY}/objects")


def _allocator(evidence: Evidence) -> None:
    """Kernel objects of many kinds come and go, our own caches are filled, and all is looked at."""
    evidence.run("slabchurn", *_CHURN)
    _load(evidence)
    evidence.capture()


def _same_load(evidence: Evidence) -> None:
    _load(evidence)
    evidence.capture()


_PHASES = (
    ("alloc", "alloc mm_demo 100"),
    ("free", "free mm_demo forward 3 0"),
    ("again", "alloc mm_demo 20"),
    ("scatter", "alloc mm_demo 1500; free mm_demo backward 7 2"),
    ("more", "alloc mm_demo 60"),
    ("all", "free mm_demo forward 1 0"),
    ("shrink", "shrink mm_demo"),
)
"""What happens to one cache, and a name for what it is like afterwards."""


def _kmem_cache(evidence: Evidence) -> None:
    evidence.capture()
    load_slab_module(evidence)
    creations = [
        "create mm_demo 200 0 ctor",
        "create mm_line 40 0 hwcache,ctor",
        "create mm_plain 72 0 -",
        "create mm_again 68 0 -",
        "create mm_rcu 200 0 rcu",
    ]
    commands = [*creations, *(f"quiet; {command}" for _, command in _PHASES[:-1]), "shrink mm_demo"]
    evidence.keep_json("commands", commands)
    evidence.shell("create", say(*creations))
    evidence.shell(
        "caches",
        'cd /sys/kernel/slab && for cache in mm_*; do echo "$cache $(readlink $cache)"; done; '
        f"for cache in mm_*; do for name in {' '.join(_ATTRIBUTES)}; do "
        'echo "$cache $name $(cat $cache/$name 2>/dev/null)"; done; done',
    )
    state = (
        f"for name in {' '.join(_ATTRIBUTES)}; do "
        'echo "$name $(cat /sys/kernel/slab/mm_demo/$name 2>/dev/null)"; done; '
        f"grep ^constructed {DIRECTORY}/state"
    )
    for name, command in _PHASES:
        quiet = "" if command.startswith("shrink") else "quiet; "
        evidence.shell(f"phase_{name}", say(quiet + command) + state)
        if name == "more":
            evidence.shell("objects", f"cat {DIRECTORY}/objects")
    evidence.shell(
        "destroy",
        f"echo 'alloc mm_line 1' > {DIRECTORY}/command\n"
        f"echo 'destroy mm_line' > {DIRECTORY}/command && echo 'mm_line destroyed'\n"
        f"echo 'destroy mm_demo' > {DIRECTORY}/command && echo 'mm_demo destroyed'\n"
        "ls -d /sys/kernel/slab/mm_demo /sys/kernel/slab/mm_line 2>/dev/null; true",
    )


_KMALLOC = (
    *((1, size, "normal") for size in (1, 8, 9, 33, 64, 65, 97, 100, 129, 193, 300, 1000, 1025)),
    *((1, size, "normal") for size in (2049, 4096, 4097, 8192, 8193, 16384, 20000, 100000)),
    *((1, size, kind) for kind in ("account", "reclaim", "dma") for size in (100, 3000)),
    (1, 3000000, "normal"),
)


def _kmalloc(evidence: Evidence) -> None:
    evidence.capture()
    load_slab_module(evidence)
    commands = [f"kmalloc {count} {size} {kind}" for count, size, kind in _KMALLOC]
    evidence.keep_json("commands", commands)
    evidence.shell("kmalloc", say(*commands))
    evidence.shell("objects", f"cat {DIRECTORY}/objects")
    dumps = "".join(
        f"echo 'dump {number}' > {DIRECTORY}/command\n" for number in range(len(commands))
    )
    # before 5.13 the kernel says nothing about objects, and the module refuses
    evidence.shell("dump", f"{dumps}dmesg | grep -A1 'mmscope_slab: request'; true")


STOPS: tuple[Stop, ...] = (
    Stop(
        name="slab/slub",
        needs=("SLUB",),
        boots=(StopBoot(label="main", kernel="slub", gather=_allocator, append=_ALONE),),
    ),
    Stop(
        name="slab/slab",
        needs=("SLAB",),
        boots=(StopBoot(label="main", kernel="slab", gather=_allocator, append=_ALONE),),
    ),
    Stop(
        name="slab/slob",
        needs=("SLOB",),
        boots=(StopBoot(label="main", kernel="slob", gather=_allocator, append=_ALONE),),
    ),
    Stop(
        name="slab/same-load",
        boots=tuple(
            StopBoot(label=name, kernel=name, gather=_same_load, append=_ALONE)
            for name in ("slub", "slab", "slob")
        ),
        contrasts_kernels=True,
    ),
    Stop(
        name="slab/kmem-cache",
        boots=(
            StopBoot(label="main", kernel="bookworm", gather=_kmem_cache, append=_WHOLE),
            StopBoot(label="older", kernel="bullseye", gather=_kmem_cache, append=_WHOLE),
            StopBoot(label="newest", kernel="sid", gather=_kmem_cache, append=_WHOLE),
        ),
    ),
    Stop(
        name="slab/kmalloc",
        boots=(StopBoot(label="main", kernel="bookworm", gather=_kmalloc, append=_WHOLE),),
    ),
)
