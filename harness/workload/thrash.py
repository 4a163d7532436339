"""Anonymous memory touched from end to end, then in a seeded order: swap, or the OOM killer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Mechanism, Part, Placement, Size, own_program


class Thrash(Mechanism):
    workload: Literal["thrash"] = "thrash"
    bytes: Size | Part
    touches: int = Field(default=0, ge=0, le=100_000_000)
    write: int = Field(default=50, ge=0, le=100)
    """Percentage of the touches that write."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("thrash", placement, "--bytes", self.bytes)
        return [*argv, "--touches", str(self.touches), "--write", str(self.write)]
