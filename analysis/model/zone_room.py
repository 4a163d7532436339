"""How much of a request each zone of a zonelist takes before the next one is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRoom:
    """A zone as a request for single pages meets it; pages."""

    node: int
    zone: str
    free_pages: int
    low: int
    """Low watermark, with its boost."""
    reserve: int
    """lowmem_reserve against requests that could use a higher zone."""
    batch: int
    """Taken at a time by a per-cpu list, at most."""
    drift: int = 0
    """How far the zone's counter may be from the truth: the sum of what CPUs may keep to
    themselves (``stat_threshold``)."""

    @property
    def floor(self) -> int:
        """The zone is passed over while it has no more than so many free pages."""
        return self.low + self.reserve

    @property
    def room(self) -> int:
        """What it gives before it is passed over, not counting the rest of a last batch."""
        return max(0, self.free_pages - self.floor)


def shares(pages: int, zones: Sequence[ZoneRoom]) -> tuple[int, ...]:
    """How many of ``pages`` single pages come from each zone, in the order of the zonelist.

    The list is walked from its beginning for every refill of a per-cpu list, and a zone is passed
    over once it is down to its low watermark and what it keeps from requests that could be served
    higher up; a whole batch is taken at a time, so that it may end up to a batch less one below.
    How large one may be: see ``largest_refill``.

    Kernel: mm/page_alloc.c, ``get_page_from_freelist`` with ``ALLOC_WMARK_LOW``,
        ``zone_watermark_fast`` and ``__zone_watermark_ok``, ``rmqueue_bulk``; 5.10, 6.1, 6.12.
    Ignores: pages that lie on per-cpu lists already, pages that others take or free meanwhile
        (kswapd, which is woken only when every zone of the list is down), cpusets, memory policies,
        zone_reclaim_mode, dirty limits, avoidance of fragmentation, reserves of high orders.
    """
    left = pages
    taken = []
    for zone in zones:
        part = min(left, zone.room)
        taken.append(part)
        left -= part
    return tuple(taken)


def largest_refill(batch: int, scale_max: int) -> int:
    """The most pages that a per-cpu list takes at a time: twice as many as the time before while
    nothing is freed, ``scale_max`` times.

    ``scale_max``: CONFIG_PCP_BATCH_SCALE_MAX; 0 before 6.7, where it is always a batch.

    Kernel: mm/page_alloc.c, ``nr_pcp_alloc``; 6.12, 7.2 and 7.3.
    Ignores: that a list takes no more than it may hold, which can be less.
    """
    return batch << scale_max


def rest(zone: ZoneRoom) -> tuple[int, int]:
    """The counter of free pages of a zone which was passed over: the least and the most.

    The watermark is held against the zone's counter without what CPUs keep to themselves, so that
    the zone may be passed over that much too late or too early. The counter is read once they have
    given that up (/proc/sys/vm/stat_refresh).

    Kernel: as ``shares``, and mm/vmstat.c, ``__mod_zone_page_state``.
    Ignores: as ``shares``; a zone that was below already.
    """
    return zone.floor - max(zone.batch, 1) + 1 - zone.drift, zone.floor + zone.drift
