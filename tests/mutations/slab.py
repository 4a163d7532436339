"""Changes that must make the rules about slab allocators fail."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus

_ATTRIBUTE = r"/sys/kernel/slab/{}/{}:(\d+)"


def _attribute(name: str, cache: str = "task_struct") -> str:
    return _ATTRIBUTE.format(cache, name)


MUTATIONS = {
    "kmalloc_classes": Mutation(
        file="proc/slabinfo", pattern=r"^kmalloc-(512) ", change=lambda _: "513"
    ),
    "kmalloc_objsize": Mutation(
        file="proc/slabinfo", pattern=r"^kmalloc-512 +\d+ +\d+ +(\d+) ", change=plus(8)
    ),
    "slub_banner": Mutation(file="dmesg", pattern=r"SLUB: .* CPUs=(\d+)", change=plus(1)),
    "slab_size": Mutation(file="slab_sysfs", pattern=_attribute("slab_size"), change=plus(8)),
    "slab_order": Mutation(file="slab_sysfs", pattern=_attribute("order"), change=plus(1)),
    "slab_objs_per_slab": Mutation(
        file="slab_sysfs", pattern=_attribute("objs_per_slab"), change=plus(1)
    ),
    "slab_cpu_partial": Mutation(
        file="slab_sysfs", pattern=_attribute("cpu_partial"), change=plus(1)
    ),
    "slab_min_partial": Mutation(
        file="slab_sysfs", pattern=_attribute("min_partial"), change=plus(1)
    ),
    "slab_sheaf_capacity": Mutation(
        file="slab_sysfs", pattern=_attribute("sheaf_capacity"), change=plus(1)
    ),
    "slab_align": Mutation(
        file="slab_sysfs", pattern=_attribute("align", "kmalloc-512"), change=plus(8)
    ),
    "slab_align_least": Mutation(
        file="slab_sysfs", pattern=_attribute("align", "kmem_cache_node"), change=plus(8)
    ),
    "slab_nodes_sum": Mutation(
        file="slab_sysfs", pattern=_attribute("total_objects"), change=plus(1)
    ),
    "slab_merge": Mutation(
        file="slab_sysfs",
        pattern=_attribute("usersize", "kmalloc-rcl-512"),
        change=lambda _: "0",
    ),
    "slab_id": Mutation(
        file="slab_sysfs",
        pattern=r"/sys/kernel/slab/:a-\d+/reclaim_account:(1)",
        change=lambda _: "0",
    ),
    "slabinfo_geometry": Mutation(
        file="proc/slabinfo",
        pattern=r"^task_struct +\d+ +\d+ +\d+ +(\d+) ",
        change=plus(1),
    ),
    "slab_num_objs": Mutation(
        file="proc/slabinfo", pattern=r"^task_struct +\d+ +(\d+) ", change=plus(1)
    ),
    "slabinfo_sysfs": Mutation(
        file="slab_sysfs", pattern=_attribute("objs_per_slab"), change=plus(1)
    ),
    "slab_geometry": Mutation(
        file="proc/slabinfo",
        pattern=r"^kmalloc-512 +\d+ +\d+ +\d+ +(\d+) ",
        change=plus(1),
    ),
    "slab_tunables": Mutation(
        file="proc/slabinfo", pattern=r"^kmalloc-512 .*tunables +(\d+) ", change=plus(1)
    ),
}
