"""Stops about the buddy allocator, from its first page on."""

from __future__ import annotations

import random
import re

from harness.errors import MissingSymbolError
from harness.machine.restart import restart_behind
from harness.record.memory import save_memory_sample
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.kallsyms import read_kallsyms
from harness.tour.evidence import Evidence
from harness.tour.ring_calls import ring_calls
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import PROGRAMS

HANDOVER = "memblock_free_all"
CMA_GIVEN = "cma_init_reserved_areas"
"""Gives reserved areas to the buddy allocator, before there are pages that can move."""
_SAMPLE = "lists.npz"
_SPLIT_ORDERS = (4, 4, 5, 5, 5, 5, 6, 6, 7, 8, 9, 10)
_MERGED_BLOCKS, _MERGED_ORDER, _SEED = 24, 5, 1
"""So many blocks of one order are taken, and given back in an order drawn from the seed."""
_SIDE_BY_SIDE = (4, 5, 7, 8, 10, 11, 13, 14)
"""But these first. Blocks that are taken in turn mostly lie in turn, so that each pair touches, and
two pairs of odd distance cannot both be buddies."""
_CMA_START, _CMA_SIZE = 0x5020_0000, "30M"
"""An odd number of pageblocks from an odd one on, so that the first of them has a buddy that is not
CMA (the last one stays on a per-cpu list at first); where a PC and an arm64 machine have memory."""
_CMA_NODE = "1536M"
_EXTFRAG = "kmem/mm_page_alloc_extfrag"
_MOSTLY_FREE_PAGES = 3 * 512
"""Of pageblocks of which one page stays in use."""
_LEFT_KIB = 12 << 10
"""Of free memory, that is not mapped."""
_STOLEN_ORDER = 7
"""Of the unmovable blocks that are asked for, but for the first, which is the largest there is."""
_FALLBACKS = ("Unmovable", "Movable", "Reclaimable")
"""The types of free blocks that serve an unmovable request."""
_STOLEN_BEYOND, _STOLEN_MAX = 40, 200
"""Blocks that are asked for beyond those that there is room for in larger ones. Then single blocks
must be taken from the pageblocks that are in use."""
_PROACTIVE = "/proc/sys/vm/compaction_proactiveness"
_FREE = re.compile(r"^Node +(\d+, zone +\w+), type +(\w+) +((?:>?\d+ *)+)$", re.MULTILINE)
_DRAINS = 64
"""Each takes an eighth of what per-cpu lists may hold, where they keep much (since 6.7)."""


def _handover(evidence: Evidence) -> None:
    """The same boot twice: once up, for what the kernel tells, then up to the hand-over."""
    evidence.capture()
    _sample_behind(evidence, HANDOVER)


def _sample_behind(evidence: Evidence, function: str) -> None:
    """Boots once more, up to where a function has returned, and keeps the free lists then.

    Raises:
        MissingSymbolError: the kernel has no such function.
    """
    machine = evidence.guest.machine
    with MemorySampler(machine, evidence.kernel) as sampler:
        found = read_kallsyms(sampler.kernel.space, sampler.kernel.info).addresses_of(function)
        if len(found) != 1:
            raise MissingSymbolError(f"kernel {evidence.kernel.release}: no function {function}")
        restart_behind(machine, found[0])
        save_memory_sample(sampler.sample("behind"), evidence.directory / _SAMPLE)
    # what was under way in the guest is gone: nobody is left in it to ask for an orderly end
    machine.qmp.human("quit")
    machine.wait_exit(10)


def _splitting(evidence: Evidence) -> None:
    ring_calls(evidence, [f"take:1:{order}" for order in _SPLIT_ORDERS])


def _coalescing(evidence: Evidence) -> None:
    takes = [f"take:1:{_MERGED_ORDER}"] * _MERGED_BLOCKS
    targets = [at for at in range(1, _MERGED_BLOCKS + 1) if at not in _SIDE_BY_SIDE]
    random.Random(_SEED).shuffle(targets)  # noqa: S311 - any order will do
    drops = [f"drop:{target}" for target in (*_SIDE_BY_SIDE, *targets)]
    ring_calls(evidence, [*takes, *drops])


def _reserved(evidence: Evidence) -> None:
    """The free lists as soon as the CMA area is on them, while the block beside it is whole: of
    the movable ones it is the smallest, and one of the first to be split."""
    evidence.capture()
    try:
        _sample_behind(evidence, CMA_GIVEN)
    except MissingSymbolError:  # a kernel without CMA: the free lists of a guest that does nothing
        with MemorySampler(evidence.guest.machine, evidence.kernel) as sampler:
            save_memory_sample(sampler.sample("lists"), evidence.directory / _SAMPLE)


def _migratetypes(evidence: Evidence) -> None:
    """Movable memory everywhere, torn by holes; then unmovable blocks until they must be stolen.

    Some pageblocks are almost free, the others have one free quarter. What could become free by
    itself does so before: file pages, and what per-cpu lists hold. Nor may kcompactd make large
    blocks of the holes unasked.
    """
    scratch = "/tmp"  # noqa: S108 - in the guest
    evidence.shell(
        "fill",
        f"""drain() {{
    count=0
    while [ $count -lt {_DRAINS} ]; do
        cat /proc/sys/vm/stat_refresh 2>/dev/null
        count=$((count + 1))
    done
}}
[ ! -e {_PROACTIVE} ] || echo 0 >{_PROACTIVE}
sync
echo 3 >/proc/sys/vm/drop_caches
drain
free=$(awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo)
pages=$(((free - {_LEFT_KIB}) / 4 - {_MOSTLY_FREE_PAGES}))
{PROGRAMS}/pagewalk --quiet --area holes:{_MOSTLY_FREE_PAGES}:1:512 --area holes:$pages:384:512 \\
    --hold {scratch}/go >{scratch}/walk 2>&1 </dev/null &
waited=0
until grep -q '^# holding' {scratch}/walk; do
    kill -0 $! 2>/dev/null && [ $waited -lt 300 ] || {{ cat {scratch}/walk; exit 1; }}
    waited=$((waited + 1)); sleep 0.2
done
cat {scratch}/walk
drain""",
    )
    room, largest = _room(evidence.shell("free", "cat /proc/pagetypeinfo"))
    orders = (largest, *(_STOLEN_ORDER,) * min(room + _STOLEN_BEYOND, _STOLEN_MAX))
    ring_calls(evidence, [f"take:1:{order}" for order in orders], full=True, events=(_EXTFRAG,))


def _room(pagetypeinfo: str) -> tuple[int, int]:
    """How many blocks the larger ones can give, of all types in the zone that has most, besides
    those of the very order that are unmovable; and the order of its largest, which can be had
    without compaction."""
    rooms: dict[str, int] = {}
    largest: dict[str, int] = {}
    for zone, kind, counts in _FREE.findall(pagetypeinfo):
        for order, count in enumerate(counts.split()):
            if order > _STOLEN_ORDER or (order == _STOLEN_ORDER and kind == "Unmovable"):
                blocks = int(count.lstrip(">")) << (order - _STOLEN_ORDER)
                rooms[zone] = rooms.get(zone, 0) + blocks
                if blocks and kind in _FALLBACKS:
                    largest[zone] = max(largest.get(zone, 0), order)
    most = max(rooms, key=rooms.__getitem__, default="")
    return rooms.get(most, 0), largest.get(most, _STOLEN_ORDER)


STOPS: tuple[Stop, ...] = (
    Stop(
        name="buddy/handover",
        boots=(
            StopBoot(
                label="main",
                gather=_handover,
                nodes=("256M", "768M"),
                cpus=2,
                append="memblock=debug log_buf_len=4M",
            ),
        ),
    ),
    Stop(name="buddy/splitting", boots=(StopBoot(label="main", gather=_splitting),)),
    Stop(
        name="buddy/coalescing",
        boots=(
            StopBoot(label="main", gather=_coalescing),
            StopBoot(
                label="cma",
                gather=_reserved,
                arch="arm64",
                nodes=(_CMA_NODE,),
                append=f"cma={_CMA_SIZE}@{_CMA_START:#x}",
            ),
        ),
    ),
    Stop(name="buddy/migratetypes", boots=(StopBoot(label="main", gather=_migratetypes),)),
)
