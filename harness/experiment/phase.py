"""One phase's load, run in a guest and written down."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from harness.deadline import StallClock
from harness.experiment.outcome import phase_outcome, saw_oom
from harness.experiment.plan import Step
from harness.record.manifest import PhaseRecord
from harness.record.rundir import RunDirectory, write_atomic
from harness.session.guest import Guest


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRun:
    """A step with all that decides its command: ready to run, any number of times."""

    number: int
    """From 1, in the order of the run: names its files."""
    step: Step
    seed: int
    node: int | None
    """As the guest's kernel numbers it."""
    marks: bool
    """Whether a sampler runs that takes the load's marks."""

    @property
    def stem(self) -> str:
        """``03-anon``."""
        return f"{self.number:02d}-{self.step.name}"

    def argv(self, turn: int = 0) -> list[str]:
        """The command of one of the phase's turns."""
        return self.step.argv(self.seed + turn, self.node, marks=self.marks)

    def record(self) -> PhaseRecord:
        """What the manifest says before the phase has ended."""
        return PhaseRecord(
            name=self.step.name,
            workload=self.step.phase.load.workload,
            argv=self.argv(),
            node=self.node,
            params=self.step.mechanism.model_dump(exclude={"workload"}),
        )


def run_load(
    run: PhaseRun,
    guest: Guest,
    record: PhaseRecord,
    directory: RunDirectory,
    note: Callable[[str], None],
) -> None:
    """Runs all turns of the load, until one fails; fills in the record, keeps what they print.

    Raises:
        MmscopeError: the guest or the channel to it failed, not the load.
    """
    phase = run.step.phase
    findings = len(guest.machine.console.findings)
    stdout: list[bytes] = []
    stderr: list[bytes] = []
    wall_s = 0.0
    for turn in range(phase.repeat):
        clock = StallClock(phase.stall_s, phase.ceiling_s)
        result = guest.agent.run(run.argv(turn), clock=clock)
        stdout.append(result.stdout)
        stderr.append(result.stderr)
        wall_s += result.wall_s
        record.status = result.status
        if result.status:
            break
    directory.workloads_path.mkdir(exist_ok=True)
    write_atomic(directory.workloads_path / f"{run.stem}.stdout", b"".join(stdout))
    write_atomic(directory.workloads_path / f"{run.stem}.stderr", b"".join(stderr))
    record.wall_s = round(wall_s, 3)
    oom = saw_oom(guest.machine.console.findings[findings:])
    record.outcome = phase_outcome(record.status or 0, oom=oom)
    note(f"{record.outcome} after {wall_s:.1f} s")
    if record.outcome == "failed":
        complaint = b"".join(stderr).decode(errors="replace").strip()[-500:]
        note(f"{shlex.join(result.argv)} → {result.status}: {complaint}")
