"""Requests of one migratetype that find only blocks of another: fallback and stealing.

Kernel: mm/page_alloc.c, __rmqueue_fallback() (6.1, 6.12), __rmqueue_claim() and
__rmqueue_steal() (from 6.15).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Part, Placement, Size, own_program


class Fallback(Mechanism):
    workload: Literal["fallback"] = "fallback"
    bytes: Size | Part
    """Anonymous memory that is given back in short runs."""
    rings: Size | Part
    """Unmovable blocks of packet rings, shared by the orders."""
    files: int = Field(default=0, ge=0, le=10_000_000)
    """Empty files: reclaimable slabs."""
    order_max: int = Field(default=4, ge=0, le=10)
    fill: Size | Part = "75%"
    """Anonymous memory while rings and files are held."""
    rounds: Count = 1

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("fallback", placement, "--bytes", self.bytes, "--rings", self.rings)
        argv += ["--files", str(self.files), "--order-max", str(self.order_max)]
        return [*argv, "--fill", self.fill, "--rounds", str(self.rounds)]
