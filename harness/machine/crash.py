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
            r"watchdog: BUG: soft lockup|Watchdog detected hard LOCKUP|BUG: workqueue lockup"
            r"|rcu_\w+ (?:self-)?detected (?:expedited )?stall"
            r"|INFO: task .+:\d+ blocked (?:in I/O wait )?for more than"
        ),
    ),
    (FindingKind.INIT_FAILED, re.compile(r"^mmscope: failed: ")),
)


_TIME = re.compile(r"\[ *(\d+\.\d+)\]")
_REPORT_S = 12.0
"""What is printed within this time of the guest's clock belongs to a report of a lockup, which may
wait for ten seconds until each CPU has told its stack (lib/nmi_backtrace.c)."""
_REPORT_LINES = 100
"""Where the kernel prints no times (CONFIG_PRINTK_TIME): as many lines belong to it."""


class LockupReports:
    """Tells what a kernel prints about CPUs and tasks that are stuck from everything else.

    Such a report names registers and stacks in some sixty lines, and comes again every half minute:
    a sign of life of the watchdog alone.
    """

    def __init__(self) -> None:
        self._begin_s: float | None = None
        self._lines_left = 0

    @property
    def expects_lines(self) -> bool:
        """Whether lines without a time are of the last report."""
        return self._lines_left > 0

    def covers(self, line: str, finding: Finding | None) -> bool:
        """Whether the next line of a console, and what it is recognised as, is of a report."""
        stamp = _TIME.search(line)
        now_s = float(stamp[1]) if stamp else None
        if finding is not None and finding.kind is FindingKind.LOCKUP:
            self._begin_s = now_s
            self._lines_left = _REPORT_LINES if now_s is None else 0
            return True
        if now_s is None:
            self._lines_left -= 1
            return self._lines_left >= 0
        return self._begin_s is not None and 0 <= now_s - self._begin_s < _REPORT_S


def recognise(line: str) -> Finding | None:
    """The finding that one console line makes, if any."""
    for kind, pattern in _PATTERNS:
        if pattern.search(line):
            return Finding(kind=kind, line=line.strip())
    return None
