"""What shares the flags word of a struct page, and whether the last cpu and pid fit in."""

from __future__ import annotations

from collections.abc import Iterable

_LRU_GEN_BITS = 3
_PID_BITS = 8


def flag_count(options: Iterable[str], *, bits: int, base: int, arch_2_on_64_bits: bool) -> int:
    """Page flags of a kernel, from the options that are built in.

    ``base``: those that every kernel of the release has; ``arch_2_on_64_bits``: PG_arch_2 needs
    no option of its own there.

    Kernel: include/linux/page-flags.h, ``enum pageflags``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    on = set(options)
    wide = bits == 64
    count = base + ("MMU" in on) + ("MEMORY_FAILURE" in on)
    count += arch_2_on_64_bits and "ARCH_USES_PG_UNCACHED" in on
    count += 2 if wide and on & {"PAGE_IDLE_FLAG", "IDLE_PAGE_TRACKING"} else 0
    if arch_2_on_64_bits:
        return count + wide + ("KASAN_HW_TAGS" in on)
    return count + ("ARCH_USES_PG_ARCH_2" in on) + ("ARCH_USES_PG_ARCH_3" in on)


def cpupid_outside_flags(
    options: Iterable[str],
    *,
    bits: int,
    zones: int,
    nodes_shift: int,
    sections_width: int,
    cpus: int,
    flags: int,
    kasan_hw_tag_bits: int,
) -> bool:
    """Whether a struct page has a field of its own for the cpu and pid that used it last.

    Zone, node, section (only SPARSEMEM without VMEMMAP), generation and KASAN's tag come first;
    the cpu (log2 of ``cpus``, CONFIG_NR_CPUS) and 8 bits of the pid must fit beside them.

    Kernel: include/linux/page-flags-layout.h and kernel/bounds.c; 5.10, 6.1, 6.12, 7.2 and 7.3,
        CONFIG_NUMA_BALANCING.
    Ignores: nothing known.
    """
    on = set(options)
    if "NUMA_BALANCING" not in on:
        return False
    used = (zones - 1).bit_length() + nodes_shift + sections_width
    used += _LRU_GEN_BITS if "LRU_GEN" in on else 0
    if "KASAN_SW_TAGS" in on:
        used += 8
    elif "KASAN_HW_TAGS" in on:
        used += kasan_hw_tag_bits
    used += _PID_BITS + (cpus - 1).bit_length()
    return used > bits - flags
