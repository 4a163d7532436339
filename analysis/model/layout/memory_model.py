"""The memory model, the bytes of a struct page, and what all of them cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.model.layout.nodes import NodeSpan, node_extents
from analysis.model.layout.pfn import align_down, align_up

FLATMEM = "FLATMEM"
SPARSEMEM = "SPARSEMEM"
VMEMMAP = "SPARSEMEM_VMEMMAP"
DISCONTIGMEM = "DISCONTIGMEM"


def memory_model(options: Iterable[str]) -> str:
    """How a pfn leads to its struct page, from the options that are built in.

    FLATMEM: one array for all; DISCONTIGMEM: one per node (to 5.13); SPARSEMEM: one per
    section; SPARSEMEM_VMEMMAP: the sections' arrays stand side by side in virtual memory.

    Raises:
        ValueError: none of them is built in.

    Kernel: mm/Kconfig, ``Memory model``; include/asm-generic/memory_model.h; 5.10 to 7.3.
    Ignores: nothing known.
    """
    on = set(options)
    for model in (VMEMMAP, SPARSEMEM, DISCONTIGMEM, FLATMEM):
        if model in on:
            return model
    raise ValueError("the configuration names no memory model")


def struct_page_bytes(
    *, bits: int, memcg: bool, double_aligned: bool, virtual: bool = False, cpupid: bool = False
) -> int:
    """Bytes of a struct page.

    Flags, five words that share their meaning among users, two counters of 4 bytes; the memory
    cgroup's word; where configured the virtual address and the last cpu and pid; rounded up to
    a word, or to two where cmpxchg of two words needs it (``double_aligned``).

    Kernel: include/linux/mm_types.h, ``struct page``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: KMSAN's shadow pointers; a 64-bit DMA address on 32 bits.
    """
    word = bits // 8
    size = word + 5 * word + 4 + 4 + (word if memcg else 0)
    size += (word if virtual else 0) + (4 if cpupid else 0)
    return align_up(size, 2 * word if double_aligned else word)


def sparse_memmap_pages(
    sections: int, section_pages: int, struct_bytes: int, page_bytes: int
) -> int:
    """Pages of memmap for the present sections: each has a struct page for all of its frames.

    Kernel: mm/sparse.c, ``sparse_init_nid`` and its ``memmap_boot_pages_add``; 6.12, 7.2 and
        7.3 count them, 5.10 and 6.1 allocate the same.
    Ignores: what huge pages give back, and page_ext.
    """
    return sections * -(-section_pages * struct_bytes // page_bytes)


def flat_memmap_pages(
    ranges: Sequence[NodeSpan], max_order_pages: int, struct_bytes: int, page_bytes: int
) -> int:
    """Pages of memmap under FLATMEM: holes too, from and to whole largest buddy blocks.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``alloc_node_mem_map``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    total = 0
    for extent in node_extents(ranges).values():
        start = align_down(extent.start, max_order_pages)
        end = align_up(extent.end, max_order_pages)
        total += -(-(end - start) * struct_bytes // page_bytes)
    return total


def zone_memmap_pages(
    spanned_pages: int, present_pages: int, struct_bytes: int, page_bytes: int, *, sparse: bool
) -> int:
    """Pages that the kernel reckons a zone's memmap with when it prints ``pages used for memmap``.

    A guess of the kernel's: the span, or under SPARSEMEM the present pages where holes are more
    than a sixteenth of them.

    Kernel: mm/page_alloc.c, ``calc_memmap_size``; 5.10 and 6.1 (6.1 prints only when told to);
        gone in 6.12.
    Ignores: nothing known.
    """
    pages = spanned_pages
    if sparse and spanned_pages > present_pages + (present_pages >> 4):
        pages = present_pages
    return -(-pages * struct_bytes // page_bytes)


def huge_page_memmap_kib(
    huge_page_bytes: int,
    page_bytes: int,
    struct_bytes: int,
    *,
    optimized: bool,
    reserve_pages: int = 1,
) -> int:
    """KiB of memmap that a huge page can give back.

    Kernel: mm/hugetlb_vmemmap.h, ``hugetlb_vmemmap_optimizable_size``; 6.1, 6.12 and 7.3,
        CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP (``optimized``), else 0.
    Ignores: nothing known.
    """
    if not optimized or struct_bytes & (struct_bytes - 1):
        return 0
    memmap = huge_page_bytes // page_bytes * struct_bytes
    return max(0, memmap - reserve_pages * page_bytes) // 1024
