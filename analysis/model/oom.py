"""Whom the OOM killer takes, and what /proc/PID/oom_score says of it beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.model.release import Release, changed_since

OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class OomTask:
    """What of a process goes into its badness."""

    pid: int
    rss_pages: int
    """File, anonymous and shared memory."""
    swap_entries: int
    page_table_bytes: int
    oom_score_adj: int
    unkillable: bool = False
    """Process 1, a kernel thread, one that was killed already or lies in vfork()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OomEra:
    """How a release counts.

    Kernel: mm/oom_kill.c and fs/proc/base.c of 4.19, 5.10.262, 6.1.192 and 7.3~rc7; mm/oom_kill.c
        of 6.12.117 and 7.2.13 besides.
    Ignores: what a vendor took back to an older release; releases before 4.17 (bonus for root,
        levels of page tables counted apart).
    """

    raised_to_one: bool
    """A process that may be killed has at least one point, and one that may not has none (to 5.8,
    "make the calculation of oom badness more accurate" changed it)."""
    score_shifted: bool
    """/proc shows two thirds of the share of memory plus 1000, so that negative points show (since
    5.9, the same change); before, the share itself."""
    exact_memory: bool
    """A process's memory is summed over its per-cpu counters, as in /proc/PID/status; before,
    badness takes what is folded already, as in /proc/PID/stat (from a release between 6.12 and 7.2
    on)."""


def oom_eras_of(release: Release) -> tuple[OomEra, ...]:
    """How a release may count; in several ways where its source was not compared.

    Kernel: see ``OomEra``.
    Ignores: see ``OomEra``.
    """
    return tuple(
        OomEra(
            raised_to_one=release < Release(5, 9),
            score_shifted=release >= Release(5, 9),
            exact_memory=exact_memory,
        )
        for exact_memory in changed_since(release, Release(6, 12), Release(7, 2))
    )


def oom_badness(task: OomTask, *, total_pages: int, page_bytes: int, era: OomEra) -> int | None:
    """Points of a process in pages; None: it is never chosen.

    ``total_pages``: RAM that the kernel manages, and swap. The adjustment is in thousandths of it,
    which are cut to whole pages first.

    Raises:
        ValueError: an adjustment outside -1000 … 1000.

    Kernel: mm/oom_kill.c, ``oom_badness``; 4.19 to 7.3. Which of two counts of its memory it takes
        is ``OomEra.exact_memory``; the tasks' table of the kernel's messages shows the same one.
    Ignores: a constraint to nodes or a memory cgroup, where total_pages are theirs.
    """
    adj = task.oom_score_adj
    if not OOM_SCORE_ADJ_MIN <= adj <= OOM_SCORE_ADJ_MAX:
        raise ValueError(
            f"oom_score_adj {adj}: expected {OOM_SCORE_ADJ_MIN} to {OOM_SCORE_ADJ_MAX}"
        )
    if task.unkillable or adj == OOM_SCORE_ADJ_MIN:
        return None
    points = task.rss_pages + task.swap_entries + task.page_table_bytes // page_bytes
    points += adj * (total_pages // 1000)
    return max(points, 1) if era.raised_to_one else points


def oom_score(task: OomTask, *, total_pages: int, page_bytes: int, era: OomEra) -> int:
    """The number in /proc/PID/oom_score.

    Raises:
        ValueError: as ``oom_badness``, or no memory at all.

    Kernel: fs/proc/base.c, ``proc_oom_score``; C divides towards zero.
    Ignores: as ``oom_badness``.
    """
    if total_pages <= 0:
        raise ValueError(f"{total_pages} pages of memory")
    badness = oom_badness(task, total_pages=total_pages, page_bytes=page_bytes, era=era)
    if badness is None:
        return 0
    share = abs(badness) * 1000 // total_pages * (1 if badness >= 0 else -1)
    return (1000 + share) * 2 // 3 if era.score_shifted else share


def oom_victim(
    tasks: Iterable[OomTask], *, total_pages: int, page_bytes: int, era: OomEra
) -> OomTask | None:
    """Who is killed: the most points, of equals the last in the order of the kernel's list.

    ``tasks`` in that order, which is that of the table in the kernel's messages. None: nobody can
    be killed, and the kernel panics.

    Raises:
        ValueError: as ``oom_badness``.

    Kernel: mm/oom_kill.c, ``select_bad_process`` and ``oom_evaluate_task``; 5.10 to 7.3. 4.19 keeps
        the first of equals.
    Ignores: vm.oom_kill_allocating_task, processes that asked to be taken first (swapoff, KSM),
        and that a child sharing nothing may be taken instead of its parent (to 4.20).
    """
    chosen: OomTask | None = None
    most: int | None = None
    for task in tasks:
        points = oom_badness(task, total_pages=total_pages, page_bytes=page_bytes, era=era)
        if points is None or (most is not None and points < most):
            continue
        if era.raised_to_one and points == most:
            continue
        chosen, most = task, points
    return chosen
