"""Laws that tie the files of /proc and sysfs together, by the files that they tie."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static import (
    identities_blocks,
    identities_counters,
    identities_direct_map,
    identities_meminfo,
    identities_nodes,
    identities_numa,
    identities_vmstat,
    identities_zones,
)

RULES: tuple[Rule, ...] = (
    *identities_meminfo.RULES,
    *identities_zones.RULES,
    *identities_direct_map.RULES,
    *identities_counters.RULES,
    *identities_nodes.RULES,
    *identities_numa.RULES,
    *identities_blocks.RULES,
    *identities_vmstat.RULES,
)
