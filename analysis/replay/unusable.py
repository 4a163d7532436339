"""The unusable free space index of whole tables of free blocks, and how far two such are apart.

The index of one zone and order is the rule in ``analysis.model.fragmentation``; here it is taken
for many moments at once. Errors are shares (0 … 1), the largest over all zones and orders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unusable_milli(nr_free: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index in thousandths for every order; the last axis of ``nr_free`` counts blocks by order.

    Kernel: mm/vmstat.c, ``unusable_free_index``: see ``fragmentation.unusable_index_milli``.
    """
    orders = np.arange(nr_free.shape[-1], dtype=np.int64)
    pages = nr_free << orders
    usable = np.cumsum(pages[..., ::-1], axis=-1)[..., ::-1]
    free = usable[..., :1]
    index = (free - usable) * 1000 // np.maximum(free, 1)
    return np.where(free == 0, 1000, index)


def state_error(predicted: NDArray[np.int64], observed: NDArray[np.int64]) -> float:
    """Largest difference of the index between two states (zone by order)."""
    return _largest(unusable_milli(predicted) - unusable_milli(observed))


def change_error(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    other_before: NDArray[np.int64],
    other_after: NDArray[np.int64],
) -> float:
    """Largest difference between the changes of the index in two runs of the same load.

    This is the noise floor: how far the real kernel is from itself.
    """
    change = unusable_milli(after) - unusable_milli(before)
    other = unusable_milli(other_after) - unusable_milli(other_before)
    return _largest(change - other)


def _largest(difference: NDArray[np.int64]) -> float:
    return float(np.abs(difference).max(initial=0)) / 1000
