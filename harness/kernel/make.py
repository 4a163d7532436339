"""Running a kernel's ``make``: bounded, with progress, and stopped cleanly."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.deadline import StallClock
from harness.errors import (
    BuildError,
    GuestTimeoutError,
    InfrastructureError,
    MissingToolError,
)
from harness.kernel.cache import disk_full
from harness.mortal import mortal

STALL_S = 1200.0
"""No line of output for so long is a hang; linking a large kernel on a busy host takes minutes."""

CEILING_S = 6 * 3600.0

_STOP_LIMIT_S = 30.0
_COMPILED = re.compile(r"^  (?:CC|AS)(?: \[M\])?\s+\S+\.o$")
_KEPT_LINES = 400
_SHOWN_LINES = 30


class Make(Protocol):
    """Runs ``make`` in a directory; a test puts another in its place."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None],
    ) -> int:
        """Each line of output goes to ``log`` and ``on_line``; returns the exit status."""


def run_make(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None],
) -> int:
    """Run ``argv`` in a process group of its own, which ends with us on every path.

    An interrupt reaches make as SIGTERM: it removes the targets that it was making, so that what
    is left can be built on.

    Raises:
        MissingToolError: the program is not installed.
        BuildError: it said nothing for long, or never ended.
    """
    clock = StallClock(STALL_S, CEILING_S)
    try:
        process = subprocess.Popen(
            mortal(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MissingToolError(
            f"{argv[0]} is not installed", fix="apt-get install build-essential"
        ) from None
    assert process.stdout is not None
    pending = b""
    try:
        with log.open("ab") as record:
            while True:
                ready, _, _ = select.select([process.stdout], [], [], min(1.0, STALL_S))
                if ready:
                    chunk = os.read(process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        break
                    record.write(chunk)
                    clock.progress()
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        on_line(line.decode(errors="replace"))
                _check(clock, log)
        if pending:
            on_line(pending.decode(errors="replace"))
        return process.wait(timeout=_STOP_LIMIT_S)
    finally:
        _stop(process)


def _check(clock: StallClock, log: Path) -> None:
    try:
        clock.check("the build")
    except GuestTimeoutError as error:
        raise BuildError(
            error.message, details={"log": log}, fix="try again: what is compiled already is kept"
        ) from None


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(timeout=_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                continue
    if process.stdout is not None:
        process.stdout.close()


@dataclass(slots=True)
class Counter:
    """Counts what is compiled and says so every few seconds."""

    say: Callable[[str], None]
    most: int | None
    """How many there are in all, as far as an earlier build of the like tells: so many are compiled
    if nothing of what lies in the tree can be used."""
    done: int = 0
    every_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    _said_s: float = float("-inf")

    def line(self, text: str) -> None:
        """One line of make's output."""
        if not _COMPILED.match(text):
            return
        self.done += 1
        now_s = self.clock()
        if now_s - self._said_s >= self.every_s:
            self._said_s = now_s
            self.say(self.text())

    def text(self) -> str:
        """Where the build is."""
        of = f", of at most about {self.most}" if self.most and self.most >= self.done else ""
        return f"compiled {self.done} files{of}"


class Failure:
    """Keeps the end of make's output, to show what went wrong."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def line(self, text: str) -> None:
        """One line of make's output."""
        self._lines.append(text)

    def error(self, what: str, log: Path) -> InfrastructureError:
        """The error for a build that failed; a full disk is told as such."""
        text = "\n".join(self._lines)
        if "No space left on device" in text:
            return disk_full(log)
        said = [line for line in self._lines if not line.startswith("  ")]
        complaints = [line for line in said if re.search(r"error|Error|\*\*\*|undefined", line)]
        return BuildError(
            f"{what} failed",
            details={
                "make": "\n".join((complaints or said)[:_SHOWN_LINES]) or "no output",
                "log": log,
            },
            fix="the log has the whole output; what is compiled already is kept",
        )


def count_objects(directory: Path) -> int:
    """How many files of a kernel are compiled in an object tree, the host's programs left out."""
    total = 0
    for top, names, files in os.walk(directory):
        if Path(top) == directory:
            names[:] = [name for name in names if name not in {"scripts", "tools", "source"}]
        total += sum(
            name.endswith(".o") and name not in {"built-in.o", "vmlinux.o"} for name in files
        )
    return total


def make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What ``make`` sees of ours: nothing that would change what it builds, and no translations."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("KBUILD_", "KCONFIG_", "MAKE", "MFLAGS"))
        and name not in {"ARCH", "CROSS_COMPILE", "CFLAGS", "LDFLAGS", "O", "M", "LOCALVERSION"}
    }
    return kept | {"LC_ALL": "C"}
