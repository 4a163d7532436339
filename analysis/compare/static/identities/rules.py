"""Laws that tie the files of /proc and sysfs together, by the files that they tie."""

from __future__ import annotations

from analysis.compare.rule import Rule
from analysis.compare.static.identities import blocks as identities_blocks
from analysis.compare.static.identities import counters as identities_counters
from analysis.compare.static.identities import direct_map as identities_direct_map
from analysis.compare.static.identities import meminfo as identities_meminfo
from analysis.compare.static.identities import nodes as identities_nodes
from analysis.compare.static.identities import numa as identities_numa
from analysis.compare.static.identities import vmstat as identities_vmstat
from analysis.compare.static.identities import zones as identities_zones

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
