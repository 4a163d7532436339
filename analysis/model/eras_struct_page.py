"""What changed in a struct page, and in how /proc shows it, between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release

_COMPARED = ((Release(5, 10), Release(6, 1)), (Release(6, 12),) * 2, (Release(7, 2), Release(7, 3)))
"""First and last of the releases between which nothing changed that the rules ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEra:
    """The rules of a release.

    Kernel: fs/proc/page.c, include/linux/mm_types.h, mm.h and page-flags.h of Debian's
        linux-source 5.10.262, 6.1.192, 6.12.117, 7.2.13 and 7.3~rc7.
    Ignores: stable updates before these.
    """

    folios: bool
    """/proc shows of a tail what its folio is: it asks the head and the first tail for all flags
    but one, and for whether it is mapped. Types of pages are numbers, and a folio's first tail has
    its order in the lowest byte of its flags."""
    ksm_is_anon: bool
    """/proc/kpageflags calls every anonymous page one of KSM: of the two bits that are set for
    KSM's pages, either is enough, and one of them is set for all anonymous pages."""


def page_era(release: Release) -> PageEra | None:
    """The rules of a release; None where it lies between those that were compared, or after.

    Kernel: see ``PageEra``.
    Ignores: as ``PageEra``.
    """
    if not any(first <= release <= last for first, last in _COMPARED):
        return None
    return PageEra(folios=release >= Release(6, 12), ksm_is_anon=release == Release(6, 12))
