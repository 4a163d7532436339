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
    hold_ms: int = Field(default=0, ge=0, le=600_000)
    """Keep it in shreds for so long: the kernel may put it together by itself."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("fragment", placement, "--bytes", self.bytes)
        argv += ["--pattern", self.pattern, "--rounds", str(self.rounds)]
        if not self.huge:
            argv.append("--no-huge")
        if self.compact:
            argv.append("--compact")
        return [*argv, "--hold-ms", str(self.hold_ms)] if self.hold_ms else argv
