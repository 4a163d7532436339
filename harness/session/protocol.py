"""What every way of talking to a guest offers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.deadline import StallClock

COMMAND_STALL_S = 120.0
COMMAND_CEILING_S = 1800.0

Output = Callable[[bytes, bool], None]
"""Called with each piece of output as it arrives, and whether it is standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """``status`` is the exit status; 128 + N when signal N ended the command."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    wall_s: float

    @property
    def killed_by(self) -> int | None:
        """The signal that ended the command, if one did."""
        return self.status - 128 if 128 < self.status < 128 + 65 else None

    def __str__(self) -> str:
        return f"{shlex.join(self.argv)} → {self.status}"


class Session(Protocol):
    """A channel on which commands run in the guest, one at a time."""

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """Runs one command to its end.

        Raises:
            GuestTimeoutError: no progress, or over the ceiling; the command is ended first.
            KernelCrashError, LostMachineError: the guest or QEMU died meanwhile.
            SessionError: the channel broke.
        """

    def close(self) -> None:
        """Gives the channel up; the guest stays."""


def command_clock() -> StallClock:
    """The patience a command gets when the caller does not say."""
    return StallClock(COMMAND_STALL_S, COMMAND_CEILING_S)
