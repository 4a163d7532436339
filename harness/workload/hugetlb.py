"""Huge pages of one size gathered through the kernel's counter, mapped, and given back.

Kernel: mm/hugetlb.c; pages of orders that the buddy allocator has come from there, larger ones
from alloc_contig_pages(), which isolates pageblocks and migrates what is in them.
"""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Placement, own_program


class Hugetlb(Mechanism):
    workload: Literal["hugetlb"] = "hugetlb"
    pages: Count
    """As many as the kernel can get of these."""
    size_kb: Count | None = None
    """None: the kernel's default size."""
    steps: Count = 4
    rounds: Count = 1

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("hugetlb", placement, "--pages", str(self.pages))
        if self.size_kb is not None:
            argv += ["--size-kb", str(self.size_kb)]
        return [*argv, "--steps", str(self.steps), "--rounds", str(self.rounds)]
