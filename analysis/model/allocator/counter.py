"""A zone's counter with the differences that each processor keeps to itself."""

from __future__ import annotations

from collections.abc import Mapping


class ZoneCounter:
    """One item of a zone's vm_stat, in pages.

    Kernel: mm/vmstat.c, ``__mod_zone_page_state`` and ``refresh_cpu_vm_stats``;
        include/linux/vmstat.h, ``zone_page_state``; 6.1 to 7.3.
    """

    __slots__ = ("differences", "thresholds", "value")

    def __init__(
        self, value: int, differences: Mapping[int, int], thresholds: Mapping[int, int]
    ) -> None:
        self.value = value
        """What all processors see."""
        self.differences = dict(differences)
        """By CPU: not yet in ``value``."""
        self.thresholds = dict(thresholds)
        """By CPU: beyond this a difference is handed over at once."""

    def add(self, cpu: int, pages: int) -> None:
        """Counts ``pages`` on a processor."""
        difference = self.differences[cpu] + pages
        if abs(difference) > self.thresholds[cpu]:
            self.value += difference
            difference = 0
        self.differences[cpu] = difference

    def fold(self, cpu: int) -> None:
        """A processor hands over what it holds."""
        self.value += self.differences[cpu]
        self.differences[cpu] = 0

    def seen(self) -> int:
        """The value as a watermark check reads it."""
        return max(self.value, 0)

    def exact(self) -> int:
        """The value with every difference."""
        return self.value + sum(self.differences.values())
