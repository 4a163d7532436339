"""Stops about compaction, direct and by kcompactd."""

from __future__ import annotations

from harness.sampling.memory.btf import Btf
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.tour.tracing import (
    FIRST_ARGUMENT,
    INSTANCE,
    KernelProbe,
    ZoneFields,
    arguments,
    kernel_types,
    sysctl_number,
    traced,
    zone_fields,
)
from harness.workload.fragment import Fragment
from harness.workload.mechanism import Placement
from harness.workload.thp import Thp

_EVENTS = (
    "compaction/mm_compaction_try_to_compact_pages",
    "compaction/mm_compaction_suitable",
    "compaction/mm_compaction_deferred",
    "compaction/mm_compaction_begin",
    "compaction/mm_compaction_end",
    "compaction/mm_compaction_finished",
    "compaction/mm_compaction_migratepages",
    "compaction/mm_compaction_isolate_migratepages",
    "compaction/mm_compaction_isolate_freepages",
    "compaction/mm_compaction_kcompactd_sleep",
    "compaction/mm_compaction_kcompactd_wake",
    "compaction/mm_compaction_wakeup_kcompactd",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
)
_PATIENCE_S = 240.0
"""For loads that print nothing: a busy host is ten times as slow."""
_DEBUGFS = (
    "[ -d /sys/kernel/debug/extfrag ] || mount -t debugfs debugfs /sys/kernel/debug || exit 1\n"
)
_HUGE = "echo {pages} > /proc/sys/vm/nr_hugepages; cat /proc/sys/vm/nr_hugepages"
_INDEXES = """
for turn in $(seq 20); do
  cat /proc/buddyinfo > /tmp/one
  cat /sys/kernel/debug/extfrag/extfrag_index > /tmp/extfrag
  cat /sys/kernel/debug/extfrag/unusable_index > /tmp/unusable
  cat /proc/buddyinfo > /tmp/two
  cmp -s /tmp/one /tmp/two && break
  sleep 0.2
done
cat /tmp/one; echo; cat /tmp/extfrag; echo; cat /tmp/unusable; echo; cat /tmp/two
"""
"""Shell: free blocks, both indexes, and free blocks again, the same if nothing moved meanwhile."""


def _shred(evidence: Evidence, part: str, pattern: str) -> None:
    """Leaves memory in shreds, and the process that holds what is in use."""
    load = Fragment(bytes=part, pattern=pattern, hold_ms=300_000)
    argv = " ".join(load.argv(Placement(label=None, seed=3)))
    evidence.shell(
        "shreds",
        "trap '' HUP\n"
        f"{argv} > /dev/null & pid=$!; top=0\n"
        "for turn in $(seq 400); do\n"
        "  rss=$(cut -d' ' -f2 /proc/$pid/statm) || exit 1\n"
        "  [ $rss -gt $top ] && top=$rss\n"
        "  state=$(cut -d' ' -f3 /proc/$pid/stat)\n"
        "  [ $state = S ] && [ $rss -lt $((top * 3 / 4)) ] && break; sleep 0.1\n"
        "done\n"
        "echo $pid $top $rss",
        stall_s=_PATIENCE_S,
    )


_CACHE = """
for disk in /sys/block/*; do
  [ -e $disk/serial ] && [ "$(cat $disk/serial)" = mmscope-scratch ] && break
done
disk=/dev/${disk##*/}
trap '' HUP
sleep 300 < $disk > /dev/null & echo $! > /tmp/cache.pid
dd if=$disk of=/dev/null bs=64k count=400 2> /dev/null
"""
"""Shell: 25 MiB of page cache, and a process that keeps the disk open and so the cache in place.
kswapd hands a request on to kcompactd only after it has reclaimed twice as many pages as that
asked for."""


_QUESTION = {"alloc_flags": "flags={}:u32", "watermark": "watermark={}:u64"}
"""What releases ask besides the order and the highest zone: the flags of the request up to 6.4, the
watermark itself since 6.15, nothing between."""


_SWEEP = """
sweep() {{
  for value in "$@"; do echo $value > /proc/sys/vm/compaction_proactiveness; sleep 1.2; done
}}
sweep 10 15 20 25 30 35 40 50 60 70 80
grep -q 'kcompactd.*mm_compaction_finished: .*order=-1 ret=success' {trace} && exit 0
kill $(cat /tmp/cache.pid) && sweep 70 80 90
"""
"""Shell: kcompactd looks at once whenever the sysctl is written. Where its scanners met each time
before the low mark was reached, the cache is dropped: then there is room to move pages to."""


def _suits(types: Btf, fields: ZoneFields) -> KernelProbe:
    """The state of the zone whenever the kernel asks whether compaction is worth it there."""
    given = arguments(types, "compaction_suitable")
    return KernelProbe(
        name="suits",
        function="compaction_suitable",
        fetches=(
            f"zone=+0(+{fields.offsets['name']}({FIRST_ARGUMENT})):string",
            "order=$arg2:s32",
            *(fetch.format(given[name]) for name, fetch in _QUESTION.items() if name in given),
            f"idx={given.get('highest_zoneidx', '$arg4')}:s32",
            *fields.state(FIRST_ARGUMENT),
            *fields.blocks(FIRST_ARGUMENT),
        ),
    )


def _asks(fields: ZoneFields) -> tuple[KernelProbe, ...]:
    """The state of the zone whenever the kernel asks whether a costly request would succeed as it
    is. Since compaction_suitable() does not answer that itself, no tracepoint tells; which of the
    two functions is asked depends on the release."""
    return tuple(
        KernelProbe(
            name=name,
            function=function,
            condition="order > 3",
            fetches=(
                f"zone=+0(+{fields.offsets['name']}({FIRST_ARGUMENT})):string",
                "order=$arg2:u32",
                "mark=$arg3:u64",
                "idx=$arg4:s32",
                *fields.state(FIRST_ARGUMENT),
                *fields.blocks(FIRST_ARGUMENT),
            ),
        )
        for name, function in (("asks", "zone_watermark_ok"), ("asks_it", "__zone_watermark_ok"))
    )


def _proactive(types: Btf) -> KernelProbe:
    """kcompactd beginning by itself: a function of its own, or the one for whole nodes, told so."""
    given = arguments(types, "compact_node")
    if "proactive" not in given:
        return KernelProbe(name="proactive", function="proactive_compact_node")
    return KernelProbe(
        name="proactive",
        function="compact_node",
        fetches=(f"proactive={given['proactive']}:u8",),
    )


_BEGIN = f"""tries=0
while :; do
    moved=$(sed -n 's/^pgmigrate_success //p' /proc/vmstat)
    echo >{INSTANCE}/trace
    now=$(cat /proc/vmstat)
    printf '%s\\n' "$now" | grep -qx "pgmigrate_success $moved" || [ $tries -ge 50 ] && break
    tries=$((tries + 1))
done
printf '%s\\n' "$now" """
"""The counters at a moment from which on the trace has all migration: kcompactd may be at work."""


def _gather_direct(evidence: Evidence) -> None:
    evidence.shell("settings", "echo 0 > /proc/sys/vm/compaction_proactiveness")
    types = kernel_types(evidence.kernel)
    fields = zone_fields(types)
    probes = (_suits(types, fields), *_asks(fields))
    _shred(evidence, "92%", "stride:2")
    evidence.shell("indexes-before", _DEBUGFS + _INDEXES)
    evidence.read("/proc/zoneinfo", "/proc/meminfo", "/proc/sys/vm/extfrag_threshold")
    with traced(evidence, "trace", _EVENTS, probes):
        evidence.shell("vmstat-before", _BEGIN)
        evidence.shell("huge", _HUGE.format(pages=16), stall_s=_PATIENCE_S)
        evidence.shell("huge-more", _HUGE.format(pages=64), stall_s=_PATIENCE_S)
        evidence.shell("settle", "sleep 1")
        evidence.shell("vmstat-after", "cat /proc/vmstat")
    evidence.shell("indexes-after", _INDEXES)


def _gather_kcompactd(evidence: Evidence) -> None:
    evidence.shell("settings", "echo 0 > /proc/sys/vm/compaction_proactiveness")
    types = kernel_types(evidence.kernel)
    fields = zone_fields(types)
    value = sysctl_number(
        evidence, types, symbol="sysctl_compaction_proactiveness",
        handler="compaction_proactiveness_sysctl_handler",
        path="/proc/sys/vm/compaction_proactiveness",
    )  # fmt: skip
    probes = (
        _suits(types, fields),
        _proactive(types),
        KernelProbe(name="scored", function="extfrag_for_order", fetches=(
            f"zone=+0(+{fields.offsets['name']}({FIRST_ARGUMENT})):string", "order=$arg2:u32",
            f"proactiveness={value}", *fields.blocks(FIRST_ARGUMENT),
        )),
    )  # fmt: skip
    _shred(evidence, "92%", "stride:2")
    evidence.shell("cache", _CACHE)
    demand = " ".join(Thp(bytes="24M", holes=0).argv(Placement(label=None, seed=4)))
    evidence.shell("indexes-before", _DEBUGFS + _INDEXES)
    evidence.read(
        "/proc/zoneinfo", "/proc/meminfo", "/proc/sys/vm/extfrag_threshold",
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
    )  # fmt: skip
    with traced(evidence, "trace", _EVENTS, probes) as trace:
        evidence.shell("vmstat-before", _BEGIN)
        evidence.shell(
            "demand",
            "cd /sys/kernel/mm/transparent_hugepage || exit 1\n"
            f"echo defer > defrag && echo madvise > enabled && {demand}; sleep 1.5",
        )
        evidence.shell("vmstat-demand", "cat /proc/vmstat")
        evidence.shell(
            "sweep",
            _SWEEP.format(trace=trace),
            stall_s=_PATIENCE_S,
        )
        evidence.shell("vmstat-after", "cat /proc/vmstat")
    evidence.shell("indexes-after", _INDEXES)


STOPS: tuple[Stop, ...] = (
    Stop(
        name="compaction/direct",
        needs=("COMPACTION",),
        boots=(StopBoot(label="main", gather=_gather_direct, nodes=("256M",)),),
    ),
    Stop(
        name="compaction/kcompactd",
        needs=("COMPACTION",),
        boots=(StopBoot(label="main", gather=_gather_kcompactd, nodes=("256M",)),),
    ),
)
