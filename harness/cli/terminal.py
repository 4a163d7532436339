"""Progress and verdicts on a terminal: stderr for people, stdout for data."""

from __future__ import annotations

import sys
import time

from rich.console import Console


def error_console() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True, soft_wrap=True)


def output_console(width: int | None = None) -> Console:
    """Where results for people go; scripts ask for --json and get plain text.

    ``width`` counts where stdout is no terminal.
    """
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else width)


class TerminalProgress:
    """A line for each stage with the time since the start; notes indented below it.

    On a terminal a note replaces the one before it; elsewhere (CI, a file) each is kept.
    """

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._live = sys.stderr.isatty()
        self._noted = False

    def stage(self, text: str) -> None:
        """A new stage has begun."""
        self._write(f"[{time.monotonic() - self._start_s:6.1f} s] {text}", keep=True)

    def note(self, text: str) -> None:
        """Something within the stage happened."""
        self._write(f"           {text}", keep=not self._live)

    def close(self) -> None:
        """Leaves the cursor at the start of a fresh line."""
        if self._noted:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._noted = False

    def _write(self, line: str, *, keep: bool) -> None:
        if self._noted:
            sys.stderr.write("\r\x1b[K")
            self._noted = False
        if keep:
            sys.stderr.write(line + "\n")
        else:
            sys.stderr.write(line[:110])
            self._noted = True
        sys.stderr.flush()
