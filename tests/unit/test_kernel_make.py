"""Running make: output, failure, silence and interruption, with shell scripts in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness.kernel.make as make_module
from harness.errors import BuildError, MissingToolError
from harness.kernel.make import Counter, count_objects, run_make


def _run(tmp_path: Path, script: str, lines: list[str]) -> int:
    return run_make(
        ["sh", "-c", script],
        environment={**os.environ, "WORD": "word"},
        log=tmp_path / "log",
        on_line=lines.append,
    )


def test_every_line_comes_through(tmp_path: Path) -> None:
    lines: list[str] = []
    assert _run(tmp_path, 'echo one; echo two >&2; printf "$WORD"; exit 3', lines) == 3
    assert lines == ["one", "two", "word"]
    assert (tmp_path / "log").read_text() == "one\ntwo\nword"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="no-such-make"):
        run_make(["no-such-make"], environment={}, log=tmp_path / "log", on_line=print)


def test_silence_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_module, "STALL_S", 0.3)
    start_s = time.monotonic()
    with pytest.raises(BuildError, match=r"no progress for 0\.3 s"):
        _run(tmp_path, "echo on; sleep 60", [])
    assert time.monotonic() - start_s < 20


def test_chatter_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_module, "CEILING_S", 0.5)
    with pytest.raises(BuildError, match=r"still not done after 0\.5 s"):
        _run(tmp_path, "while echo on; do sleep 0.01; done", [])


def test_what_goes_wrong_here_ends_the_build(tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    marker = tmp_path / "late"
    with pytest.raises(RuntimeError, match="on"):
        run_make(
            ["sh", "-c", f"echo on; sleep 3; touch {marker}"],
            environment=os.environ,
            log=tmp_path / "log",
            on_line=fail,
        )
    time.sleep(0.2)
    assert not marker.exists()


def test_an_interrupt_lets_make_clean_up(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from harness.kernel.make import run_make\n"
        "top = Path(sys.argv[1])\n"
        "script = f'trap \"touch {top}/cleaned; exit 1\" TERM; echo on; sleep 60 & wait'\n"
        "run_make(['sh', '-c', script], environment=os.environ, log=top / 'log',"
        " on_line=lambda line: print(line, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=40)
    process.stdout.close()
    assert (tmp_path / "cleaned").exists()


def test_counting() -> None:
    said: list[str] = []
    now_s = [0.0]
    counter = Counter(said.append, most=12, done=10, clock=lambda: now_s[0])
    for line in ("  CC      mm/slab.o", "  AS      a.o", "  LD      b.o", "  CC [M]  c.o", "x"):
        counter.line(line)
        now_s[0] += 6
    assert said == ["compiled 11 files, of at most about 12",
                    "compiled 12 files, of at most about 12",
                    "compiled 13 files"]  # fmt: skip
    now_s[0] = 100.0
    quick = Counter(said.append, most=None, clock=lambda: now_s[0])
    quick.line("  CC      a.o")
    quick.line("  CC      b.o")
    assert said[3:] == ["compiled 1 files"]


def test_objects_of_the_host_do_not_count(tmp_path: Path) -> None:
    for name in ("mm/slab.o", "mm/built-in.o", "vmlinux.o", "scripts/x.o", "tools/objtool/y.o"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert count_objects(tmp_path) == 1
