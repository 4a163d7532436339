"""Stops about the buddy allocator, from its first page on."""

from __future__ import annotations

import random

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
_SAMPLE = "lists.npz"
_SPLIT_ORDERS = (4, 4, 5, 5, 5, 5, 6, 6, 7, 8, 9, 10)
_MERGED_BLOCKS, _MERGED_ORDER, _SEED = 24, 5, 1
"""So many blocks of one order are taken, and given back in an order drawn from the seed."""
_CMA_START, _CMA_SIZE = 0x5000_0000, "30M"
"""An odd number of pageblocks, so that one of them has a buddy that is not CMA."""
_TRACING = "/sys/kernel/tracing"
_EXTFRAG = f"{_TRACING}/events/kmem/mm_page_alloc_extfrag/enable"
_MOSTLY_FREE_PAGES = 3 * 512
"""Of pageblocks of which one page stays in use."""
_LEFT_KIB = 12 << 10
"""Of free memory, that is not mapped."""
_STOLEN = (10, *(7,) * 90)
"""Orders of the unmovable blocks that are asked for: the first is there. What is free in blocks of
order 8 and more, in pageblocks that are claimed, does not hold 90 of order 7; then single blocks
must be taken from the pageblocks that are in use."""


def _handover(evidence: Evidence) -> None:
    """The same boot twice: once up, for what the kernel tells, then up to the hand-over."""
    evidence.capture()
    machine = evidence.guest.machine
    with MemorySampler(machine, evidence.kernel) as sampler:
        found = read_kallsyms(sampler.kernel.space, sampler.kernel.info).addresses_of(HANDOVER)
        if len(found) != 1:
            raise MissingSymbolError(f"kernel {evidence.kernel.release}: no function {HANDOVER}")
        restart_behind(machine, found[0])
        save_memory_sample(sampler.sample("handover/now"), evidence.directory / _SAMPLE)
    # what was under way in the guest is gone: nobody is left in it to ask for an orderly end
    machine.qmp.human("quit")
    machine.wait_exit(10)


def _splitting(evidence: Evidence) -> None:
    ring_calls(evidence, [f"take:1:{order}" for order in _SPLIT_ORDERS])


def _coalescing(evidence: Evidence) -> None:
    takes = [f"take:1:{_MERGED_ORDER}"] * _MERGED_BLOCKS
    targets = list(range(1, _MERGED_BLOCKS + 1))
    random.Random(_SEED).shuffle(targets)  # noqa: S311 - any order will do
    ring_calls(evidence, [*takes, *(f"drop:{target}" for target in targets)])


def _lists(evidence: Evidence) -> None:
    """The free lists of a guest that does nothing."""
    evidence.capture()
    with MemorySampler(evidence.guest.machine, evidence.kernel) as sampler:
        save_memory_sample(sampler.sample("lists", full=True), evidence.directory / _SAMPLE)


def _migratetypes(evidence: Evidence) -> None:
    """Movable memory everywhere, torn by holes; then unmovable blocks until they must be stolen.

    Some pageblocks are almost free, the others have one free quarter.
    """
    scratch = "/tmp"  # noqa: S108 - in the guest
    evidence.shell(
        "fill",
        f"""free=$(awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo)
pages=$(((free - {_LEFT_KIB}) / 4 - {_MOSTLY_FREE_PAGES}))
{PROGRAMS}/pagewalk --quiet --area holes:{_MOSTLY_FREE_PAGES}:1:512 --area holes:$pages:384:512 \\
    --hold {scratch}/go >{scratch}/walk 2>&1 </dev/null &
waited=0
until grep -q '^# holding' {scratch}/walk; do
    kill -0 $! 2>/dev/null && [ $waited -lt 300 ] || {{ cat {scratch}/walk; exit 1; }}
    waited=$((waited + 1)); sleep 0.2
done
cat {scratch}/walk
echo 1 >{_EXTFRAG}""",
    )
    ring_calls(evidence, [f"take:1:{order}" for order in _STOLEN], full=True)
    evidence.shell("trace", f"echo 0 >{_EXTFRAG}; cat {_TRACING}/trace")


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
                gather=_lists,
                arch="arm64",
                append=f"cma={_CMA_SIZE}@{_CMA_START:#x}",
            ),
        ),
    ),
    Stop(name="buddy/migratetypes", boots=(StopBoot(label="main", gather=_migratetypes),)),
)
