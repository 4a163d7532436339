"""Is the allocator at rest? Asked from outside, so that asking moves nothing."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from harness.record.memory import MemorySample

STILL_MS = 150
"""Two looks this far apart must show the same."""
LIMIT_MS = 3_000
"""Longest wait: some guests never come to rest."""


class _Sampler(Protocol):
    def sample(self, label: str, *, full: bool) -> MemorySample: ...


def wait_quiet(sampler: _Sampler) -> bool:
    """Waits until two light samples in a row are alike; False when that never came.

    Kernel: mm/vmstat.c, refresh_cpu_vm_stats() folds counters and drains remote per-cpu lists
    every vm.stat_interval (a second); what a load freed late (RCU, work queues) comes sooner.
    """
    last = sampler.sample("quiet/0", full=False)
    for turn in range(1, LIMIT_MS // STILL_MS + 1):
        time.sleep(STILL_MS / 1000)
        now = sampler.sample(f"quiet/{turn}", full=False)
        if alike(last, now):
            return True
        last = now
    return False


def alike(one: MemorySample, other: MemorySample) -> bool:
    """Whether no page moved between the samples: by the event counter where both have it,
    otherwise by the free lists and the per-cpu lists."""
    counters = one.meta["trace_counter"], other.meta["trace_counter"]
    if None not in counters:
        return bool(counters[0] == counters[1])
    return bool(
        np.array_equal(one.blocks, other.blocks) and np.array_equal(one.pcp_pages, other.pcp_pages)
    )
