"""Any command of the guest, for experiments of one's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Mechanism, Placement


class Command(Mechanism):
    workload: Literal["command"] = "command"
    command: list[str] = Field(min_length=1)

    def argv(self, placement: Placement) -> list[str]:
        if placement.node is None:
            return list(self.command)
        bind = str(placement.node)
        return ["numactl", f"--membind={bind}", f"--cpunodebind={bind}", "--", *self.command]
