"""Which event shows what, release by release."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from analysis.model.release import Release

COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER: the largest order that always has per-cpu lists."""
OLDEST = Release(6, 1)
"""Nothing is said of older kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How to read one kernel's events."""

    fallback_takes: bool
    """A fallback may take its block without ``mm_page_alloc_zone_locked``; then only
    ``mm_page_alloc_extfrag`` shows it."""
    free_gives: bool
    """``mm_page_free`` of an order without per-cpu lists is the return to the free lists; later
    kernels pass through ``free_one_page`` for it, and may free a target page of compaction,
    which goes back to compaction, with the same event."""
    splits_large: bool
    """Blocks above the pageblock order return one pageblock after the other."""
    retypes: bool
    """The migratetype told with an event is always the pageblock's own."""
    required_probes: tuple[tuple[str, ...], ...]
    """Of each group one probe at least must have been set."""


def rules_of(release: Release) -> Rules:
    """The rules of a release.

    Kernel: mm/page_alloc.c. 6.10 reworked freelist accounting: ``steal_suitable_fallback``
        (later ``__rmqueue_claim`` and ``__rmqueue_steal``) takes a block itself,
        ``__free_pages_ok`` calls ``free_one_page``, which calls ``split_large_buddy``, and drains
        pass the type of the pageblock instead of the one remembered in the page. Compared: 6.1,
        6.12, 7.2, 7.3.
    """
    reworked = release >= Release(6, 10)
    isolation = (("isolate_free_page",), ("isolate_free_page_return",), ("putback_isolated_page",))
    return Rules(
        fallback_takes=reworked,
        free_gives=not reworked,
        splits_large=reworked,
        retypes=reworked,
        required_probes=(
            ("split_large_buddy", "free_one_page") if reworked else ("free_one_page",),
            *isolation,
        ),
    )


def has_pcp_list(order: int, *, pcp_types: int, pcp_lists: int, pageblock_order: int) -> bool:
    """Whether blocks of this order are kept on per-cpu lists.

    Kernel: mm/page_alloc.c, ``pcp_allowed_order``, and NR_PCP_LISTS in include/linux/mmzone.h;
        6.1 to 7.3. Huge pages have lists of their own with CONFIG_TRANSPARENT_HUGEPAGE.
    """
    if order <= COSTLY_ORDER:
        return True
    return order == pageblock_order and pcp_lists > pcp_types * (COSTLY_ORDER + 1)


def missing_probes(rules: Rules, probes_set: Collection[str]) -> list[str]:
    """What the rules need and the trace has not, a phrase each."""
    return [
        " or ".join(group)
        for group in rules.required_probes
        if not any(name in probes_set for name in group)
    ]
