"""The rules of the slab allocators."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static.slab import attributes as slab_attributes
from analysis.compare.static.slab import info as slab_info
from analysis.compare.static.slab import kmalloc as slab_kmalloc
from analysis.compare.static.slab import merging as slab_merging
from analysis.compare.static.slab import old as slab_old
from analysis.compare.static.slab import sysfs as slab_sysfs

RULES: tuple[Rule, ...] = (
    *slab_kmalloc.RULES,
    *slab_sysfs.RULES,
    *slab_attributes.RULES,
    *slab_merging.RULES,
    *slab_info.RULES,
    *slab_old.RULES,
)
