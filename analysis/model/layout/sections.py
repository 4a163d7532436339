"""Sections of SPARSEMEM, and the memory blocks in which hotplug counts."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.model.layout.nodes import NodeSpan

_LARGE_MACHINE_BYTES = 64 << 30
_LARGEST_BLOCK_BYTES = 2 << 30


def section_bits(arch: str, page_bytes: int, *, arm64_small: bool, pae: bool = True) -> int | None:
    """log2 of the bytes of a section; None where the model does not know the architecture.

    Kernel: ``SECTION_SIZE_BITS`` of arch/{x86,arm64,riscv}/include/asm/sparsemem.h; 5.10, 6.1,
        6.12, 7.2 and 7.3 (arm64 changed in 5.12).
    Ignores: other architectures.
    """
    if arch == "x86_64" or arch == "riscv64":
        return 27
    if arch == "i386":
        return 29 if pae else 26
    if arch == "arm64":
        if not arm64_small:
            return 30
        return 29 if page_bytes == 65536 else 27
    return None


def present_sections(ranges: Iterable[NodeSpan], section_pages: int) -> dict[int, int]:
    """Sections with any memory in them: section number → node, in order.

    A section that two nodes share belongs to the node of its first memory.

    Kernel: mm/sparse.c, ``memory_present`` for every range of memory; 5.10 to 7.3.
    Ignores: memory beyond the physical address bits that the model of sections can name.
    """
    sections: dict[int, int] = {}
    for node, start, end in ranges:
        for number in range(start // section_pages, -(-end // section_pages)):
            sections.setdefault(number, node)
    return dict(sorted(sections.items()))


def x86_memory_block_bytes(section_bytes: int, end_of_memory: int, *, hypervisor: bool) -> int:
    """Bytes of a memory block of sysfs on x86_64.

    One section on machines below 64 GiB; above that 2 GiB on bare metal, and in a guest the
    largest power of two to 2 GiB that the end of memory is aligned to.

    Kernel: arch/x86/mm/init_64.c, ``probe_memory_block_size``; 5.10 to 7.3. From 6.15 the
        alignment of CXL windows may ask for less on bare metal too.
    Ignores: the choice of SGI UV systems, and of CXL windows.
    """
    if end_of_memory < _LARGE_MACHINE_BYTES:
        return section_bytes
    block = _LARGEST_BLOCK_BYTES
    if hypervisor:
        while block > section_bytes and end_of_memory % block:
            block //= 2
    return block


def memory_blocks(sections: Iterable[int], sections_per_block: int) -> tuple[int, ...]:
    """Numbers of the memory blocks that have a present section.

    Kernel: drivers/base/memory.c, ``memory_dev_init`` and ``add_boot_memory_block``; 5.10 to
        7.3, CONFIG_MEMORY_HOTPLUG.
    Ignores: memory added after boot.
    """
    return tuple(sorted({number // sections_per_block for number in sections}))
