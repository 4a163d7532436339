"""A session without a guest, for tests of what is built on sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.deadline import StallClock
from harness.session.protocol import CommandResult, Output

Script = Callable[[tuple[str, ...]], tuple[int, bytes, bytes]]
"""From a command to (status, stdout, stderr)."""


class FakeSession:
    """Answers every command from a script and remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.commands: list[tuple[str, ...]] = []
        self.closed = False

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """See ``Session.run``; takes no time."""
        if clock is not None:
            clock.check(f"running {argv[0]}")
        self.commands.append(tuple(argv))
        status, stdout, stderr = self._script(tuple(argv))
        if on_output is not None:
            for data, is_stderr in ((stdout, False), (stderr, True)):
                if data:
                    on_output(data, is_stderr)
        return CommandResult(
            argv=tuple(argv), status=status, stdout=stdout, stderr=stderr, wall_s=0.0
        )

    def close(self) -> None:
        self.closed = True
