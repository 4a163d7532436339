"""memblock: the allocator of the first moments of a boot, two lists of regions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from analysis.model.layout.pfn import Span


@dataclass(frozen=True, slots=True)
class Region:
    """A range of physical addresses; bytes."""

    base: int
    end: int
    """First address after it."""
    node: int | None = None
    flags: int = 0

    @property
    def size(self) -> int:
        return self.end - self.base


@dataclass(frozen=True, slots=True)
class RegionList:
    """``memblock.memory`` or ``memblock.reserved``: regions in order of address, none overlap."""

    regions: tuple[Region, ...] = ()
    total_bytes: int = 0
    """What the kernel counts beside the regions. Trimming to pages does not change it."""


def region_list(regions: Iterable[Region]) -> RegionList:
    """A list of regions that are in order, and their sum.

    Raises:
        ValueError: a region is empty, or overlaps the one before.

    Kernel: mm/memblock.c, ``struct memblock_type``; 5.10 to 7.3.
    Ignores: how many regions the array has room for.
    """
    found = tuple(regions)
    for before, region in zip((None, *found), found, strict=False):
        if region.size <= 0 or (before is not None and region.base < before.end):
            raise ValueError(f"{region} is empty or not behind {before}")
    return RegionList(found, sum(region.size for region in found))


def add(memory: RegionList, new: Region) -> RegionList:
    """The list with a range added; what is there already stays as it is, with its node and flags.

    Kernel: mm/memblock.c, ``memblock_add_range``, behind ``memblock_add``, ``memblock_reserve``
        and every allocation; 5.10 to 7.3.
    Ignores: the array that grows (the kernel prints the ranges it takes for it).
    """
    parts = [
        replace(new, base=gap.start, end=gap.end)
        for gap in gaps(memory.regions, Span(new.base, new.end))
    ]
    return RegionList(
        merged(sorted((*memory.regions, *parts), key=lambda region: region.base)),
        memory.total_bytes + sum(part.size for part in parts),
    )


def remove(memory: RegionList, span: Span) -> RegionList:
    """The list without a range; regions that reach over its ends are cut.

    Kernel: mm/memblock.c, ``memblock_remove_range``, behind ``memblock_remove`` and
        ``memblock_phys_free`` (``memblock_free`` to 5.15); 5.10 to 7.3.
    Ignores: nothing known.
    """
    kept: list[Region] = []
    for region in memory.regions:
        if region.end <= span.start or span.end <= region.base:
            kept.append(region)
            continue
        if region.base < span.start:
            kept.append(replace(region, end=span.start))
        if span.end < region.end:
            kept.append(replace(region, base=span.end))
    removed = sum(region.size for region in memory.regions) - sum(region.size for region in kept)
    return RegionList(tuple(kept), memory.total_bytes - removed)


def set_node(memory: RegionList, span: Span, node: int | None) -> RegionList:
    """The list with a node given to all regions in a range; those that reach out of it are cut.

    Kernel: mm/memblock.c, ``memblock_set_node``; 5.10 to 7.3; CONFIG_NUMA.
    Ignores: nothing known.
    """
    cut = _isolated(memory.regions, span)
    return replace(
        memory,
        regions=merged(replace(r, node=node) if _within(r, span) else r for r in cut),
    )


def set_flags(memory: RegionList, span: Span, *, flags: int, on: bool) -> RegionList:
    """The list with flags set or cleared for all regions in a range; others are cut there.

    Kernel: mm/memblock.c, ``memblock_setclr_flag``; 5.10 to 7.3 (of ``memblock.memory`` alone
        before 6.9, where reserved regions got flags).
    Ignores: nothing known.
    """
    cut = _isolated(memory.regions, span)
    return replace(
        memory,
        regions=merged(
            replace(r, flags=r.flags | flags if on else r.flags & ~flags) if _within(r, span) else r
            for r in cut
        ),
    )


def trim(memory: RegionList, align_bytes: int) -> RegionList:
    """The list with every region's ends moved inwards to whole pages; empty ones go.

    The sum stays as it was, unless a region goes: so ``memory size`` in the log can be more than
    the regions below it.

    Kernel: mm/memblock.c, ``memblock_trim_memory``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    kept: list[Region] = []
    total_bytes = memory.total_bytes
    for region in memory.regions:
        base = -(-region.base // align_bytes) * align_bytes
        end = region.end // align_bytes * align_bytes
        if base < end:
            kept.append(replace(region, base=base, end=end))
        else:
            total_bytes -= region.size
    return RegionList(tuple(kept), total_bytes)


def merged(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Regions in order, those that touch and have the same node and flags made one.

    Kernel: mm/memblock.c, ``memblock_merge_regions``; 5.10 to 7.3 (later only around a change,
        which gives the same).
    Ignores: nothing known.
    """
    result: list[Region] = []
    for region in regions:
        last = result[-1] if result else None
        same = last is not None and (last.node, last.flags) == (region.node, region.flags)
        if last is not None and same and last.end == region.base:
            result[-1] = replace(last, end=region.end)
        else:
            result.append(region)
    return tuple(result)


def covered(regions: Iterable[Region]) -> tuple[Span, ...]:
    """The addresses of regions in order, whatever their nodes and flags: spans that do not touch.

    Kernel: none; two lists that cover the same hand over the same pages.
    Ignores: nodes and flags.
    """
    return tuple(
        Span(region.base, region.end)
        for region in merged(replace(region, node=None, flags=0) for region in regions)
    )


def gaps(regions: Iterable[Region], within: Span) -> Iterator[Span]:
    """What of a span no region covers, in order.

    Kernel: mm/memblock.c, ``__next_mem_range``, which walks memory without what is reserved;
        5.10 to 7.3.
    Ignores: nothing known.
    """
    start = within.start
    for region in regions:
        if region.end <= start or within.end <= region.base:
            continue
        if start < region.base:
            yield Span(start, region.base)
        start = region.end
    if start < within.end:
        yield Span(start, within.end)


def _within(region: Region, span: Span) -> bool:
    return span.start <= region.base and region.end <= span.end


def _isolated(regions: Iterable[Region], span: Span) -> Iterator[Region]:
    """Regions cut at both ends of a span (``memblock_isolate_range``)."""
    for region in regions:
        ends = [region.base, region.end]
        ends[1:1] = [edge for edge in span if region.base < edge < region.end]
        for base, end in pairwise(ends):
            if base < end:
                yield replace(region, base=base, end=end)
