"""What changed in deciding about compaction between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionEra:
    """How a release decides whether to compact.

    Kernel: mm/compaction.c of 5.10.262, 6.1, 6.12, 7.2 and 7.3-rc, compared line by line.
    Ignores: at which release between 6.12 and 7.2 a change came, where that is not certain.
    """

    watermark_from_caller: bool
    """The free pages wanted are counted from the watermark of the request, not always from min or
    low (6.15, "push watermark into compaction_suitable() callers")."""
    gap_capped: bool
    """The gap that must be free beyond a watermark is SWAP_CLUSTER_MAX pages at most, as many as
    are isolated at a time (between 6.12 and 7.2, taken as 7.2)."""
    low_mark_uncapped: bool
    """Proactive compaction may aim at a score below 5, and its high mark is then less than 10 above
    the low one (in two steps between 6.12 and 7.2, taken as 6.16)."""


def compaction_era_of(release: Release) -> CompactionEra:
    """How a release decides whether to compact.

    Kernel: mm/compaction.c; see ``CompactionEra``.
    Ignores: changes that a vendor took back to an older release.
    """
    return CompactionEra(
        watermark_from_caller=release >= Release(6, 15),
        gap_capped=release >= Release(7, 2),
        low_mark_uncapped=release >= Release(6, 16),
    )
