"""Every static rule, in the order in which a reader meets them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from analysis.compare.rule import Rule
from analysis.compare.static import (
    fragmentation,
    handover,
    identities,
    layout,
    pcp,
    slab,
    vmalloc,
    watermark,
    zonelist,
)

PARTS: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "layout": layout.RULES,
        "boot hand-over": handover.RULES,
        "zonelists": zonelist.RULES,
        "watermarks": watermark.RULES,
        "per-cpu lists": pcp.RULES,
        "slab": slab.RULES,
        "vmalloc": vmalloc.RULES,
        "fragmentation": fragmentation.RULES,
        "identities": identities.RULES,
    }
)
"""Part of memory management → its rules."""

RULES: tuple[Rule, ...] = tuple(rule for rules in PARTS.values() for rule in rules)
