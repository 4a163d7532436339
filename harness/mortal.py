"""Programs that must not outlive us, not even a ``kill -9``, and how they are ended in order."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.errors import MissingToolError

_ONLY_UNDER_US = 'test "$PPID" = "$1" || exit 125; shift; exec "$@"'
_POLL_S = 0.1
_POLITE_S = 30.0
_HARD_S = 10.0


class Endable(Protocol):
    """A process that has guests."""

    def poll(self) -> int | None:
        """Its exit status once it has ended."""

    def terminate(self) -> None:
        """Asks it to end its guests and itself."""

    def kill(self) -> None:
        """Ends it."""


def mortal(argv: Sequence[str]) -> list[str]:
    """The argument list that runs ``argv`` and has the kernel kill it when this process dies.

    The kernel sends the signal when the thread that started the program ends: start it from one
    that lives as long as it is needed. Should we be killed before the request for the signal is
    made, the program finds itself under another parent and never starts.

    Raises:
        MissingToolError: setpriv is not installed.
        FileNotFoundError: the program itself is not.
    """
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(argv[0])
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise MissingToolError("setpriv is not installed", fix="apt-get install util-linux")
    guard = ["sh", "-c", _ONLY_UNDER_US, "sh", str(os.getpid())]
    return [setpriv, "--pdeathsig", "KILL", "--", *guard, *argv]


def end_all(
    processes: Sequence[Endable],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ends them in bounded time, all at once: politely, so that guests are ended in order and
    records are written; then hard."""
    for each in processes:
        if each.poll() is None:
            each.terminate()
    for patience_s, harder in ((_POLITE_S, True), (_HARD_S, False)):
        end_s = clock() + patience_s
        while any(each.poll() is None for each in processes) and clock() < end_s:
            sleep(_POLL_S)
        for each in processes:
            if harder and each.poll() is None:
                each.kill()
