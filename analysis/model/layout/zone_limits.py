"""How high each zone of an architecture may reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.model.layout.pfn import Span

MOVABLE = "Movable"
DEVICE = "Device"

_FOUR_GIB = 1 << 32
_ISA_DMA_BYTES = 16 << 20
_OPTIONS = (
    ("DMA", "ZONE_DMA"),
    ("DMA32", "ZONE_DMA32"),
    ("Normal", None),
    ("HighMem", "HIGHMEM"),
    (MOVABLE, None),
    (DEVICE, "ZONE_DEVICE"),
)


def zone_names(options: Iterable[str]) -> tuple[str, ...]:
    """The zones that every node has, lowest first, from the options that are built in.

    Kernel: include/linux/mmzone.h, ``enum zone_type``; mm/page_alloc.c, ``zone_names``; 5.10 to
        7.3. Every node has them all; those without pages are printed with zeros.
    Ignores: nothing known.
    """
    on = set(options)
    return tuple(name for name, option in _OPTIONS if option is None or option in on)


def x86_zone_ends(max_low_pfn: int, max_pfn: int) -> dict[str, int]:
    """One behind the highest page of each zone on x86, in pages of 4 KiB.

    ``max_low_pfn`` is ``max_pfn`` on 64 bits, and the end of the directly mapped memory on 32.

    Kernel: arch/x86/mm/init.c, ``zone_sizes_init`` (``arch_zone_limits_init`` from 7.0); 5.10
        to 7.3.
    Ignores: nothing known.
    """
    return {
        "DMA": min(_ISA_DMA_BYTES // 4096, max_low_pfn),
        "DMA32": min(_FOUR_GIB // 4096, max_low_pfn),
        "Normal": max_low_pfn,
        "HighMem": max_pfn,
    }


def m68k_zone_ends(memory_end: int) -> dict[str, int]:
    """One behind the highest page of each zone on m68k: all memory is ZONE_DMA.

    ``memory_end`` in bytes is taken for pages, so that the zone may reach 4096 times as far; nodes
    end where their memory does.

    Kernel: arch/m68k/mm/motorola.c, ``paging_init``; 5.10.
    Ignores: nothing known.
    """
    return {"DMA": memory_end}


def arm64_zone_ends(memory: Sequence[Span], dma_limit: int, page_bytes: int) -> dict[str, int]:
    """One behind the highest page of each zone on arm64; ``memory`` in bytes.

    ``dma_limit``: one behind the last address that every bus master reaches, as the device tree
    or IORT says; 4 GiB and more make no difference where memory begins below 4 GiB.

    Kernel: arch/arm64/mm/init.c, ``zone_sizes_init`` and ``max_zone_phys`` in 5.10 and 6.1,
        which count in address bits; the limit as an address in 6.12 and (``dma_limits_init``)
        7.2 and 7.3. Both agree for limits that are powers of two.
    Ignores: limits below the first byte of memory, which older kernels raise to 4 GiB.
    """
    first, last = memory[0].start, memory[-1].end
    if first >= _FOUR_GIB:
        return {
            "DMA": last // page_bytes,
            "DMA32": last // page_bytes,
            "Normal": last // page_bytes,
        }
    dma = min(dma_limit, _FOUR_GIB) if dma_limit > first else _FOUR_GIB
    return {
        "DMA": min(dma, last) // page_bytes,
        "DMA32": min(_FOUR_GIB, last) // page_bytes,
        "Normal": last // page_bytes,
    }


def riscv_zone_ends(memory: Sequence[Span], page_bytes: int) -> dict[str, int]:
    """One behind the highest page of each zone on 64-bit RISC-V; ``memory`` in bytes.

    Kernel: arch/riscv/mm/init.c, ``zone_sizes_init`` (``arch_zone_limits_init`` from 7.0) and
        the DMA32 limit in ``setup_bootmem``; 6.1 and 7.3 compared.
    Ignores: ``mem=``, which the memory given must reflect already.
    """
    last = memory[-1].end
    return {"DMA32": min(_FOUR_GIB, last) // page_bytes, "Normal": last // page_bytes}


def zone_ranges(names: Sequence[str], ends: Mapping[str, int], first_pfn: int) -> dict[str, Span]:
    """Lowest and highest possible page of each zone but Movable, for all nodes alike.

    A zone begins where the one below ends; one that ends at or below that is empty. A zone that
    the architecture sets no end for, Device, is empty.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``free_area_init``; 5.10 to 7.3.
    Ignores: architectures whose zones descend (ARC).
    """
    ranges: dict[str, Span] = {}
    start = first_pfn
    for name in names:
        if name == MOVABLE:
            continue
        end = max(ends.get(name, 0), start)
        ranges[name] = Span(start, end)
        start = end
    return ranges
