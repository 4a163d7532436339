"""What changed in sizing the per-cpu lists between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class PcpSizesEra:
    """How a release sizes its per-cpu lists.

    Kernel: mm/page_alloc.c of 4.19, 5.10.262, 6.1, 6.12, 7.2 and 7.3-rc, compared line by line.
    Ignores: nothing known.
    """

    batch_limit_kib: int
    """The most memory a batch is computed from (4.19, "double zone's batchsize")."""
    high_follows_low: bool
    """``high`` is the zone's low watermark over its node's CPUs, and set with the watermarks and at
    every CPU hotplug; before it was six batches, set once (5.14, "disassociate the pcp->high from
    pcp->batch" and its series)."""
    sized_after_deferral: bool
    """Where struct pages are deferred, the lists are sized again once all are there (5.4-rc8,
    "recalculate pcpu batch and high limits after init completes", posted on 18 October 2019)."""
    tunes_itself: bool
    """``high`` moves between ``high_min`` and ``high_max`` (6.7, "mm: PCP high auto-tuning")."""


AFTER_DEFERRAL_POSTED = date(2019, 10, 18)
"""No kernel that was built before has ``sized_after_deferral``; stable series and vendors took it
to older releases soon after."""


def pcp_sizes_era_of(release: Release, *, sized_after_deferral: bool | None = None) -> PcpSizesEra:
    """How a release sizes its per-cpu lists; ``sized_after_deferral`` overrides its own rule.

    Kernel: mm/page_alloc.c; see ``PcpSizesEra``.
    Ignores: changes that a vendor took back to an older release.
    """
    return PcpSizesEra(
        batch_limit_kib=1024 if release >= Release(4, 19) else 512,
        high_follows_low=release >= Release(5, 14),
        sized_after_deferral=(
            release >= Release(5, 4) if sized_after_deferral is None else sized_after_deferral
        ),
        tunes_itself=release >= Release(6, 7),
    )
