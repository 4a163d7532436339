"""What a full memory sample's page flags say of pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import MemorySample

_MOVABLE_MAPPING = 2
"""PAGE_MAPPING_MOVABLE in the low bits of page->mapping."""
_TYPE_SHIFT, _MOVABLE_TYPES = 24, (0xF1, 0xF6)
"""Where page->page_type has its type, and PGTY_offline and PGTY_zsmalloc."""


def on_lru(sample: MemorySample) -> NDArray[np.bool_]:
    """Pages on an LRU list, in the order of the sample's ``frame_*`` arrays."""
    bit = int(sample.meta["page_flag_bits"]["lru"])
    return np.asarray((sample.frame_flags >> bit) & 1 == 1)


def movable_by_driver(sample: MemorySample) -> NDArray[np.bool_]:
    """Pages that their driver can move, in the same order.

    Kernel: include/linux/page-flags.h, ``__PageMovable`` (6.1, 6.12), which asks the mapping of
        any page, and ``page_has_movable_ops`` (7.2, 7.3), which asks its type.
    """
    bit = sample.meta["page_flag_bits"].get("movable_ops")
    if bit is None:
        return np.asarray(sample.frame_mapping == _MOVABLE_MAPPING)
    marked = (sample.frame_flags >> int(bit)) & 1 == 1
    return np.asarray(marked & np.isin(sample.frame_type >> _TYPE_SHIFT, _MOVABLE_TYPES))
