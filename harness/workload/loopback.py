"""TCP over the loopback: socket buffers in pieces of seeded sizes."""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Placement, Size, own_program


class Loopback(Mechanism):
    workload: Literal["loopback"] = "loopback"
    connections: Count
    bytes: Size
    """Of each connection."""
    piece: Size = "64K"
    """Largest piece written at once, at most 256K."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("loopback", placement, "--connections", str(self.connections))
        return [*argv, "--bytes", self.bytes, "--piece", self.piece]
