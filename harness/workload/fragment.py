"""Anonymous memory touched and then given back in a pattern, so that free memory is in shreds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Part, Placement, Size, own_program


class Fragment(Mechanism):
    workload: Literal["fragment"] = "fragment"
    bytes: Size | Part
    pattern: str = Field(pattern=r"^(stride|random|runs):\d+$")
    rounds: Count = 1
    huge: bool = False
    """Let transparent huge pages back the memory; without, the shreds are single pages."""

    compact: bool = False
    """Tell the kernel to compact memory while it is in shreds."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("fragment", placement, "--bytes", self.bytes)
        argv += ["--pattern", self.pattern, "--rounds", str(self.rounds)]
        if not self.huge:
            argv.append("--no-huge")
        return [*argv, "--compact"] if self.compact else argv
