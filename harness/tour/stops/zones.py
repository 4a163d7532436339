"""Stops about zones, each populated on some kernel."""

from __future__ import annotations

from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import BUSYBOX

TAKEN_MIB = 32
_TMPFS = "/run/tour"
_FALLING = ("/proc/vmstat", "/proc/zoneinfo")


def gather_zone(evidence: Evidence) -> None:
    """A capture, and which zone serves user memory: its counters before and after."""
    evidence.capture()
    take_user_pages(evidence, "user", TAKEN_MIB)


def take_user_pages(
    evidence: Evidence, name: str, size_mib: int, *, cpu: int | None = None
) -> None:
    """Fills a file in tmpfs from one CPU, with vmstat, zoneinfo and numastat before and after.

    Its pages may lie in any zone and be moved, as those of a process; they are given back at the
    end.
    """
    pinned = f"{BUSYBOX} taskset {1 << cpu:x} " if cpu is not None else ""
    evidence.shell(
        f"{name}-begin",
        f"{BUSYBOX} mkdir -p {_TMPFS} && "
        f"{BUSYBOX} mount -t tmpfs -o size={size_mib + 1}m,huge=never tmpfs {_TMPFS}",
    )
    _keep_counters(evidence, f"{name}-before")
    evidence.shell(
        f"{name}-fill", f"{pinned}{BUSYBOX} dd if=/dev/zero of={_TMPFS}/fill bs=1M count={size_mib}"
    )
    _keep_counters(evidence, f"{name}-after")
    evidence.shell(f"{name}-end", f"{BUSYBOX} umount {_TMPFS}")


def _keep_counters(evidence: Evidence, name: str) -> None:
    # Reading it folds what CPUs keep of the counters to themselves.
    evidence.shell(f"{name}-fold", f"{BUSYBOX} cat /proc/sys/vm/stat_refresh")
    paths = (*_FALLING, "/sys/devices/system/node/node*/numastat")
    for path, content in sorted(evidence.guest.agent.read(list(paths)).files.items()):
        parts = path.strip("/").split("/")
        evidence.keep(
            f"{name}-{'-'.join(parts[-2:] if parts[0] == 'sys' else parts[-1:])}.txt", content
        )


STOPS: tuple[Stop, ...] = (
    Stop(
        name="zones/dma", needs=("ZONE_DMA",), boots=(StopBoot(label="main", gather=gather_zone),)
    ),
    Stop(
        name="zones/dma32",
        needs=("ZONE_DMA32",),
        boots=(StopBoot(label="main", gather=gather_zone),),
    ),
    Stop(
        name="zones/normal",
        boots=(StopBoot(label="main", gather=gather_zone, nodes=("5G",)),),
    ),
    Stop(
        name="zones/highmem",
        needs=("HIGHMEM",),
        boots=(
            StopBoot(
                label="main", gather=gather_zone, arch="i386", kernel="bookworm", nodes=("1G",)
            ),
        ),
    ),
    Stop(
        name="zones/movable",
        boots=(
            StopBoot(label="movablecore", gather=gather_zone, append="movablecore=128M"),
            StopBoot(label="hot-dimm", gather=gather_zone, shapes=("hot-dimm",)),
        ),
    ),
    Stop(
        name="zones/device",
        needs=("ZONE_DEVICE",),
        boots=(StopBoot(label="main", gather=gather_zone, shapes=("pmem",), nodes=("1G",)),),
    ),
)
