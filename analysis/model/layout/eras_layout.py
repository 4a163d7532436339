"""What changed between releases in how memory is laid out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutEra:
    """The layout rules of a release.

    Kernel: mm/, include/linux and arch/{x86,arm64} of Debian's linux-source 5.10.262, 6.1.192,
        6.12.117, 7.2.13 and 7.3~rc7, compared line by line.
    Ignores: at which stable update a change was taken back.
    """

    max_order_inclusive: bool
    """ARCH_FORCE_MAX_ORDER is the largest order, not the number of orders (6.4)."""
    pageblock_below_max_order: bool
    """A pageblock is never larger than the largest block of the buddy (5.18)."""
    pageblock_follows_thp: bool
    """Without hugetlb, THP decides the pageblock order (6.12 has it, 6.1 has not)."""
    pageblock_has_own_limit: bool
    """CONFIG_PAGE_BLOCK_MAX_ORDER bounds the pageblock order (6.16)."""
    arm64_small_sections: bool
    """arm64 sections are 128 MiB (512 MiB with 64K pages), before 1 GiB (5.12)."""
    arm64_pfn_valid_by_memory: bool
    """arm64 asks memblock whether a pfn is valid, not its section (to 5.13)."""
    online_by_subsection: bool
    """A page frame is online only if its 2 MiB subsection has memory, before if its section has
    (5.12)."""
    holes_follow_memory: bool
    """Page frames in holes belong to the zone of the memory behind them (5.12, and 5.10
    stable)."""
    numa_blocks_begin_with_memory: bool
    """Blocks of the NUMA description are cut to the first and last byte of memory, before to 0
    and max_pfn: it shows in fake nodes (6.12)."""
    flat_holes_set_up: bool
    """Under FLATMEM the struct pages of holes are set up too (5.14)."""
    flat_memmap_to_whole_blocks: bool
    """Under FLATMEM the struct pages up to a whole largest buddy block are set up too (7.2 does
    so, 6.12 does not)."""
    acpi_counts_as_ram: bool
    """max_pfn reaches over ACPI data on x86 (6.12 has it, 6.1 has not)."""
    base_page_flags: int
    """Page flags that need no option: 21 in 5.10 and 6.1, 19 in 6.12, 20 in 7.2."""
    arch_2_on_64_bits: bool
    """PG_arch_2 comes with 64 bits, PG_uncached with an option (5.10, 6.1)."""
    kasan_hw_tag_bits: int
    """Bits of a KASAN hardware tag in the flags: 8 to 6.12, 4 from 7.2."""
    counts_memmap: bool
    """vmstat has the pages of memmap that were allocated at boot (6.11)."""
    vmemmap_reserve_pages: int
    """Pages of memmap that an optimized huge page keeps (2; 1 from 5.18)."""


def layout_era_of(release: Release) -> LayoutEra:
    """The layout rules of a release.

    Kernel: see ``LayoutEra``; the releases in brackets there come from the order in which the
        changes were merged where that is known, else from the sources compared.
    Ignores: nothing known.
    """
    return LayoutEra(
        max_order_inclusive=release >= Release(6, 4),
        pageblock_below_max_order=release >= Release(5, 18),
        pageblock_follows_thp=release >= Release(6, 12),
        pageblock_has_own_limit=release >= Release(6, 16),
        arm64_small_sections=release >= Release(5, 12),
        arm64_pfn_valid_by_memory=release < Release(5, 14),
        online_by_subsection=release >= Release(5, 12),
        holes_follow_memory=release >= Release(5, 10),
        numa_blocks_begin_with_memory=release >= Release(6, 12),
        flat_holes_set_up=release >= Release(5, 14),
        flat_memmap_to_whole_blocks=release > Release(6, 12),
        acpi_counts_as_ram=release >= Release(6, 12),
        base_page_flags=_base_page_flags(release),
        arch_2_on_64_bits=release < Release(6, 12),
        kasan_hw_tag_bits=8 if release <= Release(6, 12) else 4,
        counts_memmap=release >= Release(6, 11),
        vmemmap_reserve_pages=1 if release >= Release(5, 18) else 2,
    )


def _base_page_flags(release: Release) -> int:
    if release < Release(6, 12):
        return 21
    return 19 if release < Release(6, 14) else 20


def layout_eras_of(release: Release) -> tuple[LayoutEra, ...]:
    """The layout rules that a release may have: several where it lies between two compared.

    Kernel: see ``LayoutEra``: of three changes it is only known that they lie between 6.1 and
        6.12, of two that they lie between 6.12 and
        7.2.
    Ignores: nothing known.
    """
    era = layout_era_of(release)
    if Release(6, 12) < release < Release(7, 2):
        return tuple(
            replace(era, kasan_hw_tag_bits=bits, flat_memmap_to_whole_blocks=flat)
            for bits in (4, 8)
            for flat in (False, True)
        )
    if not Release(6, 1) < release < Release(6, 12):
        return (era,)
    return tuple(
        replace(
            era,
            pageblock_follows_thp=thp,
            acpi_counts_as_ram=acpi,
            base_page_flags=flags,
            arch_2_on_64_bits=flags == 21,
        )
        for thp in (False, True)
        for acpi in (False, True)
        for flags in (19, 21)
    )
