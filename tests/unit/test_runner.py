"""What a run says of its workloads, and which names it takes from a guest."""

from __future__ import annotations

import pytest

from harness.errors import SessionError
from harness.experiment.outcome import phase_outcome, workload_outcome
from harness.experiment.preparation import guest_file
from harness.record.manifest import OutcomeKind, PhaseRecord


def phase(name: str, status: int, *, oom: bool = False) -> PhaseRecord:
    outcome = phase_outcome(status, oom=oom)
    return PhaseRecord(
        name=name, workload="x", argv=[], node=None, params={}, status=status, outcome=outcome
    )


def test_a_failed_workload_is_no_completed_run() -> None:
    outcome = workload_outcome([phase("good", 0), phase("bad", 127)])
    assert outcome.kind is OutcomeKind.WORKLOAD_FAILED
    assert "bad (status 127)" in outcome.message
    assert outcome.exit_code == 4


def test_an_oom_kill_is_data() -> None:
    outcome = workload_outcome([phase("good", 0), phase("hog", 137, oom=True)])
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.OOM_KILLED, 0)
    assert "hog" in outcome.message


def test_all_good() -> None:
    assert workload_outcome([phase("good", 0)]).kind is OutcomeKind.COMPLETED


def test_files_that_were_asked_for_are_taken() -> None:
    assert guest_file("/proc/sys/vm/min_free_kbytes") == "proc/sys/vm/min_free_kbytes"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/sys/vm/../../../etc/x", "/proc/sys/vm/../../../../tmp/x", "x"]
)
def test_a_guest_does_not_name_files_on_the_host(path: str) -> None:
    with pytest.raises(SessionError, match="nobody asked for"):
        guest_file(path)
