"""What changed in deciding about compaction between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from analysis.model.release import Release, changed_since


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionEra:
    """How a release decides whether to compact.

    Kernel: mm/compaction.c of 5.10.262, 6.1, 6.12, 7.2 and 7.3-rc, compared line by line.
    Ignores: nothing known.
    """

    watermark_from_caller: bool
    """The free pages wanted are counted from the watermark of the request, not always from min or
    low (6.15, "push watermark into compaction_suitable() callers")."""
    gap_capped: bool
    """The gap that must be free beyond a watermark is SWAP_CLUSTER_MAX pages at most, as many as
    are isolated at a time (from a release between 6.12 and 7.2 on)."""
    low_mark_uncapped: bool
    """Proactive compaction may aim at a score below 5 (from a release between 6.12 and 7.2 on)."""
    leeway_halved: bool
    """Its high mark lies above the low one by no more than half of that, as it always does by no
    more than 10 (from a release between 6.12 and 7.2 on, not necessarily the same)."""


def compaction_eras_of(release: Release) -> tuple[CompactionEra, ...]:
    """How a release may decide whether to compact; several ways where its source was not compared.

    Kernel: mm/compaction.c; see ``CompactionEra``.
    Ignores: changes that a vendor took back to an older release.
    """
    changed = changed_since(release, Release(6, 12), Release(7, 2))
    return tuple(
        CompactionEra(
            watermark_from_caller=release >= Release(6, 15),
            gap_capped=gap_capped,
            low_mark_uncapped=low_mark_uncapped,
            leeway_halved=leeway_halved,
        )
        for gap_capped, low_mark_uncapped, leeway_halved in product(changed, repeat=3)
    )
