"""Changes that must make the rules about per-cpu lists fail."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus

MUTATIONS = {
    "pcp_batch": Mutation(file="proc/zoneinfo", pattern=r"^ +batch: +(\d+)$", change=plus(1)),
    "pcp_high": Mutation(file="proc/zoneinfo", pattern=r"^ +high: +(\d+)$", change=plus(1 << 30)),
    "pcp_high_min": Mutation(file="proc/zoneinfo", pattern=r"^ +high_min: +(\d+)$", change=plus(1)),
    "pcp_high_max": Mutation(file="proc/zoneinfo", pattern=r"^ +high_max: +(\d+)$", change=plus(1)),
    "stat_threshold": Mutation(
        file="proc/zoneinfo", pattern=r"^  vm stats threshold: +(\d+)$", change=plus(200)
    ),
}
