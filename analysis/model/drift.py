"""Two files that show one quantity were read at two moments: how far apart may they be?

The kernel prints most page counts from counters that every CPU changes through a small private
difference, so a counter that is summed twice in two ways (per zone and for the machine) may
differ by what the CPUs still keep to themselves. And between two reads the machine runs on. Both
are told apart here: the first is a bound, the second is excluded by reading a file again
afterwards and finding it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.model.stat_threshold import normal_threshold, pressure_threshold

FAR = 100
"""A round of readings takes a moment: no number moves so much more within it than all pages did
until the next round."""


class Finding(Enum):
    """What two readings say about a law that makes them equal."""

    EQUAL = "equal"
    WITHIN = "within"
    """They differ by no more than the CPUs may keep to themselves."""
    OFF = "off"
    """They differ by more, though nothing moved between them."""
    MOVED = "moved"
    """They differ by more, and something moved, or nothing says that it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One side of a law: the terms that a file showed, and showed again later, if it was read
    again. All second readings come after all first ones."""

    terms: tuple[int, ...]
    again: tuple[int, ...] | None = None

    @property
    def total(self) -> int:
        """The sum of the terms, in their unit."""
        return sum(self.terms)

    @property
    def steady(self) -> bool:
        """Whether the file was read again and every term was the same."""
        return self.again == self.terms


def private_pages(thresholds: Iterable[int], *, awake: int = 0) -> int:
    """How far a counter may lag behind: the sum of what its CPUs may keep, one threshold each.

    ``awake`` is the threshold of a zone while its kswapd is awake, 0 where it never was: a CPU
    keeps what it had under a larger threshold when a smaller one is set.

    Kernel: mm/vmstat.c, ``mod_zone_state`` and ``mod_node_state``: a CPU's difference stays within
        its threshold, either way; ``set_pgdat_percpu_threshold`` changes the threshold and leaves
        the difference; 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_SMP.
    Ignores: that CPUs hand over all they keep about once in vm.stat_interval.
    """
    return sum(max(threshold, awake) for threshold in thresholds)


def kswapd_worked(counters: Mapping[str, int]) -> bool:
    """Whether any kswapd was ever awake, by /proc/vmstat; where that is silent, it may have been.

    Kernel: mm/vmscan.c, ``balance_pgdat`` counts PAGEOUTRUN each time it is begun, which is what
        a kswapd does once it is woken; 5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_VM_EVENT_COUNTERS.
    Ignores: one that was woken only to be frozen or stopped.
    """
    return counters.get("pageoutrun", 1) > 0


def zone_private_pages(
    thresholds: Sequence[int], *, low_pages: int, min_pages: int, kswapd_awake: bool
) -> int:
    """``private_pages`` of a zone with these watermarks; a threshold for each CPU.

    ``kswapd_awake``: whether its kswapd is, or was.

    Kernel: as ``private_pages``, and ``pressure_threshold``.
    Ignores: as they do.
    """
    pressed = pressure_threshold(low_pages, min_pages, len(thresholds)) if thresholds else 0
    return private_pages(thresholds, awake=pressed if kswapd_awake else 0)


def node_threshold(managed_pages: Iterable[int], cpus: int, page_shift: int) -> int:
    """What a CPU may keep of a node's counter: the largest threshold of the node's zones.

    Kernel: mm/vmstat.c, ``refresh_zone_stat_thresholds``; 5.10, 6.1, 6.12, 7.2 and 7.3;
        CONFIG_SMP. The lower threshold while kswapd is awake is the zones' alone.
    Ignores: zones whose pages were not all there when it was last computed (deferred struct page
        initialisation, memory hotplug).
    """
    populated = [pages for pages in managed_pages if pages]
    return max((normal_threshold(pages, cpus, page_shift) for pages in populated), default=0)


def moved_pages(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many pages were allocated or freed between two readings of /proc/vmstat.

    No count of pages in use can have moved further than this in between, there or back.

    Kernel: mm/vmstat.c, the events ``pgalloc_*`` and ``pgfree``, which count pages, not blocks;
        5.10, 6.1, 6.12, 7.2 and 7.3; CONFIG_VM_EVENT_COUNTERS.
    Ignores: pages that go to a CPU's list and back without having been allocated.
    """
    names = [name for name in before if name.startswith("pgalloc_") or name == "pgfree"]
    return sum(after.get(name, 0) - before[name] for name in names)


def settle(
    first: Reading, second: Reading, *, private: int = 0, moved: int | None = None
) -> Finding:
    """Judges a law ``first = second`` where the file of ``second`` was read after that of
    ``first``.

    ``private`` is what the CPUs may keep to themselves; ``moved`` is ``moved_pages`` of the time
    between the first readings and the second ones, None where that was not recorded. Files that
    moved between their readings cannot settle a law, but neither can they explain a difference of
    more than ``FAR`` times all that moved from one round of readings to the next.

    Kernel: as ``private_pages``.
    Ignores: a number that moved and came back while its file shows the same twice, beyond what
        ``moved`` allows for.
    """
    if first.total == second.total:
        return Finding.EQUAL
    if abs(first.total - second.total) <= private:
        return Finding.WITHIN
    if first.steady:
        left, right = first.total, second.total  # the second file was read between the two
    elif second.steady and first.again is not None:
        left, right = sum(first.again), second.total  # and here the first file's second reading
    else:
        far = moved is not None and abs(first.total - second.total) > private + FAR * (moved + 1)
        return Finding.OFF if far else Finding.MOVED
    difference = abs(left - right)
    if difference == 0:
        return Finding.EQUAL
    if difference <= private:
        return Finding.WITHIN
    return Finding.MOVED if difference <= private + (moved or 0) else Finding.OFF
