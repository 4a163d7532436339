"""AF_PACKET receive rings: exactly N unmovable blocks of order k, held until dropped.

Kernel: net/packet/af_packet.c, alloc_pg_vec(); one compound allocation a block, and nothing
else of that order, which makes it an exact stimulus for the page allocator.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.workload.mechanism import Mechanism, Placement, own_program

_STEP = re.compile(r"take:[1-9]\d*:\d+|drop:[1-9]\d*|idle")


def _check_step(text: str) -> str:
    if not _STEP.fullmatch(text):
        raise ValueError("a step is take:BLOCKS:ORDER, drop:STEP or idle")
    return text


class Pktring(Mechanism):
    workload: Literal["pktring"] = "pktring"
    steps: list[Annotated[str, AfterValidator(_check_step)]] = Field(min_length=1, max_length=64)
    settle_ms: int = Field(default=20, ge=0, le=60_000)
    quiet_ms: int = Field(default=500, ge=0, le=6_000)
    """Begin only when the free lists have not changed for so long (at most 6 s later)."""
    warmup: bool = True
    """Go through all steps once unmarked, so that slabs and per-cpu lists are warm."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("pktring", placement, "--settle-ms", str(self.settle_ms))
        argv += ["--quiet-ms", str(self.quiet_ms)]
        if self.warmup:
            argv.append("--warmup")
        for step in self.steps:
            argv += ["--step", step]
        return argv
