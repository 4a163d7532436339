"""What SLUB prints of a cache, from what it keeps of it."""

from __future__ import annotations

from collections.abc import Mapping


def counted(by_node: Mapping[int, int]) -> int:
    """The number before the nodes of an attribute that counts objects or slabs.

    Kernel: mm/slub.c, ``show_slab_objects``: one pass over the nodes adds to the total and to the
        node's own count; 5.10 to 7.3, CONFIG_NUMA for the nodes' part.
    Ignores: nothing known.
    """
    return sum(by_node.values())


def slabinfo_geometry(slab_size: int, objs_per_slab: int, order: int) -> str:
    """The columns objsize, objperslab and pagesperslab of /proc/slabinfo.

    Kernel: mm/slub.c, ``get_slabinfo``, and mm/slab_common.c, ``cache_show``: the same object size
        and order-and-objects word that /sys/kernel/slab shows; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return f"{slab_size} bytes, {objs_per_slab} in {1 << order}"
