"""Pages that a range of page frames spans and memory does not have."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, clip


def absent_pages(ranges: Iterable[NodeSpan], span: Span, node: int | None = None) -> int:
    """Page frames of a span without memory, of one node or of all.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``__absent_pages_in_range``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    present = sum(
        clip(piece.span, span.start, span.end).size
        for piece in ranges
        if node is None or piece.node == node
    )
    return span.size - present
