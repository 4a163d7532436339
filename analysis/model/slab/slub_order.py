"""How many pages SLUB asks for at a time: the order of a cache's slabs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.model.eras_slab import SlabEra

COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER."""
OBJECTS_MAX = 32767
"""The number of objects in a slab is kept in 15 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLimits:
    """What the parameters of the kernel say of slab orders."""

    min_order: int = 0
    max_order: int = COSTLY_ORDER
    min_objects: int = 0
    """0: from the number of CPUs."""
    page_order_max: int = 10
    """The largest order of the page allocator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabOrder:
    order: int
    """log2 of the pages of a slab."""
    objects: int
    """Objects in a slab of that order."""
    fallback_order: int
    """Order of the slabs that are taken when pages of ``order`` cannot be had."""
    fallback_objects: int


def wanted_objects(cpus: int) -> int:
    """How many objects SLUB wants in a slab: more CPUs contend more for the lists of slabs.

    Kernel: mm/slub.c, ``calculate_order``: four times (one more than the bits of the number of
        CPUs); 5.10 to 7.3.
    Ignores: nothing known.
    """
    return 4 * (cpus.bit_length() + 1)


def counted_cpus(era: SlabEra, *, possible: int, present: int) -> int:
    """The number of CPUs that ``wanted_objects`` counts: ``possible`` is nr_cpu_ids.

    Kernel: mm/slub.c, ``calculate_order``: nr_cpu_ids in 5.10, from 6.1 num_present_cpus() unless
        that is just 1, since some architectures know of no other CPU yet at early boot.
    Ignores: the candidates of 5.11, which counted the CPUs online at the moment; CPUs that were
        added after a cache was made.
    """
    return present if era.counts_present_cpus and present > 1 else possible


def page_order(size_bytes: int, page_size: int) -> int:
    """The smallest order whose block holds ``size_bytes`` (``get_order``).

    Kernel: include/asm-generic/getorder.h; every release.
    Ignores: nothing known.
    """
    return (-(-size_bytes // page_size) - 1).bit_length()


def order_limits(
    parameters: Mapping[str, int], era: SlabEra, *, tiny: bool, page_order_max: int
) -> OrderLimits:
    """The limits that the kernel's parameters set, in the order in which they were given:
    ``min_order``, ``max_order``, ``min_objects`` and ``debug_guardpage_minorder``.

    Kernel: mm/slub.c, setup_slub_min_order() and its neighbours; kmem_cache_init() for guard
        pages; 5.10, 6.1, 6.12, 7.2, 7.3. With CONFIG_SLUB_TINY the largest order is 1.
    Ignores: values that are no numbers.
    """
    limits = OrderLimits(max_order=1 if tiny else COSTLY_ORDER, page_order_max=page_order_max)
    for name, value in parameters.items():
        if name == "min_order":
            limits = replace(limits, min_order=value)
            if era.limits_follow_each_other:
                limits = replace(limits, max_order=max(limits.max_order, value))
        elif name == "max_order":
            limits = replace(limits, max_order=min(value, page_order_max))
            if era.limits_follow_each_other:
                limits = replace(limits, min_order=min(limits.min_order, limits.max_order))
        elif name == "min_objects":
            limits = replace(limits, min_objects=value)
    if parameters.get("debug_guardpage_minorder"):
        limits = replace(limits, max_order=0)
    return limits


def slub_order(
    size: int, *, cpus: int, limits: OrderLimits, page_size: int, era: SlabEra
) -> SlabOrder:
    """Order and objects of a slab whose objects lie ``size`` bytes apart.

    Wanted are ``wanted_objects`` in a slab and at most a sixteenth of it left over, in the
    smallest order from min_order to max_order; where no order does, an eighth, then a quarter may
    be left over. To 6.6 the wanted number then falls by one and all is tried again; from 6.7 it
    sets the least order once (as many as fit max_order), and a half may be left over. An object
    that does not fit max_order gets the smallest order that holds one.

    Kernel: mm/slub.c, ``calculate_order`` and ``slab_order``/``calc_slab_order``; 5.10, 6.1 (the
        same but for the CPUs), 6.12, 7.2, 7.3 (the same).
    Ignores: nothing known.
    """
    if era.gives_up_objects:
        order = _order_giving_up_objects(size, cpus, limits, page_size)
    else:
        order = _order_accepting_waste(size, cpus, limits, page_size)
    least = page_order(size, page_size)
    return SlabOrder(
        order=order,
        objects=(page_size << order) // size,
        fallback_order=least,
        fallback_objects=(page_size << least) // size,
    )


def _order_giving_up_objects(size: int, cpus: int, limits: OrderLimits, page_size: int) -> int:
    if (page_size << limits.min_order) // size > OBJECTS_MAX:
        return page_order(size * OBJECTS_MAX, page_size) - 1
    objects = min(
        limits.min_objects or wanted_objects(cpus), (page_size << limits.max_order) // size
    )
    while objects > 1:
        least = max(limits.min_order, page_order(objects * size, page_size))
        for fraction in (16, 8, 4):
            found = _first_order(size, least, limits.max_order, fraction, page_size)
            if found is not None:
                return found
        objects -= 1
    return max(limits.min_order, page_order(size, page_size))


def _order_accepting_waste(size: int, cpus: int, limits: OrderLimits, page_size: int) -> int:
    fitting = max((page_size << limits.max_order) // size, 1)
    objects = min(limits.min_objects or wanted_objects(cpus), fitting)
    least = max(limits.min_order, page_order(objects * size, page_size))
    if (page_size << least) // size > OBJECTS_MAX:
        return page_order(size * OBJECTS_MAX, page_size) - 1
    for fraction in (16, 8, 4, 2):
        found = _first_order(size, least, limits.max_order, fraction, page_size)
        if found is not None:
            return found
    return page_order(size, page_size)


def _first_order(size: int, least: int, most: int, fraction: int, page_size: int) -> int | None:
    """The first order that leaves at most one part in ``fraction`` of the slab over."""
    for order in range(least, most + 1):
        slab_bytes = page_size << order
        if slab_bytes % size <= slab_bytes // fraction:
            return order
    return None
