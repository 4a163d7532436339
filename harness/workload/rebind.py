"""A disk's driver taken away and given back: DMA rings, which are contiguous memory (CMA).

Kernel: kernel/dma/contiguous.c, dma_alloc_contiguous(), for coherent memory of more than a page;
mm/cma.c and alloc_contig_range() in mm/page_alloc.c. The disk is the machine's ``dma_disk``.
"""

from __future__ import annotations

from typing import Literal

from harness.workload.mechanism import Count, Mechanism, Part, Placement, Size, own_program


class Rebind(Mechanism):
    workload: Literal["rebind"] = "rebind"
    times: Count
    bytes: Size | Part | None = None
    """Anonymous memory that is in the way."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("rebind", placement, "--times", str(self.times))
        return argv if self.bytes is None else [*argv, "--bytes", self.bytes]
