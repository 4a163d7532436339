"""How many pages the per-cpu lists of a zone move at once and hold at most."""

from __future__ import annotations

MIN_PERCPU_PAGELIST_HIGH_FRACTION = 8
"""No CPU of a node alone may hold more than this part of a zone, tuned or not."""


def zone_batchsize(managed_pages: int, page_size_bytes: int, *, limit_kib: int = 1024) -> int:
    """Pages that move between a zone and a per-cpu list at once: 0, 1, 3, 7, 15 …

    A quarter of a thousandth of the zone (of ``limit_kib`` if that is less), one and a half times
    that rounded down to a power of two, less one: odd lengths share the caches better. Lists take 1
    where this gives 0.

    Kernel: mm/page_alloc.c, ``zone_batchsize``; 4.19, 5.10, 6.1 and 6.12 the same, 7.2 and 7.3
        divide by 4096 at once and say 1 instead of 0: the same batch in every list. CONFIG_MMU.
    Ignores: kernels without MMU, whose batch is 1.
    """
    batch = min(managed_pages // 1024, limit_kib * 1024 // page_size_bytes) // 4
    batch = max(1, batch)
    return _rounddown_pow_of_two(batch + batch // 2) - 1


def pageset_batch(batchsize: int) -> int:
    """``batch`` of a per-cpu list, from ``zone_batchsize``.

    Kernel: mm/page_alloc.c, ``pageset_set_batch`` (4.19, 5.10),
        ``zone_set_pageset_high_and_batch`` (6.1 to 7.3): at least 1.
    Ignores: nothing known.
    """
    return max(1, batchsize)


def high_from_batch(batchsize: int) -> int:
    """``high`` of a per-cpu list before 5.14: six batches; 0 where the batch size is 0.

    Kernel: mm/page_alloc.c, ``pageset_set_batch``; 4.19 and 5.10.
    Ignores: vm.percpu_pagelist_fraction: see ``sizes_by_fraction``.
    """
    return 6 * batchsize


def sizes_by_fraction(managed_pages: int, fraction: int, page_size_bytes: int) -> tuple[int, int]:
    """(high, batch) with vm.percpu_pagelist_fraction, before 5.14.

    Every CPU may hold 1/fraction of the zone, and moves a quarter of that, at most 8 pages for each
    bit of an address in a page (96 with 4 KiB pages).

    Raises:
        ValueError: a fraction of 0 means that it is not used.

    Kernel: mm/page_alloc.c, ``pageset_set_high`` and ``pageset_set_high_and_batch``; 4.19, 5.10.
    Ignores: nothing known.
    """
    if fraction <= 0:
        raise ValueError(f"percpu_pagelist_fraction {fraction}: expected at least 8")
    high = managed_pages // fraction
    page_shift = page_size_bytes.bit_length() - 1
    return high, min(max(1, high // 4), page_shift * 8)


def zone_highsize(total_pages: int, batch: int, cpus: int) -> int:
    """Pages that a per-cpu list may hold: its share of ``total_pages``, at least four batches.

    ``total_pages``: the zone's low watermark (full lists then do not wake kswapd too early), or
    1/fraction of its managed pages. ``cpus``: see ``sharing_cpus``.

    Kernel: mm/page_alloc.c, ``zone_highsize``; 6.1, 6.12, 7.2 and 7.3 the same; CONFIG_MMU.
    Ignores: kernels without MMU, where it is 0.
    """
    return max(total_pages // cpus, 4 * batch)


def sharing_cpus(node_cpus: int, online_cpus: int) -> int:
    """CPUs among which a zone's pages are split: those of its node, all if that has none.

    Kernel: mm/page_alloc.c, ``zone_highsize``: ``cpumask_of_node``, else ``num_online_cpus``; 6.1
        to 7.3.
    Ignores: CPUs that are present but offline, which some architectures (powerpc) leave in the
        mask of their node.
    """
    return node_cpus or online_cpus


def high_limits(
    managed_pages: int, low_pages: int, batch: int, cpus: int, *, fraction: int = 0
) -> tuple[int, int]:
    """(high_min, high_max) of the zone's per-cpu lists, between which ``high`` tunes itself.

    From the low watermark to an eighth of the zone, each split over ``cpus``. With
    vm.percpu_pagelist_high_fraction both are that fraction, and ``high`` does not move.

    Kernel: mm/page_alloc.c, ``zone_set_pageset_high_and_batch``; 6.12, 7.2 and 7.3. 6.1 has
        ``high_min`` alone, as ``high``.
    Ignores: nothing known.
    """
    if fraction:
        fixed = zone_highsize(managed_pages // fraction, batch, cpus)
        return fixed, fixed
    largest = managed_pages // MIN_PERCPU_PAGELIST_HIGH_FRACTION
    return zone_highsize(low_pages, batch, cpus), zone_highsize(largest, batch, cpus)


def _rounddown_pow_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)
