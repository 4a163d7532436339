"""Stops about nodes: one or several, with memory or without."""

from __future__ import annotations

from harness.sampling.memory import MemorySampler
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.tour.stops.zones import take_user_pages
from harness.workload.mechanism import BUSYBOX

_SYMBOLS = "contig_page_data node_data"


def _gather_single(evidence: Evidence) -> None:
    """What tells one node from several: symbols, sysfs, and the layout."""
    evidence.capture()
    pattern = "|".join(_SYMBOLS.split())
    evidence.shell("symbols", f"{BUSYBOX} grep -E ' ({pattern})$' /proc/kallsyms || {BUSYBOX} true")
    evidence.shell(
        "sysfs",
        f"{BUSYBOX} ls /sys/devices/system; {BUSYBOX} ls /sys/devices/system/node 2>&1 || true",
    )


def _gather_numa(evidence: Evidence) -> None:
    """Distances, the zonelists as they lie in memory, and a request that outgrows its node."""
    evidence.capture()
    _keep_zonelists(evidence)
    take_user_pages(evidence, "spill", 320, cpu=0)


def _gather_memoryless(evidence: Evidence) -> None:
    evidence.capture()
    _keep_zonelists(evidence)
    take_user_pages(evidence, "served", 32, cpu=1)


def _gather_fake(evidence: Evidence) -> None:
    evidence.capture()


def _keep_zonelists(evidence: Evidence) -> None:
    """The zonelists that the host finds in the guest's memory: for each node (node, zone)."""
    with MemorySampler(evidence.guest.machine, evidence.kernel) as sampler:
        sample = sampler.sample("zonelists")
    names = {int(zone["zone"]): (int(zone["node"]), zone["name"].decode()) for zone in sample.zones}
    found: dict[str, list[list[int | str]]] = {}
    for row in sample.zonelists:
        if row["fallback"] == 1:
            found.setdefault(str(int(row["node"])), []).append(list(names[int(row["zone"])]))
    evidence.keep_json(
        "zonelists", {"sound": sample.sound, "lists": found, "problems": sample.meta["problems"]}
    )


STOPS: tuple[Stop, ...] = (
    Stop(
        name="nodes/uma",
        boots=(
            StopBoot(label="uma", gather=_gather_single, kernel="uma"),
            StopBoot(label="stock", gather=_gather_single),
        ),
        contrasts_kernels=True,
    ),
    Stop(
        name="nodes/numa",
        needs=("NUMA",),
        boots=(
            StopBoot(
                label="main",
                gather=_gather_numa,
                nodes=("256M", "256M", "256M"),
                cpus=3,
                distances=("0,1=30", "0,2=15", "1,2=20"),
            ),
        ),
    ),
    Stop(
        name="nodes/memoryless",
        needs=("NUMA",),
        boots=(StopBoot(label="main", gather=_gather_memoryless, nodes=("512M", "0"), cpus=2),),
    ),
    Stop(
        name="nodes/fake",
        needs=("NUMA_EMU",),
        boots=(
            StopBoot(label="main", gather=_gather_fake, kernel="numa-emu", append="numa=fake=4"),
        ),
    ),
)
