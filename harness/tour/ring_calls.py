"""Packet rings taken and dropped one block at a time, with the allocator's state around each call.

A ring's blocks come from ``get_page_from_freelist`` and go to ``free_pages``, one call a block; a
debugger stops the guest before and behind each. Neither gives the CPU away meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from harness.errors import MmscopeError, WorkloadFailedError
from harness.machine.gdb import attached
from harness.record.memory import MemorySample, save_memory_sample
from harness.sampling.memory import MemorySampler
from harness.sampling.memory.calls import Call, CallWatcher
from harness.tour.evidence import Evidence
from harness.workload.mechanism import PROGRAMS

TAKE = ("get_page_from_freelist",)
_TAKE_ARGUMENTS = 3
"""gfp, order and the flags of the attempt."""
DROP = ("free_pages",)
_CALL_S = 60.0
_JOIN_S = 120.0
_QUIET_MS = 500


def ring_calls(evidence: Evidence, steps: Sequence[str], *, full: bool = False) -> None:
    """Runs pktring with these steps, each of one block, and keeps every call: ``calls.json``, and
    the samples in ``calls/``.

    ``full``: the samples tell of every page whether it can be moved.

    Raises:
        QmpError: a call did not come in time.
        WorkloadFailedError: pktring failed.
        MemoryReadError: the guest's memory cannot be read.
    """
    argv = [f"{PROGRAMS}/pktring", "--quiet-ms", str(_QUIET_MS)]
    for step in steps:
        argv += ["--step", step]
    failures: list[MmscopeError] = []

    def load() -> None:
        try:
            evidence.run("pktring", *argv, stall_s=_JOIN_S)
        except MmscopeError as error:
            failures.append(error)

    thread = threading.Thread(target=load, name="pktring", daemon=True)
    rows: list[dict[str, Any]] = []
    machine = evidence.guest.machine
    with (
        MemorySampler(machine, evidence.kernel) as sampler,
        attached(machine, timeout_s=_CALL_S) as gdb,
    ):
        watcher = CallWatcher(gdb, sampler)
        thread.start()
        for number, step in enumerate(steps):
            rows.append(_keep(evidence, sampler, number, step, _call(watcher, steps, step, full)))
        gdb.detach()
    thread.join(_JOIN_S)
    if failures:
        raise failures[0]
    if thread.is_alive():
        raise WorkloadFailedError(f"pktring did not end within {_JOIN_S:g} s of its last step")
    evidence.keep_json("calls", rows)


def _call(watcher: CallWatcher, steps: Sequence[str], step: str, full: bool) -> Call:
    action, first, *rest = step.split(":")
    if action == "take":
        assert first == "1", f"{step}: one block a step"
        order, names, count = int(rest[0]), TAKE, _TAKE_ARGUMENTS
    else:
        order, names, count = int(steps[int(first) - 1].split(":")[2]), DROP, 2
    return watcher.next_call(
        names, lambda given: given[1] == order, step, arguments=count, full=full
    )


def _keep(
    evidence: Evidence, sampler: MemorySampler, number: int, step: str, call: Call
) -> dict[str, Any]:
    directory = evidence.directory / "calls"
    directory.mkdir(exist_ok=True)

    def keep(sample: MemorySample, moment: str) -> str:
        name = f"{number:03d}-{moment}.npz"
        save_memory_sample(sample, directory / name)
        return f"calls/{name}"

    taken = call.function in TAKE
    if taken:
        layout, base = sampler.layout, int(call.before.meta["vmemmap"])
        pfn = (call.result - base) // layout.page_bytes if call.result else None
    else:
        address, _ = sampler.kernel.space.translate(call.arguments[0])
        pfn = address // sampler.kernel.info.page_size_bytes
    return {
        "step": step,
        "function": call.function,
        "arguments": list(call.arguments),
        "pfn": pfn,
        "before": keep(call.before, "before"),
        "after": keep(call.after, "after"),
    }
