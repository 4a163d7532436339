"""Sweeps: their order, what is kept, what is tried again, and how they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import RecordError, UsageError
from harness.experiment.comparison import Comparison, load_comparison
from harness.experiment.sweep import Ending, Job, Sweep
from harness.record.manifest import OutcomeKind
from harness.record.sweep import SWEEP_NAME, read_sweep
from tests.unit.test_comparison import SOUND


@dataclass
class Host:
    """Jobs that end at once, or as they are told."""

    endings: dict[tuple[str, int], OutcomeKind] = field(default_factory=dict)
    interrupt_at: int | None = None
    hang: bool = False
    started: list[tuple[str, int]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    most_at_once: int = 0
    running: int = 0

    def start(self, job: Job, tell: Callable[[str], None]) -> FakeProcess:
        if self.interrupt_at is not None and len(self.started) == self.interrupt_at:
            raise KeyboardInterrupt
        self.started.append((job.variant.name, job.plan.seed))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        tell("boot")
        directory = job.runs_root / f"run-{job.plan.seed}"
        directory.mkdir(parents=True, exist_ok=True)
        return FakeProcess(self, job, directory)


class FakeProcess:
    def __init__(self, host: Host, job: Job, directory: Path) -> None:
        self._host = host
        self._job = job
        self._directory = directory
        self._asked = 0

    def ended(self) -> Ending | None:
        self._asked += 1
        if self._host.hang or self._asked < 2:
            return None
        self._host.running -= 1
        key = self._job.variant.name, self._job.plan.seed
        kind = self._host.endings.get(key, OutcomeKind.COMPLETED)
        return Ending(outcome=kind, message="as told", directory=self._directory)

    def stop(self, reason: str) -> Ending:
        self._host.stopped.append(reason)
        return Ending(outcome=OutcomeKind.INTERRUPTED, message=reason, directory=self._directory)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    return load_comparison(str(path))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def execute(sweep: Sweep, host: Host, **options: object) -> list[str]:
    notes: list[str] = []
    sweep.execute(host.start, stage=notes.append, note=notes.append, **options)  # type: ignore[arg-type]
    return notes


def test_every_run_is_made_in_the_recorded_order(comparison: Comparison, tmp_path: Path) -> None:
    sweep, host = Sweep.open(comparison, tmp_path, 3, 1), Host()
    execute(sweep, host)
    record = read_sweep(tmp_path / "mine")
    assert [(name, repeat) for repeat, name in record.order] == host.started
    assert {run.seed for run in record.runs} == {1, 2, 3}
    assert all(run.kept and run.wall_s is not None for run in record.runs)
    assert {run.directory.split("/")[0] for run in record.runs} == {"a", "b"}
    assert sweep.left() == []
    assert host.most_at_once == 1


def test_several_run_at_once(comparison: Comparison, tmp_path: Path) -> None:
    host = Host()
    execute(Sweep.open(comparison, tmp_path, 4, 3), host)
    assert host.most_at_once == 3
    assert len(host.started) == 8


def test_a_failure_does_not_end_the_sweep_and_is_tried_again(
    comparison: Comparison, tmp_path: Path
) -> None:
    host = Host(endings={("b", 2): OutcomeKind.PANICKED})
    sweep = Sweep.open(comparison, tmp_path, 3, 1)
    notes = execute(sweep, host)
    assert len(host.started) == 6
    assert sweep.left() == [(2, "b")]
    assert any("b, repeat 2: panicked: as told" in note for note in notes)
    again, second = Sweep.open(comparison, tmp_path, 3, 1), Host()
    execute(again, second)
    assert second.started == [("b", 2)]
    assert again.left() == []


def test_an_interrupted_sweep_goes_on(comparison: Comparison, tmp_path: Path) -> None:
    host = Host(interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        execute(Sweep.open(comparison, tmp_path, 2, 2), host)
    record = read_sweep(tmp_path / "mine")
    outcomes = {(run.variant, run.repeat): run.outcome for run in record.runs}
    assert OutcomeKind.RUNNING not in [outcomes[key] for key in host.started[:2]]
    done = [key for key, outcome in outcomes.items() if outcome is OutcomeKind.COMPLETED]
    second = Host()
    execute(Sweep.open(comparison, tmp_path, 2, 1), second)
    assert sorted(second.started + done) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_what_hangs_is_ended_and_named(comparison: Comparison, tmp_path: Path) -> None:
    short = comparison.model_copy(update={"ceiling_s": 1e-6})
    host = Host(hang=True)
    sweep = Sweep.open(short, tmp_path, 1, 1)
    execute(sweep, host)
    assert {run.outcome for run in sweep.record.runs} == {OutcomeKind.TIMED_OUT}
    assert all("ceiling_s" in run.message for run in sweep.record.runs)
    assert len(host.stopped) == 2


def test_only_some_variants(comparison: Comparison, tmp_path: Path) -> None:
    host = Host()
    sweep = Sweep.open(comparison, tmp_path, 2, 1)
    execute(sweep, host, only=("b",))
    assert host.started == [("b", 1), ("b", 2)]
    assert sweep.left(("b",)) == []
    assert len(sweep.left()) == 2


def test_repeats_are_added_not_taken_away(comparison: Comparison, tmp_path: Path) -> None:
    execute(Sweep.open(comparison, tmp_path, 2, 1), Host())
    host = Host()
    execute(Sweep.open(comparison, tmp_path, 3, 1), host)
    assert sorted(host.started) == [("a", 3), ("b", 3)]
    assert Sweep.open(comparison, tmp_path, 1, 1).record.repeats == 3


def test_another_comparison_is_not_mixed_in(comparison: Comparison, tmp_path: Path) -> None:
    Sweep.open(comparison, tmp_path, 1, 1)
    other = comparison.model_copy(update={"question": "Or is it?"})
    with pytest.raises(UsageError, match="another mine: question differ"):
        Sweep.open(other, tmp_path, 1, 1)


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1}', "\udcff"])
def test_a_damaged_record_is_named(comparison: Comparison, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / SWEEP_NAME).write_text(text, errors="surrogateescape")
    with pytest.raises(RecordError, match=SWEEP_NAME):
        Sweep.open(comparison, tmp_path, 1, 1)
