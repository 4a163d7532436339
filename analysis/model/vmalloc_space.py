"""The addresses that vmalloc may give out, by architecture."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
STRUCT_PAGE_BYTES = 64
"""What a struct page takes in the memmap on 64 bits, and the size that arm64 plans for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where areas lie, as far as it is known without the running kernel's symbols."""

    total_bytes: int
    """VMALLOC_END - VMALLOC_START, which is one less than the bytes where END is the last."""
    lowest: int
    """No area lies below this address …"""
    highest: int
    """… nor at or above this one, modules included."""


def x86_64(*, levels: int, kmsan: bool = False) -> Space:
    """The vmalloc space of x86_64: 32 TiB, or 12,800 TiB with five levels of page tables.

    KASLR moves it (CONFIG_RANDOMIZE_MEMORY), but never out of the hole between the linear map's
    default place and the area of entry stacks; modules lie at the very end.

    Raises:
        ValueError: neither four nor five levels.

    Kernel: arch/x86/include/asm/pgtable_64_types.h, VMALLOC_SIZE_TB and VMALLOC_END, the last
        byte; 5.10, 6.1, 6.12, 7.2 and 7.3; a quarter of it with CONFIG_KMSAN.
    Ignores: nothing known of the size; where KASLR put it.
    """
    if levels not in (4, 5):
        raise ValueError(f"{levels} levels of page tables: expected 4 or 5")
    size = (32 if levels == 4 else 12800) * TIB
    return Space(
        total_bytes=(size // 4 if kmsan else size) - 1,
        lowest=0xFFFF_8880_0000_0000 if levels == 4 else 0xFF11_0000_0000_0000,
        highest=0xFFFF_FFFF_FF00_0000,
    )


def arm64(
    *,
    layout: str,
    va_bits: int,
    page_shift: int,
    table_levels: int,
    large_addresses: bool = False,
) -> Space:
    """The vmalloc space of arm64: from the modules to the memmap.

    The upper half of the addresses begins with the linear map, half of them; behind it come
    128 MiB for modules (2 GiB later), then vmalloc, and at the end the memmap, which has a struct
    page for every page that the linear map could map. A kernel built for 52 bits lays all this
    out for the processor with fewer (``48``, or 47 with 16 KiB pages later), and uses the lower
    part of the memmap only on one that has 52 (``large_addresses``).

    ``layout`` is one of ``VmallocEra.arm64_layouts``.

    Raises:
        ValueError: another layout.

    Kernel: arch/arm64/include/asm/memory.h and pgtable.h; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: CONFIG_KASAN, whose shadow lies before the modules.
    """
    if layout not in ("low-memmap", "modules-128m-bpf", "modules-128m", "modules-2g"):
        raise ValueError(f"{layout!r} is no layout of arm64")
    va_bits_min = va_bits
    if va_bits > 48:
        va_bits_min = 47 if layout == "modules-2g" and page_shift == 14 else 48
    linear_end = (1 << 64) - (1 << (va_bits_min - 1))
    linear_begin = (1 << 64) - (1 << va_bits)
    memmap_bytes = ((linear_end - linear_begin) >> page_shift) * STRUCT_PAGE_BYTES
    if layout == "low-memmap":
        start = linear_end + 2 * 128 * MIB
        end = (1 << 64) - _pud_size(page_shift, table_levels) - memmap_bytes - 65536
    elif layout.startswith("modules-128m"):
        start = linear_end + (2 if layout.endswith("bpf") else 1) * 128 * MIB
        end = (1 << 64) - ((1 << va_bits) >> page_shift) * STRUCT_PAGE_BYTES - 256 * MIB
    else:
        start = linear_end + 2 * GIB
        end = (1 << 64) - GIB - memmap_bytes - 8 * MIB
        if va_bits != va_bits_min and not large_addresses:
            unused = (1 << va_bits) - (1 << va_bits_min)
            end += (unused >> page_shift) * STRUCT_PAGE_BYTES
    return Space(total_bytes=end - start, lowest=linear_end, highest=end)


def _pud_size(page_shift: int, table_levels: int) -> int:
    """Bytes that an entry of the third table from the bottom maps; folded tables map as much as
    the one above."""
    bits = page_shift - 3
    level = min(2, table_levels - 1)
    return 1 << (page_shift + level * bits)


def riscv64(*, table_levels: int, release: Release) -> Space:
    """The vmalloc space of riscv64: a quarter of the kernel's half of the addresses.

    Raises:
        ValueError: not three to five levels (Sv39, Sv48, Sv57), or a release before 6.1.

    Kernel: arch/riscv/include/asm/pgtable.h, KERN_VIRT_SIZE and VMALLOC_SIZE; 6.1, 6.12, 7.2 and
        7.3, where VMALLOC_END is the first address behind it.
    Ignores: kernels that fix another address for the linear map.
    """
    if not 3 <= table_levels <= 5:
        raise ValueError(f"{table_levels} levels of page tables: expected 3 to 5")
    if release < Release(6, 1):
        raise ValueError(f"{release}: this release's pgtable.h of riscv was not compared")
    size = 1 << (12 + 9 * table_levels - 3)
    return Space(
        total_bytes=size,
        lowest=0,
        highest=1 << 64,
    )


def highmem(*, reserve_bytes: int, gap_bytes: int = 0) -> Space:
    """The vmalloc space of a 32-bit machine that has highmem: what was kept free for it.

    The linear map ends where the space begins. With more memory than the linear map may cover it
    ends where the reserve for vmalloc does: the end of the space, which structures that differ
    from build to build decide, no longer matters for its size. On i386 8 MiB of the reserve
    (``gap_bytes``) lie between the two; on arm the gap is beside it.

    Raises:
        ValueError: a reserve that the gap takes whole.

    Kernel: arch/x86/include/asm/pgtable_32_areas.h, MAXMEM and VMALLOC_START; arch/x86/mm/
        pgtable_32.c, ``parse_vmalloc`` (128 MiB, or the ``vmalloc=`` parameter and the gap);
        arch/arm/mm/mmu.c, ``adjust_lowmem_bounds`` (240 MiB, or the parameter); 5.10, 6.1, 6.12,
        7.2 and 7.3; CONFIG_HIGHMEM.
    Ignores: ``highmem=`` and ``reservetop=``, which move the end of the linear map.
    """
    if reserve_bytes <= gap_bytes:
        raise ValueError(f"a reserve of {reserve_bytes} B for vmalloc")
    return Space(total_bytes=reserve_bytes - gap_bytes, lowest=0, highest=1 << 32)
