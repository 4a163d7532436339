"""Changes that must make the rules about fragmentation fail."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = {
    "unusable_index": Mutation(
        file="sys/kernel/debug/extfrag/unusable_index",
        pattern=r" (\d\.\d{3})",
        change=lambda old: "0.002" if old != "0.002" else "0.003",
    ),
    "extfrag_index": Mutation(
        file="sys/kernel/debug/extfrag/extfrag_index",
        pattern=r" (-?\d\.\d{3})",
        change=lambda old: "0.002" if old != "0.002" else "0.003",
    ),
}
