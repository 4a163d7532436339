"""Every static rule, in the order in which a reader meets them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from analysis.compare.rule import Rule
from analysis.compare.static import fragmentation, zonelist
from analysis.compare.static.handover import rules as handover
from analysis.compare.static.identities import rules as identities
from analysis.compare.static.layout import rules as layout
from analysis.compare.static.pcp import rules as pcp
from analysis.compare.static.slab import rules as slab
from analysis.compare.static.vmalloc import rules as vmalloc
from analysis.compare.static.watermark import rules as watermark

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
