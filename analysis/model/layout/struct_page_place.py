"""From a struct page to its page frame, under each memory model."""

from __future__ import annotations

_X86_64_VMEMMAP = 0xFFFF_EA00_0000_0000
_ARM64_MEMSTART_BYTES = 1 << 30
_ARM64_LEAST_BITS = 48
"""Of addresses, on a CPU that has no 52 bits of them. Kernel: VA_BITS_MIN."""
_ARM64_ABOVE_BYTES = 1 << 30
_SECTION_FLAGS = 0xFFF
_CODE_BITS = 64


def array_pfn(address: int, mem_map: int, first_pfn: int, struct_bytes: int) -> int | None:
    """The frame of a struct page in an array that begins with the one of ``first_pfn``.

    None where no struct page of the array begins at the address. FLATMEM has one array, whose
    first is that of the first frame there may be; DISCONTIGMEM one for each node.

    Kernel: include/asm-generic/memory_model.h, ``__page_to_pfn`` of FLATMEM (5.10 to 7.3) and
        DISCONTIGMEM (to 5.13); arch/m68k/include/asm/page_mm.h, ``page_to_pfn``.
    Ignores: nothing known.
    """
    index, rest = divmod(address - mem_map, struct_bytes)
    return None if rest else first_pfn + index


def section_of(flags: int, *, section_bits: int, physical_bits: int) -> int:
    """The section number in a struct page's flags.

    Kernel: include/linux/page-flags-layout.h and mm.h, ``page_to_section``: the topmost bits, as
        many as sections can be counted with; SPARSEMEM without VMEMMAP, 64-bit, 5.10 to 7.3.
    Ignores: nothing known.
    """
    return flags >> (_CODE_BITS - (physical_bits - section_bits))


def coded_map(section_mem_map: int) -> int:
    """The address in a section's ``section_mem_map`` word, its flags taken off: where the struct
    page of frame 0 would be if the section's array reached down to it.

    Kernel: mm/sparse.c, ``sparse_encode_mem_map``, and include/linux/mmzone.h,
        ``__section_mem_map_addr``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return section_mem_map & ~_SECTION_FLAGS


def x86_64_vmemmap() -> int:
    """Where the struct page of frame 0 is on x86_64 with four levels of page tables, not moved by
    KASLR.

    Kernel: arch/x86/include/asm/pgtable_64_types.h, ``__VMEMMAP_BASE_L4``; 5.10 to 7.3.
    Ignores: five levels, CONFIG_RANDOMIZE_MEMORY at work.
    """
    return _X86_64_VMEMMAP


def arm64_vmemmap(*, va_bits: int, page_shift: int, struct_shift: int, memory_start: int) -> int:
    """Where the struct page of frame 0 would be on arm64, not moved by KASLR.

    The memmap has a struct page for each page that the linear map could map, the first for where
    the linear map begins: the start of memory, rounded down to what a table of the second level
    maps.

    Kernel: arch/arm64/include/asm/memory.h, ``VMEMMAP_START``, and arch/arm64/mm/init.c,
        ``arm64_memblock_init`` (ARM64_MEMSTART_ALIGN); 5.12 to 6.6 with 4 KiB pages.
    Ignores: 52-bit addresses; other page sizes round the start differently.
    """
    start = (1 << _CODE_BITS) - (1 << (va_bits - (page_shift - struct_shift)))
    first = memory_start & -_ARM64_MEMSTART_BYTES
    return start - ((first >> page_shift) << struct_shift)


def arm64_high_vmemmap(
    *, va_bits: int, cpu_va_bits: int, page_shift: int, struct_bytes: int, memory_start: int
) -> int:
    """The same for later releases, whose memmap ends 1 GiB below the end of all addresses.

    It has room for the linear map of a kernel with all ``va_bits``, less the upper half of what 48
    bits give. A CPU with fewer bits, ``cpu_va_bits``, uses the upper end of that linear map, which
    therefore counts as if it began so much further down.

    Kernel: arch/arm64/include/asm/memory.h, ``VMEMMAP_START``; arch/arm64/include/asm/pgtable.h,
        ``vmemmap``; arch/arm64/mm/init.c, ``arm64_memblock_init``; 6.12, 7.2 and 7.3 with 4 KiB
        pages.
    Ignores: other page sizes; memory that the linear map does not reach.
    """
    linear = (1 << va_bits) - (1 << (min(va_bits, _ARM64_LEAST_BITS) - 1))
    start = (1 << _CODE_BITS) - _ARM64_ABOVE_BYTES - (linear >> page_shift) * struct_bytes
    first = (memory_start & -_ARM64_MEMSTART_BYTES) - ((1 << va_bits) - (1 << cpu_va_bits))
    return start - (first >> page_shift) * struct_bytes
