"""How many pageblocks /proc/pagetypeinfo counts in a zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.pfn import Span, align_down, align_up, clip
from analysis.model.layout.zones import ZoneLayout


class HoleUnknownError(ValueError):
    """The count depends on page frames in holes, of which this kernel's rule is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Which page frames without memory have a page that looks online."""

    unit_pages: int | None
    """Frames of a unit this large with any memory in it have; 1: only memory; None: every frame
    below ``end_pfn`` (FLATMEM)."""
    end_pfn: int
    holes_follow_memory: bool
    """They belong to the zone of the memory behind them."""


def counted_pageblocks(
    zone: ZoneLayout,
    zones: Sequence[ZoneLayout],
    ranges: Sequence[NodeSpan],
    block_pages: int,
    validity: Validity,
) -> int:
    """Pageblocks that pagetypeinfo counts in a zone, all migrate types together.

    The kernel looks at every ``block_pages``-th frame from the zone's first page, which need not
    be aligned, and counts those whose page is online and says that it belongs to the zone. So a
    hole between them is not counted, and one that another zone's memory follows is not either.

    Raises:
        HoleUnknownError: a frame looked at lies in a hole of a kernel whose rule is not known.

    Kernel: mm/vmstat.c, ``pagetypeinfo_showblockcount_print``; mm/memory_hotplug.c,
        ``pfn_to_online_page``; mm/mm_init.c (page_alloc.c to 6.3), ``memmap_init`` and
        ``init_unavailable_range``, which says whose the frames of a hole are; 5.10 to 7.3.
    Ignores: sections taken offline or added after boot.
    """
    span = zone.span
    if not span.size:
        return 0
    count = 0
    behind = 0
    for piece in ranges:
        if piece.start >= span.end:
            count += _hole_blocks(Span(behind, piece.start), None, zone, block_pages, validity)
            break
        for other in (z for z in zones if z.node == piece.node and z.spanned_pages):
            part = clip(piece.span, other.span.start, other.span.end)
            if part.size <= 0:
                continue
            hole = Span(behind, part.start)
            count += _hole_blocks(hole, other, zone, block_pages, validity)
            if (other.node, other.zone) == (zone.node, zone.zone):
                count += _steps(clip(part, span.start, span.end), span.start, block_pages)
            behind = part.end
    return count


def _hole_blocks(
    hole: Span,
    owner: ZoneLayout | None,
    zone: ZoneLayout,
    block_pages: int,
    validity: Validity,
) -> int:
    inside = clip(hole, zone.span.start, zone.span.end)
    if inside.size <= 0:
        return 0
    parts = _valid_parts(hole, inside, validity)
    found = sum(_steps(part, zone.span.start, block_pages) for part in parts)
    if found and not validity.holes_follow_memory:
        raise HoleUnknownError(f"{found} frames looked at lie in a hole at pfn {inside.start}")
    same = owner is not None and (owner.node, owner.zone) == (zone.node, zone.zone)
    return found if same else 0


def _valid_parts(hole: Span, inside: Span, validity: Validity) -> tuple[Span, ...]:
    """The parts of a hole whose unit has memory: those at its two ends."""
    unit = validity.unit_pages
    if unit is None:
        return (clip(inside, 0, validity.end_pfn),)
    left_end = align_up(hole.start, unit) if hole.start else 0
    right_start = align_down(hole.end, unit)
    if left_end >= right_start:
        left = Span(hole.start, min(left_end, hole.end))
        right = Span(max(right_start, left.end), hole.end)
    else:
        left, right = Span(hole.start, left_end), Span(right_start, hole.end)
    clipped = (clip(part, inside.start, inside.end) for part in (left, right))
    return tuple(part for part in clipped if part.size > 0)


def _steps(span: Span, first: int, step: int) -> int:
    """Numbers ``first + k * step`` (k from 0) in a span."""
    if span.end <= span.start:
        return 0
    low = max(0, -(-(span.start - first) // step))
    high = max(0, -(-(span.end - first) // step))
    return max(0, high - low)
