"""Run directories are readable whatever happened to the run."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import DiskFullError, RecordError
from harness.record.manifest import (
    Manifest,
    Outcome,
    OutcomeKind,
    Process,
    parse_manifest,
    process_is_alive,
    this_process,
)
from harness.record.rundir import RunDirectory, disk_errors, write_atomic


def manifest(process: Process, kind: OutcomeKind = OutcomeKind.RUNNING) -> Manifest:
    return Manifest(
        name="test",
        created="2026-01-01T00:00:00+00:00",
        mmscope="0",
        argv=["mmscope"],
        process=process,
        outcome=Outcome(kind=kind),
    )


def test_a_run_under_way_is_running() -> None:
    assert process_is_alive(this_process())
    assert manifest(this_process()).ending().kind is OutcomeKind.RUNNING


def test_a_run_whose_process_is_gone_was_killed() -> None:
    code = "from harness.record.manifest import this_process as t; print(t().model_dump_json())"
    text = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    ending = manifest(Process.model_validate_json(text)).ending()
    assert ending.kind is OutcomeKind.KILLED
    assert "was killed" in ending.message


def test_a_later_process_with_the_same_pid_is_another() -> None:
    later = this_process().model_copy(update={"start_ticks": 1})
    assert not process_is_alive(later)


def test_a_finished_run_stays_as_it_ended() -> None:
    done = manifest(this_process().model_copy(update={"pid": 1 << 30}), OutcomeKind.COMPLETED)
    assert done.ending().kind is OutcomeKind.COMPLETED


def test_manifests_round_trip(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    written = manifest(this_process())
    run.write_manifest(written)
    assert run.read_manifest() == written


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a manifest"),
        ("{", "not a manifest"),
        ("{}", "name: Field required"),
        ('{"nonsense": 1}', "not a manifest"),
    ],
)
def test_what_is_no_manifest_is_named(text: str, complaint: str) -> None:
    with pytest.raises(RecordError, match=r"runs/x/manifest\.json") as caught:
        parse_manifest(text, "runs/x/manifest.json")
    assert complaint in caught.value.message


def test_another_schema_is_refused() -> None:
    values = json.loads(manifest(this_process()).model_dump_json()) | {"schema_version": 99}
    with pytest.raises(RecordError, match="schema 99"):
        parse_manifest(json.dumps(values), "m")


def test_two_runs_in_one_second_get_two_directories(tmp_path: Path) -> None:
    assert len({RunDirectory.create(tmp_path, "x").path for _ in range(5)}) == 5


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"manifest\.json"):
        RunDirectory(tmp_path).read_manifest()


def test_digests_cover_raw_files_only(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "x")
    write_atomic(run.guest_path / "proc" / "version", b"Linux\n")
    write_atomic(run.tables_path / "vmstat.parquet", b"derived")
    files = run.digest_files()
    assert list(files) == ["guest/proc/version"]
    assert files["guest/proc/version"].size_bytes == 6


def test_a_full_disk_is_called_so_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "manifest.json"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no space left") as caught:
        write_atomic(target, b"new")
    assert caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert target.read_text() == "old"


def test_other_os_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nothing-here"), disk_errors(tmp_path):
        (tmp_path / "nothing-here").read_bytes()
