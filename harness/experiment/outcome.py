"""How runs and their workloads end, in the manifest's words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.errors import BootError, GuestTimeoutError, KernelCrashError, MmscopeError
from harness.machine.crash import Finding
from harness.record.manifest import Outcome, OutcomeKind, PhaseRecord

_OOM_LINE = re.compile(r"Out of memory: Kill")


def saw_oom(findings: Sequence[Finding]) -> bool:
    """Whether the guest's OOM killer is among what the console showed."""
    return any(_OOM_LINE.search(finding.line) for finding in findings)


def workload_outcome(phases: Sequence[PhaseRecord]) -> Outcome:
    """How a run ended that came to its end: by the worst of its workloads."""
    failed = [phase for phase in phases if phase.outcome == "failed"]
    if failed:
        names = ", ".join(f"{phase.name} (status {phase.status})" for phase in failed)
        return Outcome(
            kind=OutcomeKind.WORKLOAD_FAILED,
            message=f"workloads failed: {names}",
            fix="see their .stderr under workloads/ in the run directory",
            exit_code=4,
        )
    killed = [phase.name for phase in phases if phase.outcome == "oom-killed"]
    if killed:
        return Outcome(
            kind=OutcomeKind.OOM_KILLED, message=f"the OOM killer struck in {', '.join(killed)}"
        )
    return Outcome(kind=OutcomeKind.COMPLETED)


def phase_outcome(status: int, *, oom: bool) -> str:
    """``completed``, ``oom-killed`` (the guest's OOM killer struck meanwhile) or ``failed``."""
    if oom:
        return "oom-killed"
    return "failed" if status else "completed"


def outcome_of(error: BaseException) -> Outcome:
    """How a run that raised this has ended."""
    if isinstance(error, KeyboardInterrupt):
        return Outcome(kind=OutcomeKind.INTERRUPTED, message="interrupted", exit_code=130)
    kind = OutcomeKind.FAILED
    if isinstance(error, KernelCrashError):
        kind = OutcomeKind.PANICKED
    elif isinstance(error, GuestTimeoutError | BootError):
        kind = OutcomeKind.TIMED_OUT
    if isinstance(error, MmscopeError):
        return Outcome(kind=kind, message=error.message, fix=error.fix, exit_code=error.exit_code)
    return Outcome(kind=kind, message=f"{type(error).__name__}: {error}", exit_code=3)
