"""SLOB (to 6.3): a heap of blocks in single pages, with no caches to show."""

from __future__ import annotations

from analysis.model.slab.slub_layout import align_up

BREAKS = (256, 1024)
"""Bytes: pages are kept on three lists, by the size of what was first taken from them."""


def unit_bytes(page_size: int) -> int:
    """Bytes of the unit in which blocks are counted: two where 15 bits of units cover a page.

    Kernel: mm/slob.c, ``slobidx_t``; 5.10, 6.1.
    Ignores: nothing known.
    """
    return 2 if page_size <= 32767 * 2 else 4


def block_bytes(size: int, *, page_size: int, minalign: int, kmalloc: bool) -> int:
    """Bytes that an object takes: whole units, and for kmalloc a header of ``minalign`` bytes that
    keeps the size; objects that do not fit a page get a block of pages without a header.

    Kernel: mm/slob.c, ``__do_kmalloc_node`` and ``slob_alloc_node``; 5.10, 6.1. ``minalign`` is
        ARCH_KMALLOC_MINALIGN.
    Ignores: bytes lost before an aligned block.
    """
    header = minalign if kmalloc else 0
    if size >= page_size - header:
        return page_size << (-(-size // page_size) - 1).bit_length()
    return align_up(size + header, unit_bytes(page_size))


def page_list(size: int) -> str:
    """The list whose pages serve a request of ``size`` bytes.

    Kernel: mm/slob.c, ``slob_alloc``; 5.10, 6.1.
    Ignores: nothing known.
    """
    if size < BREAKS[0]:
        return "small"
    return "medium" if size < BREAKS[1] else "large"
