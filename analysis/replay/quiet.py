"""Moments within a window at which no processor is in the middle of a request.

A request for pages can come as several events: a per-cpu list that is refilled shows a block at a
time, one that overflows gives them back one by one. Between two such events the kernel's lists are
in a state that a model, which does each request as a whole, never has. Such moments are avoided.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.replay.operation import EVENTS

_LOCKED = EVENTS.index("mm_page_alloc_zone_locked")
_BORROWED = EVENTS.index("mm_page_alloc_extfrag")
_DIRECT = (EVENTS.index("free_one_page"), EVENTS.index("split_large_buddy"))
_DRAINED = EVENTS.index("mm_page_pcpu_drain")


def quiet_places(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """For every place among operations (``OPERATION``; one more than there are): nothing is open.

    A place is quiet when the operation before it on no processor is a block that left the free
    lists for a request not yet told of, and the one after it on no processor is a block that comes
    back for a request told of before.

    Ignores: a request interrupted by another one, between the two.
    """
    quiet = np.ones(len(records) + 1, np.bool_)
    for cpu in np.unique(records["cpu"]):
        own = np.flatnonzero(records["cpu"] == cpu)
        event = records["event"][own]
        opens = (event == _LOCKED) | (event == _BORROWED)
        closes = (event == _DRAINED) | np.isin(event, _DIRECT)
        # Gap number n lies before the CPU's n-th operation; the last one after all of them.
        busy = np.zeros(len(own) + 1, np.bool_)
        busy[1:] |= opens
        busy[:-1] |= closes
        gap = np.zeros(len(records) + 1, np.int64)
        gap[own + 1] = 1
        quiet &= ~busy[np.cumsum(gap)]
    return quiet


def choose_moments(records: NDArray[np.void], wanted: int) -> NDArray[np.int64]:
    """At most ``wanted`` places, evenly spread, each moved to the quiet one nearest to it.

    Counters differ on both sides of a place, so that it can be named by the counter before it.
    """
    places = np.linspace(0, len(records), wanted + 2).astype(np.int64)[1:-1]
    fits = quiet_places(records)
    fits[1:-1] &= np.diff(records["counter"]) > 0
    at = np.flatnonzero(fits)
    at = at[(at > 0) & (at < len(records))]
    if not len(at):
        return np.zeros(0, np.int64)
    after = np.searchsorted(at, places).clip(0, len(at) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(at[before] - places) <= np.abs(at[after] - places)
    return np.unique(np.where(nearer, at[before], at[after]))
