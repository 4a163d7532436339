"""Changes that must make the rules about zonelists fail."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus

MUTATIONS = {
    "fallback_order": Mutation(
        file="dmesg", pattern=r"Fallback order for Node \d+: (\d+)", change=plus(1)
    ),
    "built_zonelists": Mutation(file="dmesg", pattern=r"Built (\d+) zonelists", change=plus(1)),
    "policy_zone": Mutation(
        file="dmesg", pattern=r"Policy zone: (\w+)", change=lambda _: "Movable"
    ),
    "mobility_grouping": Mutation(
        file="dmesg",
        pattern=r"mobility grouping (on|off)",
        change=lambda old: "off" if old == "on" else "on",
    ),
}
