"""How many pages may be dirty before the kernel writes back, and before it throttles writers."""

from __future__ import annotations

from dataclasses import dataclass

UINT_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DirtyLimits:
    """In pages."""

    dirty_pages: int
    background_pages: int


def dirtyable_pages(
    *, free_pages: int, file_pages: int, totalreserve: int, highmem_pages: int = 0
) -> int:
    """The memory that dirty page cache is a share of: free beyond the reserve, and on file LRUs.

    ``highmem_pages`` are the dirtyable pages of highmem zones, which are taken off unless
    vm.highmem_is_dirtyable is set. Never 0.

    Kernel: mm/page-writeback.c, ``global_dirtyable_memory``, the same from 4.19 to 7.3.
    Ignores: nothing known.
    """
    pages = free_pages - min(free_pages, totalreserve) + file_pages
    return pages - min(pages, highmem_pages) + 1


def dirty_limits(
    dirtyable: int,
    *,
    dirty_ratio: int,
    background_ratio: int,
    dirty_bytes: int = 0,
    background_bytes: int = 0,
    page_size_bytes: int,
) -> DirtyLimits:
    """The limits for a task of ordinary priority.

    A ratio is rounded down to whole bytes of a page first, so 20 % of 4096 is 819. A limit in bytes
    overrides its ratio. Where the background limit would not be below the other it is half of it.

    Kernel: mm/page-writeback.c, ``domain_dirty_limits`` of the global domain, 5.10 to 7.3; 6.1 and
        later cap both at 32 bits, which is reached above 16 TiB of dirty 4 KiB pages.
    Ignores: the lift that real-time tasks get; limits of memory cgroups.
    """
    dirty = (
        -(-dirty_bytes // page_size_bytes)
        if dirty_bytes
        else dirty_ratio * page_size_bytes // 100 * dirtyable // page_size_bytes
    )
    background = (
        -(-background_bytes // page_size_bytes)
        if background_bytes
        else background_ratio * page_size_bytes // 100 * dirtyable // page_size_bytes
    )
    dirty = min(dirty, UINT_MAX)
    if background >= dirty:
        background = dirty // 2
    return DirtyLimits(dirty_pages=dirty, background_pages=background)
