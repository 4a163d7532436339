"""Stops about page reclaim and the OOM killer."""

from __future__ import annotations

import re

from harness.experiment.preparation import swap_on
from harness.machine.argv import SWAP_SERIAL
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.tour.tracing import (
    FIRST_ARGUMENT,
    KernelProbe,
    arguments,
    kernel_types,
    node_0,
    traced,
    zone_fields,
)
from harness.workload.fragment import Fragment
from harness.workload.mechanism import Placement
from harness.workload.thrash import Thrash

_DISK = """
for disk in /sys/block/*; do
  [ -e $disk/serial ] && [ "$(cat $disk/serial)" = {serial} ] && break
done
disk=${{disk##*/}}
"""
"""Shell: the name of the disk with that serial."""

_HELD_OPEN = "exec 3< /dev/$disk\n"
"""Shell: while a block device is open its page cache stays; the last close drops it."""

_SCRATCH = _DISK.format(serial="mmscope-scratch")
_SWAP = _DISK.format(serial=SWAP_SERIAL)

_KSWAPD_AT_REST = """
for turn in $(seq 40); do
  last=$(grep -E 'mm_vmscan_kswapd_(wake|sleep):' {trace} | tail -n 1)
  case "$last" in *kswapd_sleep*|"") exit 0;; esac
  sleep 0.25
done
echo "kswapd does not come to rest" >&2; exit 1
"""

_EVENTS = (
    "vmscan/mm_vmscan_kswapd_wake",
    "vmscan/mm_vmscan_kswapd_sleep",
    "vmscan/mm_vmscan_wakeup_kswapd",
    "vmscan/mm_vmscan_lru_shrink_inactive",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
)
_ZONE = re.compile(r"^Node 0, zone +(\w+)$(?:\n .*)*?\n +managed +[1-9]", re.MULTILINE)
_LRU_GEN = "/sys/kernel/mm/lru_gen/enabled"
_PATIENCE_S = 240.0
"""For loads that print nothing: a busy host is ten times as slow."""


def _events(evidence: Evidence) -> tuple[str, ...]:
    """The events of both stops; lists of generations count what is isolated."""
    enabled = evidence.read(_LRU_GEN).get(_LRU_GEN, b"0")
    return (*_EVENTS, "vmscan/mm_vmscan_lru_isolate") if int(enabled, 0) & 1 else _EVENTS


def _set_watermarks(evidence: Evidence, scale_factor: int) -> list[str]:
    """Watermarks computed anew, far enough apart; and no boost, which would move them. The zones
    that have memory."""
    evidence.shell(
        "settings",
        "echo 0 > /proc/sys/vm/watermark_boost_factor &&\n"
        f"echo {scale_factor} > /proc/sys/vm/watermark_scale_factor",
    )
    files = evidence.read(
        "/proc/zoneinfo", "/proc/meminfo", "/proc/sys/vm/min_free_kbytes",
        "/proc/sys/vm/watermark_scale_factor",
        "/proc/sys/vm/watermark_boost_factor", "/proc/sys/vm/extfrag_threshold",
    )  # fmt: skip
    return _ZONE.findall(files["/proc/zoneinfo"].decode())


def _gather_kswapd(evidence: Evidence) -> None:
    zones = _set_watermarks(evidence, 200)
    types = kernel_types(evidence.kernel)
    fields = zone_fields(types)
    first = node_0(evidence, types)
    node = [
        fields.at("vm_stat", first, name=f"free_{zone}", start=fields.start(zone)) for zone in zones
    ]
    slept = [
        fetch
        for zone in zones
        for fetch in fields.state(FIRST_ARGUMENT, start=fields.start(zone), suffix=f"_{zone}")
    ]
    probes = [
        KernelProbe(name="wants_kswapd", function="wakeup_kswapd", fetches=(
            f"zone=+0(+{fields.offsets['name']}({FIRST_ARGUMENT})):string", "order=$arg3:s32",
            "idx=$arg4:u32", *fields.state(FIRST_ARGUMENT), *fields.blocks(FIRST_ARGUMENT),
        )),
        KernelProbe(name="kswapd_threshold", function="set_pgdat_percpu_threshold",
                    fetches=tuple(slept)),
        KernelProbe(name="tick", function="update_process_times", fetches=tuple(node)),
    ]  # fmt: skip
    with traced(evidence, "trace", _events(evidence), probes) as trace:
        evidence.shell("vmstat-before", "cat /proc/vmstat")
        evidence.shell(
            "load",
            _SCRATCH + _HELD_OPEN + "read_it() {\n"
            "  dd if=/dev/$disk of=/dev/null bs=64k skip=$1 count=$2 2>/dev/null && sleep 0.4\n}\n"
            "read_it 0 2800 && for burst in 1 2 3 4 5 6; do\n"
            "  read_it $((burst * 400 + 2800)) 400 || exit 1\ndone",
            stall_s=_PATIENCE_S,
        )
        evidence.shell("rest", _KSWAPD_AT_REST.format(trace=trace))
        evidence.shell("vmstat-after", "cat /proc/vmstat")


def _gather_direct(evidence: Evidence) -> None:
    zones = _set_watermarks(evidence, 10)
    types = kernel_types(evidence.kernel)
    fields = zone_fields(types)
    first = node_0(evidence, types)
    node = [
        fetch
        for zone in zones
        for fetch in fields.state(first, start=fields.start(zone), suffix=f"_{zone}")
    ]
    ticks = [
        fields.at("vm_stat", first, name=f"free_{zone}", start=fields.start(zone)) for zone in zones
    ]
    probes = [
        KernelProbe(name="tick", function="update_process_times", fetches=tuple(ticks)),
        KernelProbe(name="stalls", function="psi_memstall_enter", fetches=tuple(node)),
        # Whether reclaim may leave the rest to compaction; the task may be preempted between.
        *(KernelProbe(name=name, function=function, condition="order > 3", fetches=(
            f"zone=+0(+{fields.offsets['name']}({FIRST_ARGUMENT})):string", "order=$arg2:u32",
            f"idx={arguments(types, function).get('highest_zoneidx', '$arg4')}:u32",
            *fields.state(FIRST_ARGUMENT), *fields.blocks(FIRST_ARGUMENT),
        )) for name, function in (("asks", "zone_watermark_ok"), ("suits", "compaction_suitable"))),
    ]  # fmt: skip
    with traced(evidence, "trace", _events(evidence), probes) as trace:
        evidence.shell("vmstat-before", "cat /proc/vmstat")
        evidence.shell(
            "load",
            _SCRATCH + _HELD_OPEN + "for reader in 0 1 2; do\n"
            "  dd if=/dev/$disk of=/dev/null bs=1M count=130 skip=$((reader * 200)) 2>/dev/null &\n"
            "done; wait",
            stall_s=_PATIENCE_S,
        )
        evidence.shell("rest", _KSWAPD_AT_REST.format(trace=trace))
        evidence.shell("vmstat-after", "cat /proc/vmstat")


_SWAP_LOOK = """
sync; cat /proc/sys/vm/stat_refresh
for turn in $(seq 20); do
  cat /proc/vmstat > /tmp/one; cat /sys/block/$disk/stat > /tmp/disk; cat /proc/vmstat > /tmp/two
  grep pswp /tmp/one > /tmp/one.pswp; grep pswp /tmp/two > /tmp/two.pswp
  cmp -s /tmp/one.pswp /tmp/two.pswp && break; sleep 0.2
done
cat /tmp/two; echo; cat /tmp/disk
"""
"""Shell: counters and the disk's statistics, read while nothing is swapped."""

_SWAP_MIB = 224
"""Of anonymous memory, on a guest of 256 MiB."""


def _gather_swap(evidence: Evidence) -> None:
    swap_on(evidence.guest)
    look = _SWAP + _SWAP_LOOK
    evidence.read(_LRU_GEN)
    evidence.shell("before", look)
    load = Thrash(bytes=f"{_SWAP_MIB}M", touches=12_000)
    argv = " ".join(load.argv(Placement(label=None, seed=5)))
    evidence.shell(
        "load",
        # In a session of its own: a shell that ends wakes the stopped jobs of its session.
        f"setsid {argv} > /tmp/thrash.out & pid=$!\n"
        # Major faults come when what was swapped out is touched again: all was touched once then.
        "for turn in $(seq 2000); do\n"
        "  set -- $(cat /proc/$pid/stat) || exit 1\n"
        "  [ ${12} -ge 200 ] && kill -STOP $pid && echo $pid > /tmp/thrash.pid && exit 0\n"
        "  sleep 0.1\n"
        "done\n"
        "echo 'nothing came back from swap' >&2; kill $pid; exit 1",
        stall_s=_PATIENCE_S,
    )
    evidence.shell("settle", "sleep 1")
    evidence.shell("smaps", "cat /proc/$(cat /tmp/thrash.pid)/smaps")
    evidence.read("/proc/swaps", "/proc/meminfo", "/proc/zoneinfo")
    evidence.shell("after", look)
    evidence.shell(
        "content",
        "pid=$(cat /tmp/thrash.pid)\n"
        "[ $(cut -d' ' -f3 /proc/$pid/stat) = T ] || { echo 'it was not held' >&2; exit 1; }\n"
        "kill -CONT $pid\n"
        "for turn in $(seq 2000); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done\n"
        "cat /tmp/thrash.out",
        stall_s=_PATIENCE_S,
    )
    evidence.shell("end", look)


_HELD = ((40, 0), (16, 300), (24, 100), (30, -300))
"""MiB of memory of each process, and its oom_score_adj."""


_HOLD = """
hold() {
  mib=$1; adj=$2; shift 2
  "$@" > /dev/null & pid=$!
  echo $adj > /proc/$pid/oom_score_adj
  for turn in $(seq 600); do
    set -- $(cat /proc/$pid/stat) || exit 1
    [ $3 = S ] && [ ${24} -ge $((mib * 1048576 / page_bytes)) ] && echo $pid $mib $adj && return
    sleep 0.1
  done
  echo "$mib MiB were never touched" >&2; exit 1
}
page_bytes=$(awk '/^KernelPageSize/ {print $2 * 1024; exit}' /proc/self/smaps)
"""
"""Shell: starts a process that holds memory, and waits until it has it and sleeps."""


def _gather_oom(evidence: Evidence) -> None:
    script = _HOLD
    for mib, adj in _HELD:
        load = Fragment(bytes=f"{mib}M", pattern="random:0", hold_ms=300_000)
        script += f"hold {mib} {adj} {' '.join(load.argv(Placement(label=None, seed=1)))}\n"
    evidence.shell("held", script, stall_s=_PATIENCE_S)
    evidence.shell(
        "scores",
        "for pid in $(pidof fragment); do\n"
        "  for name in oom_score oom_score_adj; do echo $name: $(cat /proc/$pid/$name); done\n"
        "  set -- $(cat /proc/$pid/stat); echo folded_rss: ${24}\n"
        "  cat /proc/$pid/status; echo\n"
        "done",
    )
    evidence.read("/proc/meminfo", "/proc/zoneinfo")
    evidence.shell("vmstat-before", "cat /proc/vmstat")
    evidence.shell(
        "load",
        "available=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)\n"
        "echo -1000 > /proc/self/oom_score_adj\n"
        "exec /run/mmscope/bin/thrash --seed 1 --bytes $(((available + 28 * 1024) / 1024))M",
        stall_s=_PATIENCE_S,
    )
    evidence.shell("vmstat-after", "cat /proc/vmstat")
    evidence.shell("dmesg", "dmesg")


STOPS: tuple[Stop, ...] = (
    Stop(
        name="reclaim/kswapd",
        boots=(
            StopBoot(label="main", gather=_gather_kswapd, nodes=("256M",)),
            StopBoot(label="arm64", gather=_gather_kswapd, arch="arm64", nodes=("256M",)),
        ),
    ),
    Stop(
        name="reclaim/direct",
        boots=(StopBoot(label="main", gather=_gather_direct, nodes=("256M",)),),
    ),
    Stop(
        name="reclaim/swap", needs=("SWAP",),
        boots=(
            StopBoot(label="main", gather=_gather_swap, nodes=("256M",), swap="256M"),
            StopBoot(
                label="lru_gen", gather=_gather_swap, kernel="bookworm-backports",
                nodes=("256M",), swap="256M",
            ),
        ),
    ),
    Stop(
        name="reclaim/oom",
        boots=(
            StopBoot(label="main", gather=_gather_oom, nodes=("256M",)),
            StopBoot(label="newest", gather=_gather_oom, kernel="sid", nodes=("256M",)),
        ),
    ),
)  # fmt: skip
