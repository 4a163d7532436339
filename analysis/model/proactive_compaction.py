"""The fragmentation score of zones and nodes, and when proactive compaction begins and ends.

The kernel shows neither the score nor the decision in a file: traces of kcompactd hold them against
it, a capture cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.model.eras_compaction import CompactionEra
from analysis.model.fragmentation import free_pages, suitable_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredZone:
    """What of a zone goes into its node's score."""

    free_blocks: Sequence[int]
    """By order."""
    present_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMarks:
    """Scores of a node between which proactive compaction works, in percent."""

    low: int
    """Where it ends."""
    high: int
    """Above which it begins."""


def extfrag_for_order(free_blocks: Sequence[int], order: int) -> int:
    """Share of a zone's free memory in blocks too small for ``order``, in percent (0 … 100).

    As ``unusable_index_milli``, but 0 for a zone without free memory.

    Raises:
        IndexError: ``order`` is not one of the zone's orders.

    Kernel: mm/vmstat.c, ``extfrag_for_order``; the same in 5.10, 6.1, 6.12, 7.2 and 7.3;
        CONFIG_COMPACTION.
    Ignores: nothing known.
    """
    if not 0 <= order < len(free_blocks):
        raise IndexError(f"order {order} is outside 0 to {len(free_blocks) - 1}")
    free = free_pages(free_blocks)
    if free == 0:
        return 0
    return (free - (suitable_blocks(free_blocks, order) << order)) * 100 // free


def fragmentation_score_node(zones: Iterable[ScoredZone], hugepage_order: int) -> int:
    """A node's score: its zones' ``extfrag_for_order``, each by its share of the node, in percent.

    Each zone's part is rounded down, and a node's pages count one more than they are: a node that
    is wholly fragmented stays below 100. ``zones``: all of one node. ``hugepage_order``: the order
    of a huge page of the PMD level (9 for 2 MiB in 4 KiB pages), or of hugetlb's where the kernel
    has no transparent ones.

    Raises:
        IndexError: ``hugepage_order`` is not one of a zone's orders.

    Kernel: mm/compaction.c, ``fragmentation_score_node`` and ``fragmentation_score_zone_weighted``
        (in 5.10 both in ``fragmentation_score_zone``); the same numbers in 5.10, 6.1, 6.12, 7.2 and
        7.3; CONFIG_COMPACTION.
    Ignores: nothing known.
    """
    counted = list(zones)
    node_pages = sum(zone.present_pages for zone in counted) + 1
    return sum(
        zone.present_pages * extfrag_for_order(zone.free_blocks, hugepage_order) // node_pages
        for zone in counted
    )


def score_marks(proactiveness: int, era: CompactionEra) -> ScoreMarks:
    """The scores between which vm.compaction_proactiveness lets kcompactd work.

    Raises:
        ValueError: the sysctl is outside 0 … 100.

    Kernel: mm/compaction.c, ``fragmentation_score_wmark``; 5.10, 6.1 and 6.12 the same, 7.2 and 7.3
        without the cap: ``CompactionEra.low_mark_uncapped`` and ``leeway_halved``.
    Ignores: nothing known.
    """
    if not 0 <= proactiveness <= 100:
        raise ValueError(f"compaction_proactiveness {proactiveness}: expected 0 to 100")
    low = 100 - proactiveness
    if not era.low_mark_uncapped:
        low = max(low, 5)
    leeway = min(10, low // 2) if era.leeway_halved else 10
    return ScoreMarks(low=low, high=min(low + leeway, 100))


def begins_proactively(score: int, proactiveness: int, era: CompactionEra) -> bool:
    """Whether kcompactd, waking every half a second, compacts a node of that score.

    Raises:
        ValueError: the sysctl is outside 0 … 100.

    Kernel: mm/compaction.c, ``should_proactive_compact_node``; 5.10 to 7.3.
    Ignores: that it does not while kswapd of the node runs, and the back-off after rounds that did
        not lower the score.
    """
    return proactiveness > 0 and score > score_marks(proactiveness, era).high
