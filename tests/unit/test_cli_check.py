"""``mmscope check`` on captures: exit codes, JSON, explanations, and errors that help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.capture.archive import unpacked
from tests.recorded_run import FIXTURES

CAPTURE = FIXTURES / "6.1-x86_64-3nodes" / "round0"


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_a_flat_capture_is_checked() -> None:
    done = check(str(CAPTURE), "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    result = json.loads(done.stdout)
    assert result["source"] == str(CAPTURE)
    assert result["kernel"].startswith("6.1.")
    assert result["summary"]["holds"] > 50
    unknown = [claim for claim in result["claims"] if claim["verdict"] == "unknown"]
    assert all(claim["why"] for claim in unknown)
    assert any("lacks" in claim["why"] for claim in unknown), "what is missing is named"


def test_one_wrong_number_fails(tmp_path: Path) -> None:
    archive = FIXTURES / "captures" / "6.1.0-56-amd64.tar.xz"
    for name, content in unpacked(archive).items():
        capture, _, place = name.partition("/")
        if capture == "uma1":
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert check(str(tmp_path)).returncode == 0
    zoneinfo = tmp_path / "proc" / "zoneinfo"
    head, low, rest = zoneinfo.read_text().partition("        low      ")
    number = rest.split("\n")[0]
    zoneinfo.write_text(f"{head}{low}{int(number) + 1}{rest[len(number) :]}")
    done = check(str(tmp_path), "--json")
    failing = {c["id"] for c in json.loads(done.stdout)["claims"] if c["verdict"] == "fails"}
    assert done.returncode == 1
    assert "watermark_low" in failing


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent"], 3, "absent: no such directory or archive"),
        ([str(Path(__file__).parent)], 3, "neither a run directory nor a capture"),
        ([str(CAPTURE), "--explain", "watermark_lo"], 2, "did you mean watermark_low"),
        ([str(CAPTURE), "--explain", "watermark_low", "--json"], 2, "leave out --json"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], code: int, said: str) -> None:
    done = check(*arguments)
    assert done.returncode == code
    assert said in done.stderr


def test_an_explanation_teaches_the_rule() -> None:
    done = check(str(CAPTURE), "--explain", "watermark_low")
    assert done.returncode == 0, done.stderr
    for word in ("computed from", "held against", "in the model", "Kernel:", "Ignores:"):
        assert word in done.stdout
