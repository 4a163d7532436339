"""Kernel objects made and freed in a seeded order: dentries, inodes, pipes, sockets."""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Placement, own_program


class Slabchurn(Mechanism):
    workload: Literal["slabchurn"] = "slabchurn"
    objects: Count
    rounds: Count = 1

    def argv(self, placement: Placement) -> list[str]:
        return own_program(
            "slabchurn",
            placement,
            "--objects",
            str(self.objects),
            "--rounds",
            str(self.rounds),
        )
