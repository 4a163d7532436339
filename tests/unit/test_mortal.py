"""A program started as mortal ends with its parent, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.mortal import mortal

PARENT = """
import subprocess, sys
from harness.mortal import mortal
child = subprocess.Popen(mortal(["sleep", "300"]))
print(child.pid, flush=True)
child.wait()
"""


def is_sleeping(pid: int) -> bool:
    """Whether the process lives and has become the program itself."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except OSError:
        return False


def wait_for(pid: int, *, sleeping: bool) -> None:
    end_s = time.monotonic() + 10
    while is_sleeping(pid) is not sleeping and time.monotonic() < end_s:
        time.sleep(0.02)
    assert is_sleeping(pid) is sleeping


def test_it_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(pid, sleeping=True)
        parent.send_signal(signal.SIGKILL)
        wait_for(pid, sleeping=False)
    finally:
        parent.kill()
        parent.communicate()


def test_it_does_not_start_under_another_parent() -> None:
    command = mortal(["echo", "started"])
    place = command.index(str(os.getpid()))
    command[place] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")


def test_status_and_output_are_its_own() -> None:
    done = subprocess.run(
        mortal(["sh", "-c", "echo it; exit 3"]), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "it\n")


def test_a_missing_program_is_told_from_a_failing_one() -> None:
    with pytest.raises(FileNotFoundError):
        mortal(["no-such-program"])
