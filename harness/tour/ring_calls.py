"""Packet rings taken and dropped one block at a time, with the allocator's state around each call.

A ring's blocks come from ``get_page_from_freelist`` and go to ``free_pages``, one call a block; a
debugger stops the guest before and behind each. Neither gives the CPU away by itself, but a kernel
that can be preempted may take it from them, and interrupts free pages. So the program runs before
all others, kswapd and kcompactd behind them, and who comes in between all the same is traced, with
what pages they take and give, by a clock that counts events: its value is part of each sample.
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
_TRACING = "/sys/kernel/tracing"
_BUFFER_KB = 2048
_PAGES = ("alloc", "free", "free_batched", "pcpu_drain")
"""Traced where it is not the program itself, whose own calls are known."""
_TASKS = ("sched/sched_switch", "workqueue/workqueue_execute_start")
_OTHERS = 'comm != "pktring" || common_flags & 24'
"""Another task, or an interrupt (TRACE_FLAG_HARDIRQ | TRACE_FLAG_SOFTIRQ)."""
_FIRST = ("/usr/bin/nice", "-n", "-20")
_LAST = """for task in $(pgrep '^k(swapd|compactd)'); do
    busybox renice -n 19 -p $task
done"""


def ring_calls(
    evidence: Evidence, steps: Sequence[str], *, full: bool = False, events: Sequence[str] = ()
) -> None:
    """Runs pktring with these steps, each of one block, and keeps every call: ``calls.json``, the
    samples in ``calls/``, and what was traced meanwhile, ``trace.txt``.

    ``full``: the samples tell of every page whether it can be moved. ``events``: to be traced
    besides (``kmem/mm_page_alloc_extfrag``).

    Raises:
        QmpError: a call did not come in time.
        WorkloadFailedError: pktring failed, or the kernel refuses an event.
        MemoryReadError: the guest's memory cannot be read.
    """
    argv = [f"{PROGRAMS}/pktring", "--quiet-ms", str(_QUIET_MS)]
    for step in steps:
        argv += ["--step", step]
    failures: list[MmscopeError] = []

    def load() -> None:
        try:
            evidence.run("pktring", *_FIRST, *argv, stall_s=_JOIN_S)
        except MmscopeError as error:
            failures.append(error)

    # all of it before the debugger comes, which looks at every request in the guest
    evidence.shell("trace-setup", f"{_LAST}\n{_setup(events)}")
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
    evidence.shell(
        "trace", f"cd {_TRACING} && echo 0 >tracing_on && echo 0 >events/enable && cat trace"
    )


def _setup(events: Sequence[str]) -> str:
    """Shell that begins to trace these events and who else runs."""
    lines = [f"cd {_TRACING} && echo 0 >tracing_on && echo counter >trace_clock"]
    lines += [f"echo {_BUFFER_KB} >buffer_size_kb"]
    for name in _PAGES:
        event = f"events/kmem/mm_page_{name}"
        lines += [f"echo '{_OTHERS}' >{event}/filter", f"echo 1 >{event}/enable"]
    lines += [f"echo 1 >events/{event}/enable" for event in (*_TASKS, *events)]
    lines += ["echo >trace", "echo 1 >tracing_on"]
    return " &&\n".join(lines)


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
