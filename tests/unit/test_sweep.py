"""Sweeps: their order, what is kept, what is tried again, and how they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import DiskFullError, RecordError, UsageError
from harness.experiment.comparison import Comparison, load_comparison
from harness.experiment.sweep import Ending, Job, Sweep
from harness.record.manifest import OutcomeKind
from harness.record.sweep import SWEEP_NAME, SweepRecord, read_sweep, write_sweep
from tests.unit.test_comparison import SOUND


@dataclass
class Host:
    """Jobs that end at once, or as they are told."""

    endings: dict[tuple[str, int], OutcomeKind] = field(default_factory=dict)
    interrupt_at: int | None = None
    hang: bool = False
    hanging: frozenset[tuple[str, int]] = frozenset()
    last_looks: int = 0
    """So often is a process still there after it was asked to end."""
    started: list[tuple[str, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What became of processes from without, in order."""
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
        self._asked_to_end = False
        self._last_looks = host.last_looks

    @property
    def _name(self) -> str:
        return f"{self._job.variant.name}{self._job.plan.seed}"

    def poll(self) -> int | None:
        if not self._asked_to_end:
            return None
        self._last_looks -= 1
        return -15 if self._last_looks < 0 else None

    def terminate(self) -> None:
        self._host.told.append(f"terminate {self._name}")
        self._asked_to_end = True

    def kill(self) -> None:
        self._host.told.append(f"kill {self._name}")

    def ended(self) -> Ending | None:
        key = self._job.variant.name, self._job.plan.seed
        if self._asked_to_end:
            if self.poll() is None:
                return None
            self._host.told.append(f"ended {self._name}")
            kind = self._host.endings.get(key, OutcomeKind.INTERRUPTED)
            return Ending(outcome=kind, message="as told", directory=self._directory)
        self._asked += 1
        if self._host.hang or key in self._host.hanging or self._asked < 2:
            return None
        self._host.running -= 1
        kind = self._host.endings.get(key, OutcomeKind.COMPLETED)
        return Ending(outcome=kind, message="as told", directory=self._directory)


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
    assert [each.split()[0] for each in host.told] == ["terminate", "ended"] * 2


def _disk_full(monkeypatch: pytest.MonkeyPatch, *, after: int) -> list[int]:
    """Records cannot be written any more after so many; returns the tries after that."""
    tries: list[int] = []
    written = 0

    def write(directory: Path, record: SweepRecord) -> None:
        nonlocal written
        if written >= after:
            tries.append(written)
            raise DiskFullError("no space left", fix="make some")
        written += 1
        write_sweep(directory, record)

    monkeypatch.setattr("harness.experiment.sweep.write_sweep", write)
    return tries


def test_all_are_told_to_end_before_any_is_waited_for(
    comparison: Comparison, tmp_path: Path
) -> None:
    host = Host(hang=True, interrupt_at=3, last_looks=2)
    with pytest.raises(KeyboardInterrupt):
        execute(Sweep.open(comparison, tmp_path, 2, 4), host)
    told = [each.split()[0] for each in host.told]
    assert told == ["terminate"] * 3 + ["ended"] * 3
    runs = read_sweep(tmp_path / "mine").runs
    assert [run.message for run in runs[:3]] == ["interrupted"] * 3


def test_one_that_was_through_is_not_stopped_and_stays_as_it_was(
    comparison: Comparison, tmp_path: Path
) -> None:
    """The first of two has ended and is on record when the interrupt comes with the second."""
    sweep = Sweep.open(comparison, tmp_path, 1, 2)
    (_, first), (_, second) = sweep.record.order
    host = Host(endings={(first, 1): OutcomeKind.PANICKED}, hanging=frozenset({(second, 1)}))

    def note(text: str) -> None:
        if "panicked" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.execute(host.start, stage=lambda _: None, note=note)
    assert host.told == [f"terminate {second}1", f"ended {second}1"]
    outcomes = {run.variant: (run.outcome, run.message) for run in read_sweep(sweep.directory).runs}
    assert outcomes == {
        first: (OutcomeKind.PANICKED, "as told"),
        second: (OutcomeKind.INTERRUPTED, "interrupted"),
    }


def test_a_full_disk_leaves_no_guest_running(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(hanging=frozenset({("a", 1), ("b", 1), ("a", 2)}))
    sweep = Sweep.open(comparison, tmp_path, 2, 4)
    tries = _disk_full(monkeypatch, after=4)
    with pytest.raises(DiskFullError):
        execute(sweep, host)
    assert sorted(host.told[:3]) == ["terminate a1", "terminate a2", "terminate b1"]
    assert len(tries) == 2, "the run that had ended, then what was stopped, at once"
    outcomes = {(run.variant, run.repeat): run.outcome for run in sweep.record.runs}
    assert outcomes.pop(("b", 2)) is OutcomeKind.COMPLETED
    assert set(outcomes.values()) == {OutcomeKind.INTERRUPTED}


def test_one_that_is_through_when_it_is_told_to_end_is_kept(
    comparison: Comparison, tmp_path: Path
) -> None:
    host = Host(hang=True, interrupt_at=1, endings={("a", 1): OutcomeKind.COMPLETED})
    host.endings["b", 1] = OutcomeKind.COMPLETED
    with pytest.raises(KeyboardInterrupt):
        execute(Sweep.open(comparison, tmp_path, 1, 2), host)
    assert [run.kept for run in read_sweep(tmp_path / "mine").runs] == [True, False]


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
