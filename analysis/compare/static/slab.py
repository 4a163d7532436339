"""The rules of the slab allocators."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static import (
    slab_attributes,
    slab_info,
    slab_kmalloc,
    slab_merging,
    slab_old,
    slab_sysfs,
)

RULES: tuple[Rule, ...] = (
    *slab_kmalloc.RULES,
    *slab_sysfs.RULES,
    *slab_attributes.RULES,
    *slab_merging.RULES,
    *slab_info.RULES,
    *slab_old.RULES,
)
