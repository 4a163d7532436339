"""What changed in vmalloc and its files between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class VmallocEra:
    """The rules of a release.

    Kernel: mm/vmalloc.c, fs/proc/meminfo.c and arch/arm64/include/asm/memory.h of Debian's
        linux-source 5.10, 6.1, 6.12, 7.2 and 7.3, compared line by line.
    Ignores: the exact release of a change between two that were compared; ``arm64_layouts``
        has none or several there, and ``may_shrink`` is true from the release after the last one
        that does not.
    """

    counts_pages: bool
    """VmallocUsed is the number of pages that vmalloc owns (5.3); 0 before."""
    may_shrink: bool
    """vrealloc() gives pages at the end of an area back and leaves its size (after 6.12)."""
    one_list: bool
    """All areas are on one list sorted by address; on one per 16 pages' share of the addresses
    with several CPUs later (6.9)."""
    arm64_layouts: tuple[str, ...]
    """``low-memmap``: the memmap ends 2 MiB below the end of the addresses (to 5.10).
    ``modules-128m``: it ends at their end (5.11). ``modules-128m-bpf``: the same, and a region for
    BPF programs lies below the modules' (from 5.11 until some release before 6.1).
    ``modules-2g``: it ends 1 GiB below (6.12 on). Empty: not compared."""


def vmalloc_era(release: Release) -> VmallocEra:
    """The rules of a release.

    Kernel: see ``VmallocEra``; the releases in brackets there are those that brought the change.
    Ignores: as ``VmallocEra``; stable updates and vendors that took a change back.
    """
    layouts: tuple[str, ...] = ()
    if Release(5, 4) <= release <= Release(5, 10):
        layouts = ("low-memmap",)
    elif Release(5, 10) < release < Release(6, 1):
        layouts = ("modules-128m-bpf", "modules-128m")
    elif release == Release(6, 1):
        layouts = ("modules-128m",)
    elif release >= Release(6, 12):
        layouts = ("modules-2g",)
    return VmallocEra(
        counts_pages=release >= Release(5, 3),
        may_shrink=release > Release(6, 12),
        one_list=release < Release(6, 9),
        arm64_layouts=layouts,
    )
