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
    (FindingKind.LOCKUP, re.compile(r"watchdog: BUG: soft lockup|rcu_\w+ self-detected stall")),
    (FindingKind.INIT_FAILED, re.compile(r"^mmscope: failed: ")),
)


def recognise(line: str) -> Finding | None:
    """The finding that one console line makes, if any."""
    for kind, pattern in _PATTERNS:
        if pattern.search(line):
            return Finding(kind=kind, line=line.strip())
    return None
