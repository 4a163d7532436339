"""Anonymous memory touched and then given back in a pattern, so that free memory is in shreds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Placement, Size, own_program


class Fragment(Mechanism):
    workload: Literal["fragment"] = "fragment"
    bytes: Size
    pattern: str = Field(pattern=r"^(stride|random|runs):\d+$")
    rounds: Count = 1

    def argv(self, placement: Placement) -> list[str]:
        return own_program(
            "fragment",
            placement,
            "--bytes",
            self.bytes,
            "--pattern",
            self.pattern,
            "--rounds",
            str(self.rounds),
        )
