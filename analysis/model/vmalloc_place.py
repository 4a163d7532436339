"""Where vmalloc puts a new area: the lowest gap that holds it."""

from __future__ import annotations

from collections.abc import Iterable


def lowest_gap(
    taken: Iterable[tuple[int, int]], size_bytes: int, *, start: int, end: int
) -> int | None:
    """The address of an area of ``size_bytes``, guard page included; None where none fits.

    ``taken``: begin and end of every area that is in use or waits to be unmapped. Free space is
    all that is left of ``start`` to ``end``; of the gaps that are large enough the lowest is taken,
    and the area begins where the gap does.

    Kernel: mm/vmalloc.c, ``find_vmap_lowest_match`` and ``va_clip`` (before,
        ``adjust_va_to_fit_type``); 5.10, 6.1, 6.12, 7.2 and 7.3, where since 6.9 a kernel with
        several possible CPUs first looks for an area of that size that was freed lately.
    Ignores: alignments above a page (kernel stacks, ioremap, huge mappings).
    """
    at = start
    for begin, finish in sorted(taken):
        if begin >= end:
            break
        if begin - at >= size_bytes:
            return at
        at = max(at, finish)
    return at if end - at >= size_bytes else None
