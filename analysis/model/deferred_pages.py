"""What a zone managed while most of its struct pages were not yet initialised."""

from __future__ import annotations


def managed_while_deferred(
    managed_pages: int, deferred_pages: int, section_pages: int
) -> tuple[int, ...]:
    """Pages that a node's highest zone may have managed before its deferred struct pages came.

    ``managed_pages`` are those right after, ``deferred_pages`` those that the kernel counts as
    initialised then. At first only the first section of the zone is initialised; when it is used
    up, further sections follow one by one, so that what was managed at a moment in between may be
    less by any number of them. Exact where there is room for no more than the first.

    Raises:
        ValueError: more pages were deferred than are managed, or a section without pages.

    Kernel: mm/page_alloc.c, ``update_defer_init``, ``deferred_init_memmap`` and
        ``deferred_grow_zone``; 4.19; CONFIG_DEFERRED_STRUCT_PAGE_INIT. 5.10 to 7.3 defer alike, but
        size per-cpu lists again afterwards.
    Ignores: a first section of which boot had everything reserved.
    """
    if section_pages < 1:
        raise ValueError(f"a section of {section_pages} pages")
    there = managed_pages - deferred_pages
    if there < 0:
        raise ValueError(f"{deferred_pages} pages deferred of {managed_pages}")
    return tuple(range(there, 0, -section_pages)) or (there,)
