"""What changed in the page allocator between kernel releases, as the model's rules ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """The rules of a release.

    Kernel: mm/page_alloc.c and mm/internal.h of Debian's linux-source 6.1.192, 6.12.117, 7.2.13
        and 7.3~rc7, compared line by line.
    Ignores: at which stable update a rule came: 6.12 is taken as it is since it got the split of
        ``__rmqueue_fallback`` into claiming and stealing (early 2025).
    """

    merges_reserved: bool
    """Coalesces high-atomic and CMA pageblocks with others (only isolation stands apart)."""
    merge_retypes: bool
    """Coalescing across pageblocks gives the buddy's pageblocks the type of the freed block."""
    pcp_remembers_type: bool
    """A page on a per-cpu list carries the type it goes back to; later the pageblock decides."""
    pcp_tunes_itself: bool
    """Per-cpu lists grow and shrink between high_min and high_max (6.7)."""
    accounts_each_block: bool
    """Free pages are counted at each list operation, not once for a bulk (6.10)."""
    claims_then_steals: bool
    """A fallback first tries to claim whole pageblocks, largest first, then steals the smallest
    block alone, and a bulk remembers which of the two worked (6.15, and 6.12 stable)."""
    splits_large_frees: bool
    """A freed block above the pageblock order goes back one pageblock after the other (6.10)."""
    drains_in_batches: bool
    """A free that overfills a per-cpu list gives back at most ``batch`` pages at a time, each
    time beginning at the freed page's own list (6.18)."""
    high_order_drain_waits: bool
    """Freeing orders 1-3 empties the lists only after batch + high_min/2 freed pages (6.13)."""
    highatomic_skips_refill: bool
    """A high-atomic request does not refill per-cpu lists (6.18)."""
    highatomic_fast: bool
    """Requests that may use the high-atomic reserve may do so at the first attempt (7.3)."""
    highatomic_in_rmqueue: bool
    """Only a request served from the zone's lists reserves a high-atomic pageblock (6.18)."""
    highatomic_limit_aligned: bool
    """The reserve is 1 % of the zone rounded up to pageblocks, none below one (6.6)."""
    highatomic_counts_free: bool
    """Watermarks leave out the free pages of the reserve, not all of its pages (6.12)."""
    boost_waived_for_high: bool
    """A boost is ignored at the min watermark for __GFP_HIGH, before for __GFP_ATOMIC (6.4)."""
    below_high_flag: bool
    """A zone notes that it was seen below its high watermark (ZONE_BELOW_HIGH, 6.7)."""
    skips_awake_kswapd: bool
    """With several nodes, those whose kswapd runs are passed over at first (7.1)."""
    cma_bypasses_pcp: bool
    """Movable requests that may not use CMA do not take from per-cpu lists (to 6.4)."""


def era_of(release: Release) -> Era:
    """The rules of a release; between those compared, the release that brought a change decides.

    Kernel: mm/page_alloc.c; see ``Era``. The releases in brackets there come from the order in
        which the changes were merged, the sources compared are 5.10 (coalescing alone), 6.1,
        6.12, 7.2 and 7.3.
    Ignores: changes that a stable series or a vendor took back to an older release, but for the one
        that ``Era`` names.
    """
    return Era(
        merges_reserved=release < Release(5, 18),
        merge_retypes=release >= Release(6, 10),
        pcp_remembers_type=release < Release(6, 10),
        pcp_tunes_itself=release >= Release(6, 7),
        accounts_each_block=release >= Release(6, 10),
        claims_then_steals=release >= Release(6, 12),
        splits_large_frees=release >= Release(6, 10),
        drains_in_batches=release >= Release(6, 18),
        high_order_drain_waits=release >= Release(6, 13),
        highatomic_skips_refill=release >= Release(6, 18),
        highatomic_fast=release >= Release(7, 3),
        highatomic_in_rmqueue=release >= Release(6, 18),
        highatomic_limit_aligned=release >= Release(6, 6),
        highatomic_counts_free=release >= Release(6, 12),
        boost_waived_for_high=release >= Release(6, 4),
        below_high_flag=release >= Release(6, 7),
        skips_awake_kswapd=release >= Release(7, 1),
        cma_bypasses_pcp=release < Release(6, 4),
    )
