"""When memory is reclaimed: who is asked to, and when kswapd may rest."""

from __future__ import annotations

from dataclasses import dataclass

SWAP_CLUSTER_MAX = 32
"""Pages that a direct reclaimer tries to get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFree:
    """A zone as a check of its watermark sees it, in pages."""

    free_pages: int
    """NR_FREE_PAGES."""
    mark_pages: int
    """The watermark in question, without boost."""
    reserve_pages: int = 0
    """lowmem_reserve for the request's highest zone."""
    unusable_pages: int = 0
    """Free pages that ordinary requests may not take: high-atomic reserve, CMA where not allowed.
    """
    boost_pages: int = 0
    order: int = 0

    @property
    def margin_pages(self) -> int:
        """Pages above what has to stay free; the check is passed where it is above 0.

        One zone that passes is enough: with the low watermark for an attempt of the fast path
        (where it fails, kswapd is woken), with min for the attempt after that (where it fails,
        whoever may has to reclaim for itself), with high for a kswapd that wants to rest.

        Kernel: mm/page_alloc.c, ``__zone_watermark_ok`` without reserves, from
            ``get_page_from_freelist``; mm/vmscan.c, ``pgdat_balanced``; 5.10 to 7.3.
        Ignores: whether there is a block of the order: for single pages there always is; dirty
            limits and nodes preferred for file pages; requests that may touch the reserves, for
            which min is lower.
        """
        unusable = self.unusable_pages + (1 << self.order) - 1
        return self.free_pages - unusable - self.mark_pages - self.boost_pages - self.reserve_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class KswapdRounds:
    """How often kswapd began to balance, and how each time it tried to sleep ended."""

    begun: int
    slept: int
    low_hit_quickly: int
    """Woken within a tenth of a second of having nothing to do."""
    high_hit_quickly: int
    """The high watermark was lost again before it slept, or never reached."""

    @property
    def ended(self) -> int:
        """As many as begun, where kswapd sleeps before and after.

        Kernel: mm/vmscan.c, ``kswapd`` and ``kswapd_try_to_sleep``; 5.10 to 7.3.
        Ignores: freezing and the end of a node.
        """
        return self.slept + self.low_hit_quickly + self.high_hit_quickly
