"""stress-ng, bounded by operations: under TCG a time limit would bound nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Placement


class StressNg(Mechanism):
    workload: Literal["stress-ng"] = "stress-ng"
    stressor: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    """Name of the stressor as stress-ng's options spell it: vm, fork, mmap, hdd …"""
    workers: int = Field(default=1, ge=1, le=256)
    ops: Count
    options: tuple[str, ...] = ()
    """Further options, for example ["--vm-bytes=300M", "--vm-keep"]."""

    def argv(self, placement: Placement) -> list[str]:
        argv = [
            "stress-ng",
            "--quiet",
            f"--seed={placement.seed}",
            f"--{self.stressor}={self.workers}",
            f"--{self.stressor}-ops={self.ops}",
            "--temp-path=/tmp",
            *self.options,
        ]
        if placement.node is None:
            return argv
        bind = str(placement.node)
        return ["numactl", f"--membind={bind}", f"--cpunodebind={bind}", "--", *argv]
