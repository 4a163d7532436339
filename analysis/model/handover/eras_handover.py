"""What changed between releases in handing memory over to the buddy allocator."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverEra:
    """How a release hands memory over and what it prints.

    Kernel: mm/memblock.c, mm/page_alloc.c and mm/mm_init.c of Debian's linux-source 5.10.262,
        6.1.192, 6.12.117, 7.2.13 and 7.3~rc7, compared line by line.
    Ignores: at which stable update a change was taken back.
    """

    memmap_taken_off: bool
    """Before the hand-over a zone counts as managed what is present without its memmap and, in
    the first zone, what is reserved; later all that is present (6.10)."""
    reports_after_deferred: bool
    """The ``Memory:`` line comes when deferred pages are there too, long after the hand-over;
    before, right after it (6.11)."""
    late_free_hands_over: bool
    """memblock_phys_free() gives pages to the buddy once that is there, and free_reserved_area()
    takes what it frees out of ``memblock.reserved`` where that is kept (7.2 has it, 6.12 has not;
    7.0 is taken for the border)."""
    arm64_frees_init_tables: bool
    """arm64 gives the page tables of its first moments, the last pages of the kernel's data, back
    to memblock (6.1 does, 6.12 does not; 6.12 is taken for the border)."""
    reserves_low_megabyte: bool
    """x86 always reserves the first MiB (5.14, "x86/setup: always reserve the first 1M")."""
    told_unavailable: bool
    """Pages in holes are told by zone, ``On node 0, zone DMA: 1 pages in unavailable ranges``
    (5.12, and 5.10 stable)."""
    flatmem_tells_unavailable: bool
    """It does so with FLATMEM too (6.1 does, 5.10 does not; 5.14)."""
    flatmem_rounds_end: bool
    """With FLATMEM the frames behind all memory count too, up to the largest buddy block (7.2 does,
    6.12 does not; 7.0 is taken for the border)."""


def handover_era_of(release: Release) -> HandoverEra:
    """How a release hands memory over.

    Kernel: see ``HandoverEra``.
    Ignores: changes that a vendor took back to an older release.
    """
    return HandoverEra(
        memmap_taken_off=release < Release(6, 10),
        reports_after_deferred=release >= Release(6, 11),
        late_free_hands_over=release >= Release(7, 0),
        arm64_frees_init_tables=release < Release(6, 12),
        reserves_low_megabyte=release >= Release(5, 14),
        told_unavailable=release == Release(5, 10) or release >= Release(5, 12),
        flatmem_tells_unavailable=release >= Release(5, 14),
        flatmem_rounds_end=release >= Release(7, 0),
    )
