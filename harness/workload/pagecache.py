"""A block device read, and optionally written, through the page cache in a seeded order."""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Placement, Size, own_program


class Pagecache(Mechanism):
    workload: Literal["pagecache"] = "pagecache"
    bytes: Size
    ops: Count
    write: bool = False

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("pagecache", placement, "--bytes", self.bytes, "--ops", str(self.ops))
        return [*argv, "--write"] if self.write else argv
