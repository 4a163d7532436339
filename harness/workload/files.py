"""Files on tmpfs written, cut short, written again and unlinked in a seeded order."""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Part, Placement, Size, own_program


class Files(Mechanism):
    workload: Literal["files"] = "files"
    files: Count
    bytes: Size | Part
    """Of all files together, about."""
    rounds: Count = 1

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("files", placement, "--files", str(self.files))
        return [*argv, "--bytes", self.bytes, "--rounds", str(self.rounds)]
