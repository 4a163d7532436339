"""One request of the allocator, with what the kernel did about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Kind(IntEnum):
    """What is asked of the allocator, or happens to it."""

    ALLOCATE = 0
    BULK = 1
    FREE = 2
    FREE_DIRECT = 3
    ISOLATE = 4
    PUT_BACK = 5
    DRAIN_ALL = 6
    DRAIN_BATCH = 7
    DECAY = 8
    FOLD = 9
    ON_LRU = 10
    BALANCE_BEGIN = 11
    BALANCE_END = 12
    KSWAPD_WAKE = 13
    KSWAPD_SLEEP = 14
    UNRESERVE = 15
    THRESHOLD = 16
    UNKNOWN_DRAIN = 17
    """Blocks came back from a per-cpu list and no request explains it."""
    CAPTURED = 18
    """An allocation served by compaction from a block freed under its eyes."""
    ISOLATE_PAGEBLOCK = 19
    UNISOLATE_PAGEBLOCK = 20
    FREE_RANGE = 21
    """Single pages that are freed as the blocks of ``pieces``."""
    COMPACTION = 23
    """Compaction began or ended in a zone: ``pfn`` is the zone's first page."""
    DRAIN_REST = 24
    """A FREE, DRAIN_ALL or DECAY goes on after another context ran while it gave back pages."""
    BOOST_END = 25
    """Kswapd took boosts back, or is through with its zones without one."""
    MERGED = 22
    """A free that became part of another step."""


@dataclass(slots=True)
class Step:
    """One request with what the kernel did."""

    kind: Kind
    effect: int
    """Counter at which it took effect."""
    event: int
    """Counter of its own event."""
    cpu: int
    pid: int
    level: int
    """0 task, 1 softirq, 2 hardirq, 3 NMI."""
    pfn: int = -1
    """The kernel's answer for ALLOCATE; else the page in question."""
    order: int = 0
    """Of an ON_LRU: that of a folio that was moved, where the trace tells no allocation of it."""
    gfp: int = 0
    migratetype: int = -1
    """The kernel's number."""
    node: int = -1
    """Asked for; -1 where nobody knows."""
    count: int = 0
    """Pages that a BULK got; CPU of the lists of a DRAIN; 1 for the THRESHOLD of an awake kswapd,
    0 of one that goes to sleep; 1 for a BALANCE_END after which the daemon is taken to wait; 1
    for an ALLOCATE whose task moved to another CPU on its way, so that the trace does not say
    which CPU's lists served it."""
    stop_after: int = 0
    """Pages that it gave back from per-cpu lists before another context ran; 0 where none did."""
    pointer: int = 0
    """Zone or node structure that a probe names."""
    alloc_flags: int = -1
    attempts: int = 0
    locked: list[tuple[int, int]] = field(default_factory=list)
    """Blocks that left the zone's lists for it: pfn, order."""
    drained: list[tuple[int, int]] = field(default_factory=list)
    """Blocks that came back from per-cpu lists because of it."""
    borrowed: list[int] = field(default_factory=list)
    """Blocks that fallbacks chose for it, by pfn."""
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Blocks of a FREE_RANGE: pfn, order."""
    captured: dict[int, int] = field(default_factory=dict)
    """A block that came back → the order at which compaction took what it grew to."""
    after: int = -1
    """Counter of the same context's event before this one: the effect is later than that."""
    before: int = 1 << 62
    """Counter of the same context's next event: the effect is earlier than that."""
    number: int = -1
    """Its place among the steps of the window."""
