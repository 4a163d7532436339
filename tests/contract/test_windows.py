"""Traced windows: in which order things happen, and what is left when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.errors import (
    GuestTimeoutError,
    LostMachineError,
    MemoryReadError,
    QmpError,
    SessionError,
    WorkloadFailedError,
)
from harness.experiment.quiet import alike, wait_quiet
from harness.experiment.runner import Run
from harness.experiment.window import SampleShelf, Window
from harness.record.frames import FrameType, read_frames
from harness.record.manifest import Manifest, OutcomeKind, WindowRecord
from harness.record.memory import MemorySample, load_memory_sample
from harness.record.rundir import RunDirectory
from tests.conftest import qemu_pids
from tests.contract.fake_run import Silent, fake_request
from tests.contract.fake_window import (
    FakeInstruments,
    FakeSampler,
    FakeTracer,
    Journal,
    empty_sample,
)

FakeQemu = Callable[[str], None]

PHASES: list[dict[str, object]] = [
    {"name": "first", "load": {"workload": "command", "command": ["true"]}},
    {
        "name": "anon",
        "traced": True,
        "again": True,
        "load": {"workload": "command", "command": ["touch"]},
        "stall_s": 2,
        "ceiling_s": 30,
    },
    {
        "name": "forks",
        "traced": True,
        "repeat": 3,
        "load": {"workload": "fragment", "bytes": "1M", "pattern": "stride:2"},
    },
]
PLAN: dict[str, object] = {
    "name": "fake",
    "machine": {"nodes": ["256M"]},
    "setup": ["echo setup"],
    "phases": PHASES,
}
WINDOWS = [
    ["begin 02-anon", "sample anon/begin full", "sample anon/end full", "end"],
    ["begin 03-anon-again", "sample anon-again/begin full", "sample anon-again/end full", "end"],
    ["begin 04-forks", "sample forks/begin full", "sample forks/end full", "end"],
]


def run_plan(
    directory: Path,
    journal: Journal,
    plan: dict[str, object] = PLAN,
    *,
    lost: Sequence[int] = (),
) -> Callable[[], RunDirectory]:
    return Run(fake_request(directory, plan), Silent(), FakeInstruments(journal, lost)).execute


def manifest_of(root: Path) -> Manifest:
    (path,) = (root / "runs").iterdir()
    return RunDirectory(path).read_manifest()


def test_every_window_runs_on_a_clone_of_its_own(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    journal = Journal()
    before = qemu_pids()
    directory = run_plan(tmp_path, journal)()
    assert qemu_pids() == before
    expected = ["prepare"]
    for window in WINDOWS:
        expected += ["on a clone", *window]
    assert journal.entries == expected
    manifest = directory.read_manifest()
    assert manifest.outcome.kind is OutcomeKind.COMPLETED
    assert [(w.name, w.trace, w.again_of) for w in manifest.windows] == [
        ("anon", "trace/02-anon", None),
        ("anon-again", "trace/03-anon-again", "anon"),
        ("forks", "trace/04-forks", None),
    ]
    assert {window.quiet_begin for window in manifest.windows} == {True}
    names = [name for window in manifest.windows for name in window.samples]
    assert names == sorted(names)
    labels = []
    for number, name in enumerate(names):
        sample = load_memory_sample(directory.path / name)
        assert sample.meta["sequence"] == number
        labels.append(sample.label)
    assert labels[:3] == ["anon/begin", "anon/end", "anon-again/begin"]
    assert all((directory.path / (w.clone or "") / "qemu/argv").is_file() for w in manifest.windows)
    assert set(names) < set(manifest.files)


def test_a_window_that_lost_events_is_taken_again_once(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    journal = Journal()
    manifest = run_plan(tmp_path, journal, lost=[0, 1, 2])().read_manifest()
    assert [(w.name, w.again_of, w.retaken_as) for w in manifest.windows] == [
        ("anon", None, None),
        ("anon-again", "anon", "anon-again-retaken"),
        ("anon-again-retaken", "anon-again", None),
        ("forks", None, None),
    ]
    assert [phase.name for phase in manifest.phases[1:]] == [w.name for w in manifest.windows]
    assert len({window.clone for window in manifest.windows}) == 4
    assert journal.entries.count("on a clone") == 4


def test_what_cannot_begin_alike_is_not_taken_again(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    plan = PLAN | {"phases": PHASES[2:], "trace": {"snapshot": False}}
    (window,) = run_plan(tmp_path, Journal(), plan, lost=[1])().read_manifest().windows
    assert (window.name, window.retaken_as) == ("forks", None)


def test_a_load_is_repeated_within_its_window(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    directory = run_plan(tmp_path, Journal())()
    printed = (directory.workloads_path / "04-forks.stdout").read_text().splitlines()
    assert [line.split()[2:4] for line in printed] == [["--seed", str(n)] for n in (1, 2, 3)]
    assert "--label" not in "".join(printed)


def test_the_sampler_ends_before_the_windows(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    frames = list(read_frames(run_plan(tmp_path, Journal())().samples_path))
    marks = [frame.payload.decode() for frame in frames if frame.type is FrameType.MARK]
    assert marks == ["settle/end", "first/begin", "first/end"]
    assert frames[-1].type is FrameType.END


def test_windows_may_follow_each_other_on_one_machine(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("good")
    phases = [dict(phase) for phase in PHASES]
    phases[1]["again"] = False
    plan = PLAN | {"phases": phases, "trace": {"snapshot": False}}
    journal = Journal()
    manifest = run_plan(tmp_path, journal, plan)().read_manifest()
    assert journal.entries.count("on the machine") == len(manifest.windows) == 2
    assert {window.clone for window in manifest.windows} == {None}
    assert "prepare" not in journal.entries


def test_the_proc_sampler_runs_on_where_the_plan_says_so(
    fake_qemu: FakeQemu, tmp_path: Path
) -> None:
    fake_qemu("good")
    phases = [dict(phase) for phase in PHASES]
    phases[1]["again"] = False
    trace = {"snapshot": False, "proc_sampler": True}
    plan = PLAN | {"phases": [*phases[1:], phases[0]], "trace": trace}
    directory = run_plan(tmp_path, Journal(), plan)()
    manifest = directory.read_manifest()
    assert {window.proc_sampler for window in manifest.windows} == {True}
    assert "--label" in manifest.phases[1].argv
    frames = read_frames(directory.samples_path)
    marks = [frame.payload.decode() for frame in frames if frame.type is FrameType.MARK]
    assert marks == ["settle/end", "first/begin", "first/end"]


@pytest.mark.parametrize(
    ("failing", "samples", "trace", "ends"),
    [
        ("on a clone", 0, "", 0),
        ("begin 02-anon", 0, "", 0),
        ("sample anon/begin full", 0, "trace/02-anon", 1),
        ("sample anon/end full", 1, "trace/02-anon", 1),
        ("end", 2, "trace/02-anon", 1),
    ],
)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryReadError("out of order"), OutcomeKind.FAILED),
        (KeyboardInterrupt(), OutcomeKind.INTERRUPTED),
    ],
)
def test_a_window_that_fails_leaves_what_it_had(
    error: BaseException,
    kind: OutcomeKind,
    failing: str,
    samples: int,
    trace: str,
    ends: int,
    fake_qemu: FakeQemu,
    tmp_path: Path,
) -> None:
    fake_qemu("good")
    journal = Journal(failing, error)
    before = qemu_pids()
    with pytest.raises(type(error)):
        run_plan(tmp_path, journal)()
    assert qemu_pids() == before
    assert journal.entries.count("end") == ends
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is kind
    (window,) = manifest.windows
    assert (len(window.samples), window.trace) == (samples, trace)
    (path,) = (tmp_path / "runs").iterdir()
    for name in window.samples:
        assert load_memory_sample(path / name).label.startswith("anon/")
    assert [p for p in path.rglob(".*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("mode", "error", "kind"),
    [
        ("hang-in-run", GuestTimeoutError, OutcomeKind.TIMED_OUT),
        ("die-in-run", LostMachineError, OutcomeKind.FAILED),
    ],
)
def test_a_load_that_never_ends_leaves_the_beginning(
    mode: str, error: type[Exception], kind: OutcomeKind, fake_qemu: FakeQemu, tmp_path: Path
) -> None:
    fake_qemu(mode)
    journal = Journal()
    phases = PHASES[1:]
    with pytest.raises(error):
        run_plan(tmp_path, journal, PLAN | {"phases": phases})()
    assert journal.entries[-3:] == ["begin 01-anon", "sample anon/begin full", "end"]
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is kind
    assert manifest.phases[-1].outcome == kind.value
    assert manifest.windows[0].samples == ["memory/0000-anon-begin.npz"]
    assert manifest.windows[0].quiet_end is None


def test_an_oom_kill_in_a_window_is_data(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("oom-in-run")
    phases = PHASES[1:]
    manifest = run_plan(tmp_path, Journal(), PLAN | {"phases": phases})().read_manifest()
    # The fake strikes in the first load of each machine, and every window has its own.
    assert [phase.outcome for phase in manifest.phases] == ["oom-killed"] * 3
    assert manifest.outcome.kind is OutcomeKind.OOM_KILLED
    assert all(len(window.samples) == 2 for window in manifest.windows)


def test_a_machine_that_cannot_be_saved_ends_the_run(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("no-migration")
    with pytest.raises(QmpError, match="saving the machine: failed: no room on the ark"):
        run_plan(tmp_path, Journal())()
    manifest = manifest_of(tmp_path)
    assert manifest.outcome.kind is OutcomeKind.FAILED
    assert manifest.windows == []
    assert [phase.outcome for phase in manifest.phases] == ["completed"]


def test_a_setup_line_that_fails_ends_the_run(fake_qemu: FakeQemu, tmp_path: Path) -> None:
    fake_qemu("refuse-shell")
    with pytest.raises(WorkloadFailedError, match="setup: a line failed with status 7"):
        run_plan(tmp_path, Journal())()
    assert manifest_of(tmp_path).outcome.exit_code == 4


class Vitals:
    """Only what a window needs of a guest's vitals."""

    def __init__(self) -> None:
        self.checks: list[Callable[[], None]] = []

    def add_check(self, check: Callable[[], None]) -> None:
        self.checks.append(check)


def window_on(journal: Journal, directory: Path, every_ms: int) -> tuple[Window, WindowRecord]:
    record = WindowRecord(name="anon", trace="", samples=[])
    window = Window(
        record,
        stem="01-anon",
        groups=("exact",),
        sampler=FakeSampler(journal),
        tracer=FakeTracer(journal),
        shelf=SampleShelf(RunDirectory(directory)),
        save=lambda: None,
        note=lambda _: None,
        every_ms=every_ms,
    )
    return window, record


def test_light_samples_lie_between(tmp_path: Path) -> None:
    journal = Journal()
    window, record = window_on(journal, tmp_path, 10)
    third = threading.Event()
    journal_note = journal.note

    def note(entry: str) -> None:
        journal_note(entry)
        if entry == "sample anon/3":
            third.set()

    journal.note = note  # type: ignore[method-assign]

    def load() -> None:
        journal.note("load")
        assert third.wait(20)
        journal.note("loaded")

    window.run(load, Vitals())
    entries = [entry for entry in journal.entries if entry.startswith(("sample", "load"))]
    between = entries[entries.index("load") + 1 : entries.index("loaded")]
    assert between[:3] == ["sample anon/1", "sample anon/2", "sample anon/3"]
    assert entries[-1] == "sample anon/end full"
    assert record.samples[0].endswith("0000-anon-begin.npz")
    assert record.samples[1].endswith("0001-anon-1.npz")
    assert len(record.samples) == len(set(record.samples)) == len(entries) - 2


def test_a_light_sample_that_fails_ends_the_load(tmp_path: Path) -> None:
    journal = Journal("sample anon/2", SessionError("no more"))
    window, _ = window_on(journal, tmp_path, 10)
    vitals = Vitals()

    def load() -> None:
        for _ in range(2000):
            for check in vitals.checks:
                check()
            threading.Event().wait(0.01)
        pytest.fail("nobody told the load")

    with pytest.raises(SessionError, match="no more"):
        window.run(load, vitals)
    assert journal.entries[-1] == "end"
    assert "sample anon/end full" not in journal.entries


class Restless:
    """Shows other free pages at each look, for some looks."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def sample(self, label: str, *, full: bool) -> MemorySample:
        assert not full
        self._left -= 1
        return empty_sample(label, free_pfns=[max(self._left, 0)])


def test_quiet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert wait_quiet(Restless(5))
    assert not wait_quiet(Restless(1000))


def test_the_event_counter_decides_where_there_is_one() -> None:
    one, other = (empty_sample("x", free_pfns=[n], counter=7) for n in (1, 2))
    assert alike(one, other)
    assert not alike(one, empty_sample("x", free_pfns=[1], counter=8))
    assert not alike(one, empty_sample("x", free_pfns=[2]))
    assert alike(one, empty_sample("x", free_pfns=[1]))
