"""Rules of the memory layout: from the firmware's map to pageblocks, sections and the memmap."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static import (
    layout_blocks,
    layout_holes,
    layout_memmap,
    layout_memory,
    layout_model,
    layout_zones,
)

RULES: tuple[Rule, ...] = (
    *layout_memory.RULES,
    *layout_zones.RULES,
    *layout_blocks.RULES,
    *layout_model.RULES,
    *layout_memmap.RULES,
    *layout_holes.RULES,
)
