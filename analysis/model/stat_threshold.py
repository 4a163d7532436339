"""How many pages a processor may keep to itself before a zone's counters hear of them."""

from __future__ import annotations

LARGEST = 125
"""The differences are signed bytes; the kernel stays below what one can hold."""


def pressure_threshold(low_pages: int, min_pages: int, cpus: int) -> int:
    """A zone's threshold in pages while its kswapd is awake, from its watermarks.

    Kernel: mm/vmstat.c, ``calculate_pressure_threshold``, set by kswapd_try_to_sleep() in
        mm/vmscan.c when kswapd wakes; 4.19 to 7.2. It is meant to be below the normal one, and
        is so for the watermarks of early boot; once khugepaged has raised min_free_kbytes it is
        often the larger of the two.
    Ignores: zones that never get it, since their normal threshold was no danger to the low
        watermark when it was computed (``percpu_drift_mark``).
    """
    return min(LARGEST, max(1, (low_pages - min_pages) // cpus))


def normal_threshold(managed_pages: int, cpus: int, page_shift: int) -> int:
    """A zone's threshold in pages while its kswapd sleeps.

    Kernel: mm/vmstat.c, ``calculate_normal_threshold``; 4.19 to 7.3.
    Ignores: nothing known.
    """
    units_of_128_mib = managed_pages >> (27 - page_shift)
    return min(LARGEST, 2 * cpus.bit_length() * (1 + units_of_128_mib.bit_length()))
