"""Exit 1 means that a claim failed, and nothing else gives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def mmscope(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["check", "/nonexistent"], 3, "/nonexistent"),
        (["report", "/nonexistent"], 3, "/nonexistent"),
        (["run", "no-such-plan"], 2, "no-such-plan"),
        (["run", "boot-uma", "--seed", "-1"], 2, "--seed"),
        (["boot", "--what"], 2, "--what"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_a_predictable_failure_is_told_in_words(
    arguments: list[str], code: int, complaint: str
) -> None:
    done = mmscope(*arguments)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 1')
    done = mmscope("check", str(tmp_path))
    assert done.returncode == 3
    assert "manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mmscope("kernels", "fetch", MMSCOPE_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 3
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_every_verb_has_help_with_an_example() -> None:
    for verb in ("boot", "run", "check", "report", "doctor"):
        done = mmscope(verb, "--help")
        assert done.returncode == 0
        assert f"mmscope {verb}" in done.stdout.split("Options")[0].split("Example")[-1]
