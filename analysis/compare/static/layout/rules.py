"""Rules of the memory layout: from the firmware's map to pageblocks, sections and the memmap."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static.layout import blocks as layout_blocks
from analysis.compare.static.layout import holes as layout_holes
from analysis.compare.static.layout import memmap as layout_memmap
from analysis.compare.static.layout import memory as layout_memory
from analysis.compare.static.layout import model as layout_model
from analysis.compare.static.layout import zones as layout_zones

RULES: tuple[Rule, ...] = (
    *layout_memory.RULES,
    *layout_zones.RULES,
    *layout_blocks.RULES,
    *layout_model.RULES,
    *layout_memmap.RULES,
    *layout_holes.RULES,
)
