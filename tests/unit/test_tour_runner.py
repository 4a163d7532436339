"""Walking the tour without a guest: records, resumption, failures, processes that misbehave."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harness.tour.evidence as evidence_module
from harness.errors import BootError, UsageError, WorkloadFailedError
from harness.session.agent import ReadResult
from harness.session.fake import FakeSession
from harness.tour.evidence import Evidence
from harness.tour.record import STOP_NAME, StopRecord
from harness.tour.runner import walk_all
from harness.tour.stop import Stop, StopBoot
from harness.tour.tours import State, Tour
from harness.tour.walk import INTERRUPTED, walk_stop

FILES = {"/proc/version": b"Linux version 6.1.0-x\n", "/proc/cmdline": b"quiet\n"}


class FakeAgent(FakeSession):
    """An agent that also has files."""

    def read(self, patterns: list[str]) -> ReadResult:
        files = {name: FILES[name] for name in patterns if name in FILES}
        errors = tuple(f"{name}: No such file" for name in patterns if name not in FILES)
        return ReadResult(files=files, errors=errors)


@pytest.fixture(autouse=True)
def no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel, image and machine are told by real ones only."""
    for name in ("kernel_record", "image_record", "machine_record"):
        monkeypatch.setattr(evidence_module, name, lambda *_: None)


@contextlib.contextmanager
def fake_boot(part: StopBoot, directory: Path) -> Iterator[Evidence]:
    agent = FakeAgent(lambda argv: (7 if "bad" in argv else 0, b"said\n", b"why\n"))
    guest: Any = SimpleNamespace(
        agent=agent, spec=None, machine=SimpleNamespace(argv=["qemu"]), boot_s=1.0, shaped=None
    )
    kernel: Any = SimpleNamespace(arch=part.arch, release="6.1.0-x")
    yield Evidence(guest, kernel=kernel, image=guest, directory=directory, label=part.label)


def made(
    gather: Callable[[Evidence], None], *more: Callable[[Evidence], None], name: str = "zones/made"
) -> Stop:
    parts = [
        StopBoot(label=f"boot{number}", gather=each)
        for number, each in enumerate((gather, *more), start=1)
    ]
    return Stop(name=name, boots=tuple(parts))


def _fine(evidence: Evidence) -> None:
    evidence.run("words", "echo", "hello")
    evidence.read("/proc/version")
    evidence.keep_json("numbers", {"one": 1})
    evidence.note("all is well")


def test_a_stop_leaves_its_evidence_and_a_record(tmp_path: Path) -> None:
    tour = Tour.create(tmp_path)
    stop = made(_fine)
    assert tour.state(stop) is State.ABSENT
    record = walk_stop(stop, tour, fake_boot)
    assert (record.complaint, record.exit_code, record.labels) == ("", 0, ["boot1"])
    assert tour.state(stop) is State.DONE
    kept = tour.stop_path(stop) / "boot1"
    assert (kept / "words.txt").read_bytes() == b"said\n"
    assert (kept / "files/proc/version").read_bytes() == FILES["/proc/version"]
    told = json.loads((kept / "boot.json").read_text())
    assert told["commands"]["words"]["argv"] == ["echo", "hello"]
    assert (told["release"], told["cmdline"], told["notes"]) == (
        "6.1.0-x",
        "quiet",
        ["all is well"],
    )
    assert [path.name for path in tour.stops_path.iterdir()] == [stop.directory]


def test_a_failed_command_is_told_and_what_came_before_is_kept(tmp_path: Path) -> None:
    def gather(evidence: Evidence) -> None:
        evidence.keep("before.txt", "kept")
        evidence.run("fails", "bad")

    tour = Tour.create(tmp_path)
    stop = made(_fine, gather)
    record = walk_stop(stop, tour, fake_boot)
    assert "ended with status 7" in record.complaint
    assert record.exit_code == WorkloadFailedError.exit_code
    assert record.details == {"it said": "why", "boot": "boot2"}
    assert (tour.stop_path(stop) / "boot2/before.txt").read_text() == "kept"
    assert tour.state(stop) is State.FAILED


def test_a_guest_that_does_not_boot_names_the_fix(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def broken(part: StopBoot, directory: Path) -> Iterator[Evidence]:
        if part.label:
            details = {"run directory": directory}
            raise BootError("it never came up", fix="look at the console", details=details)
        yield from ()

    tour = Tour.create(tmp_path)
    record = walk_stop(made(_fine), tour, broken)
    assert record.details == {"run directory": str(tour.stop_path(made(_fine)) / "boot1")}
    assert (record.complaint, record.fix) == ("it never came up", "look at the console")
    assert record.exit_code == BootError.exit_code


def test_a_mistake_in_a_stop_is_told_as_one(tmp_path: Path) -> None:
    def gather(evidence: Evidence) -> None:
        raise KeyError("nr_free_pages")

    record = walk_stop(made(gather), Tour.create(tmp_path), fake_boot)
    assert "the stop is at fault: KeyError" in record.complaint
    assert "nr_free_pages" in record.details["traceback"]


def test_an_interrupted_stop_is_walked_again(tmp_path: Path) -> None:
    def gather(evidence: Evidence) -> None:
        raise KeyboardInterrupt

    tour = Tour.create(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        walk_stop(made(gather), tour, fake_boot)
    record = tour.record(made(gather))
    assert record is not None
    assert record.complaint == INTERRUPTED
    assert tour.state(made(gather)) is State.FAILED


def test_a_stop_that_was_changed_is_stale(tmp_path: Path) -> None:
    tour = Tour.create(tmp_path)
    walk_stop(made(_fine), tour, fake_boot)
    changed = Stop(name="zones/made", boots=(StopBoot(label="boot1", gather=_fine, nodes=("1G",)),))
    assert tour.state(made(_fine)) is State.DONE
    assert tour.state(changed) is State.STALE


def test_a_stop_walked_again_replaces_its_evidence(tmp_path: Path) -> None:
    def other(evidence: Evidence) -> None:
        evidence.keep("other.txt", "new")

    tour = Tour.create(tmp_path)
    walk_stop(made(_fine), tour, fake_boot)
    walk_stop(made(other), tour, fake_boot)
    names = {path.name for path in (tour.stop_path(made(_fine)) / "boot1").iterdir()}
    assert names == {"boot.json", "other.txt"}


def test_the_draft_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    tour = Tour.create(tmp_path)
    stop = made(_fine)
    left = tour.stops_path / f".{stop.directory}~{2**22 + 1}~x"
    left.mkdir()
    living = tour.stops_path / f".{stop.directory}~{os.getppid()}~x"
    living.mkdir()
    walk_stop(stop, tour, fake_boot)
    assert not left.exists()
    assert living.exists()


def test_a_damaged_record_is_walked_again(tmp_path: Path) -> None:
    tour = Tour.create(tmp_path)
    stop = made(_fine)
    walk_stop(stop, tour, fake_boot)
    (tour.stop_path(stop) / STOP_NAME).write_text("{")
    assert tour.state(stop) is State.ABSENT


def test_the_newest_tour_goes_on(tmp_path: Path) -> None:
    assert Tour.newest(tmp_path) is None
    for name in ("20260101T000000Z", "20260102T000000Z", "notes"):
        (tmp_path / name / ("stops" if name != "notes" else "x")).mkdir(parents=True)
    newest = Tour.newest(tmp_path)
    assert newest is not None
    assert newest.path.name == "20260102T000000Z"
    with pytest.raises(UsageError, match="not a tour"):
        Tour.open(tmp_path / "notes")


class FakeWalker:
    """A process: ends after some looks with a status, or only when it is told to."""

    def __init__(self, looks: int | None, status: int, ends: Callable[[], None]) -> None:
        self.looks, self.status, self.ends = looks, status, ends
        self.told: list[str] = []
        self.over = False

    def poll(self) -> int | None:
        if self.looks is not None and not self.over:
            self.looks -= 1
            if self.looks < 0:
                self.over = True
                self.ends()
        return self.status if self.over else None

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")
        self.over = True
        self.status = -9


def discard(_: object) -> None:
    """Makes a function of one that returns nothing."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def walked(
    tmp_path: Path, stops: list[Stop], walkers: dict[str, FakeWalker], *, jobs: int = 1
) -> tuple[Tour, list[str]]:
    clock = Clock()
    tour = Tour(next(tmp_path.glob("*Z*"))) if list(tmp_path.glob("*Z*")) else Tour.create(tmp_path)
    events: list[str] = []
    walk_all(
        stops,
        tour,
        lambda stop: walkers[stop.name],
        jobs=jobs,
        begun=lambda stop: events.append(f"begin {stop.name}"),
        ended=lambda stop, record: events.append(f"end {stop.name}: {record.complaint}"),
        limit_s=50.0,
        clock=clock,
        sleep=clock.sleep,
    )
    return tour, events


def test_so_many_at_a_time_in_order(tmp_path: Path) -> None:
    tour = Tour.create(tmp_path)
    stops = [made(_fine, name=f"zones/s{number}") for number in range(3)]

    def walker(stop: Stop, looks: int) -> FakeWalker:
        return FakeWalker(looks, 0, lambda: discard(walk_stop(stop, tour, fake_boot)))

    walkers = {s.name: walker(s, looks) for s, looks in zip(stops, (5, 1, 1), strict=True)}
    _, events = walked(tmp_path, stops, walkers, jobs=2)
    assert events[:2] == ["begin zones/s0", "begin zones/s1"]
    assert events.index("end zones/s1: ") < events.index("begin zones/s2")
    assert sorted(events[3:]) == ["begin zones/s2", "end zones/s0: ", "end zones/s2: "]


def test_a_process_that_dies_gets_a_record(tmp_path: Path) -> None:
    stop = made(_fine)
    tour, events = walked(tmp_path, [stop], {stop.name: FakeWalker(1, -11, lambda: None)})
    assert "ended with status -11" in events[-1]
    assert tour.state(stop) is State.FAILED


def test_an_old_record_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    stop = made(_fine)
    walk_stop(stop, Tour.create(tmp_path), fake_boot)
    _, events = walked(tmp_path, [stop], {stop.name: FakeWalker(1, 1, lambda: None)})
    assert "left no record" in events[-1]


def test_a_process_without_end_is_ended(tmp_path: Path) -> None:
    stop = made(_fine)
    walker = FakeWalker(None, 0, lambda: None)
    tour, events = walked(tmp_path, [stop], {stop.name: walker})
    assert walker.told == ["terminate", "kill"]
    assert "not through after 50 s" in events[-1]
    assert tour.state(stop) is State.FAILED


def test_an_interrupt_ends_every_process(tmp_path: Path) -> None:
    stops = [made(_fine, name=f"zones/s{number}") for number in range(2)]
    walkers = {stop.name: FakeWalker(None, 0, lambda: None) for stop in stops}

    def interrupt(stop: Stop) -> None:
        if stop is stops[1]:
            raise KeyboardInterrupt

    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        walk_all(
            stops,
            Tour.create(tmp_path),
            lambda stop: walkers[stop.name],
            jobs=2,
            begun=interrupt,
            clock=clock,
            sleep=clock.sleep,
        )
    assert walkers["zones/s0"].told == ["terminate", "kill"]


def test_keeping_twice_under_one_name_is_a_mistake(tmp_path: Path) -> None:
    with fake_boot(made(_fine).boots[0], tmp_path) as evidence:
        evidence.keep("words.txt", "a")
        with pytest.raises(AssertionError, match="kept twice"):
            evidence.run("words", "echo")
        with pytest.raises(AssertionError, match="leads elsewhere"):
            evidence.keep("../words.txt", "a")


def test_a_record_says_what_it_is_of() -> None:
    record = StopRecord(name="zones/x", definition="d", made="", labels=["main"], seconds=1.0)
    assert StopRecord.model_validate_json(record.model_dump_json()) == record
