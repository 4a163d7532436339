"""Page frame numbers and physical addresses, and ranges of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """From ``start`` up to, but not including, ``end``; bytes or pages, as its owner says."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def pfn_of(address: int, page_bytes: int) -> int:
    """The page frame that holds a physical address.

    Kernel: include/linux/pfn.h, ``PHYS_PFN`` and ``PFN_DOWN``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return address // page_bytes


def address_of(pfn: int, page_bytes: int) -> int:
    """The physical address of a page frame's first byte.

    Kernel: include/linux/pfn.h, ``PFN_PHYS``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return pfn * page_bytes


def whole_pages(span: Span, page_bytes: int) -> Span:
    """The pages that lie wholly in a span of bytes: first pfn, one behind the last; may be empty.

    Kernel: include/linux/pfn.h, ``PFN_UP`` and ``PFN_DOWN``; mm/memblock.c,
        ``__next_mem_pfn_range``, which passes over ranges without a whole page; 5.10 to 7.3.
    Ignores: nothing known.
    """
    start = -(-span.start // page_bytes)
    return Span(start, max(start, span.end // page_bytes))


def clip(span: Span, low: int, high: int) -> Span:
    """The part of a span between two limits; empty (start equals end) where there is none.

    Kernel: mm/mm_init.c, the ``clamp`` of both ends against the same limits; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return Span(min(max(span.start, low), high), min(max(span.end, low), high))


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, overlapping and adjacent ones joined, empty ones left out.

    Kernel: mm/memblock.c, ``memblock_add_range`` and ``memblock_merge_regions``; 5.10 to 7.3.
    Ignores: flags and nodes, which keep adjacent regions apart.
    """
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.end):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(joined)


def align_down(value: int, unit: int) -> int:
    """The largest multiple of ``unit`` that is not above ``value``.

    Kernel: include/linux/align.h, ``ALIGN_DOWN``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return value - value % unit


def align_up(value: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is not below ``value``.

    Kernel: include/linux/align.h, ``ALIGN``, and ``roundup``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return -(-value // unit) * unit
