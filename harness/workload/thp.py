"""Transparent huge pages: asked for with madvise, touched, torn by holes, released."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Part, Placement, Size, own_program


class Thp(Mechanism):
    workload: Literal["thp"] = "thp"
    bytes: Size | Part
    rounds: Count = 1
    holes: int = Field(default=4, ge=0, le=65_536)
    """Single pages given back of each huge page."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("thp", placement, "--bytes", self.bytes)
        return [*argv, "--rounds", str(self.rounds), "--holes", str(self.holes)]
