"""Recognise in console text that a kernel is dying, or that it killed for memory."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class FindingKind(enum.Enum):
    PANIC = "kernel panic"
    OOPS = "kernel oops"
    LOCKUP = "lockup"
    OOM_KILL = "OOM kill"
    INIT_FAILED = "guest set-up failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    kind: FindingKind
    line: str

    @property
    def is_fatal(self) -> bool:
        """Whether the guest is of no use after it."""
        return self.kind in (FindingKind.PANIC, FindingKind.OOPS, FindingKind.INIT_FAILED)


# The kernel's own wording, as printed by panic(), oops/die handlers of x86 and arm64, the
# watchdogs and the OOM killer (mm/oom_kill.c); the first match of a line counts.
_PATTERNS = (
    (FindingKind.PANIC, re.compile(r"Kernel panic - not syncing")),
    (FindingKind.PANIC, re.compile(r"Out of memory and no killable processes")),
    (FindingKind.OOM_KILL, re.compile(r"(?:Out of memory|Memory cgroup out of memory): Kill")),
    (
        FindingKind.OOPS,
        re.compile(
            r"BUG: (?:unable to handle|kernel NULL pointer|Bad page)|Internal error: Oops"
            r"|Unable to handle kernel|kernel BUG at |general protection fault"
        ),
    ),
    (
        FindingKind.LOCKUP,
        re.compile(
            r"watchdog: BUG: soft lockup|rcu_\w+ (?:self-)?detected stall|BUG: workqueue lockup"
            r"|INFO: task \S+ blocked for more than"
        ),
    ),
    (FindingKind.INIT_FAILED, re.compile(r"^mmscope: failed: ")),
)


_TIME = re.compile(r"\[ *(\d+\.\d+)\] ")
_REPORT_S = 1.0
"""What is printed within this time of the guest's clock belongs to a report of a lockup."""


class LockupReports:
    """Tells what a kernel prints about CPUs and tasks that are stuck from everything else.

    Such a report names registers and stacks in some sixty lines, and comes again every half minute:
    a sign of life of the watchdog alone.
    """

    def __init__(self) -> None:
        self._end_s = -1.0

    def covers(self, line: str, finding: Finding | None) -> bool:
        """Whether the next line of a console, and what it is recognised as, is of a report."""
        stamp = _TIME.search(line)
        now_s = float(stamp[1]) if stamp else None
        if finding is not None and finding.kind is FindingKind.LOCKUP:
            self._end_s = (now_s or 0.0) + _REPORT_S
            return True
        return now_s is not None and now_s < self._end_s


def recognise(line: str) -> Finding | None:
    """The finding that one console line makes, if any."""
    for kind, pattern in _PATTERNS:
        if pattern.search(line):
            return Finding(kind=kind, line=line.strip())
    return None
