"""How many objects a sheaf holds: SLUB's array of free objects, two of them per CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from analysis.model.eras_slab import SlabEra
from analysis.model.slab.partial import SHEAF_OBJECTS, by_size

ASKED_CAPACITY: Mapping[str, int] = MappingProxyType({"maple_node": 32, "vm_area_struct": 32})
"""Objects that the caches' users ask for: lib/maple_tree.c and mm/vma_init.c, 7.2 and 7.3 (before,
kernel/fork.c)."""
WITHOUT_SHEAVES = frozenset(
    {
        "kmem_cache",
        "kmem_cache_node",
        "kmemleak_object",
        "kmemleak_scan_area",
        "debug_objects_cache",
    }
)
"""SLAB_NO_SHEAVES and SLAB_NOLEAKTRACE."""


def header_bytes(word_bytes: int) -> int:
    """Bytes of a sheaf before its pointers to objects: two words for a list, a pointer, two
    numbers of 4 bytes.

    Kernel: mm/slub.c, ``struct slab_sheaf``; 7.2, 7.3.
    Ignores: nothing known.
    """
    return 3 * word_bytes + 8


def sheaf_capacity(
    name: str,
    size: int,
    *,
    era: SlabEra,
    page_size: int,
    word_bytes: int,
    kmalloc_sizes: Iterable[int],
    debugging: bool,
    tiny: bool,
) -> int:
    """Objects in a full sheaf of a cache whose objects lie ``size`` bytes apart.

    From 7.0 a number for the size, raised so that the sheaf (a header of two words for a list, a
    pointer, two numbers, and a pointer for each object) fills the kmalloc object that it lies in;
    more where the cache's user asked for more. In 6.18 and 6.19 just what the user asked for.

    Kernel: mm/slub.c, ``calculate_sheaf_capacity`` and ``struct slab_sheaf``; 7.2, 7.3; for 6.18
        do_kmem_cache_create() in the patch that brought sheaves.
    Ignores: modules that ask and are no part of the kernel.
    """
    if tiny or debugging or name in WITHOUT_SHEAVES or not era.sheaves_on_request:
        return 0
    if not era.keeps_sheaves:
        return ASKED_CAPACITY.get(name, 0)
    header = header_bytes(word_bytes)
    wanted = header + by_size(size, SHEAF_OBJECTS, page_size) * word_bytes
    bucket = min(kmalloc for kmalloc in kmalloc_sizes if kmalloc >= wanted)
    return max((bucket - header) // word_bytes, ASKED_CAPACITY.get(name, 0))
