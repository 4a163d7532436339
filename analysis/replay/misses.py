"""Where prediction and kernel parted, and how a window went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from analysis.replay.step import Kind


class Miss(Enum):
    """Why a choice of the model was not the kernel's."""

    WRONG_ZONE = "another zone"
    UNSEEN = "taken unseen"
    """The page below the one the model took: something took that one without an event."""
    WRONG_LIST_ORDER = "same list, other place"
    """The page was further down the list that the model took from."""
    REFILL = "refill"
    """The model fetched other blocks from the zone's lists than the kernel."""
    NOT_REFILLED = "refill unseen"
    """The kernel took a page without fetching any, where the model's list was empty."""
    NOT_FREE = "page not free in the model"
    NONE = "the model had nothing to give"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """One request at which model and kernel parted."""

    counter: int
    kind: Kind
    miss: Miss
    cpu: int
    level: int
    order: int
    migratetype: int
    kernel_pfn: int
    model_pfn: int
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Prediction:
    """How a window went."""

    requests: int = 0
    """Allocations the model had to choose for, pages of bulk requests not counted."""
    exact: int = 0
    """Those for which it chose the very page."""
    ambiguous: int = 0
    """Requests at which the trace leaves something open: an interrupt or another task came between
    a page's leaving its list and the event that tells of it, the task moved to another CPU
    meanwhile, or somebody else had the per-cpu lists locked. Right in one of the cases, they are
    counted here and nowhere else."""
    given: int = 0
    """Allocations where compaction's work was taken from the trace: served by capture (these are
    not among the requests), or chosen from a list that had to be turned first."""
    turned: int = 0
    """Those of the requests for which a list was turned, or that a node's dirty pages sent to
    another node; not judged."""
    rotations: int = 0
    """Lists that compaction had turned, unseen, and that were turned as the kernel's next choice
    told."""
    late_frees: int = 0
    """Frees whose page came to its list only after an interrupt, which the trace leaves open."""
    bulk_pages: int = 0
    frees: int = 0
    refills: int = 0
    refills_exact: int = 0
    drains: int = 0
    drains_exact: int = 0
    unexplained: Counter[str] = field(default_factory=Counter)
    """What the model could not do as told: frees of free pages, isolation of blocks it lacks …"""
    misses: Counter[Miss] = field(default_factory=Counter)
    first_misses: list[Missed] = field(default_factory=list)
    first_divergence: int | None = None
    """Counter of the first refill or drain that was not the kernel's."""

    @property
    def match_pct(self) -> float:
        """Share of allocations with the very page, in percent, of those that can be judged."""
        judged = self.requests - self.ambiguous - self.turned
        return 100.0 * self.exact / judged if judged else 100.0
