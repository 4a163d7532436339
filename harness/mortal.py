"""Programs that must not outlive us, not even a ``kill -9``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from harness.errors import MissingToolError

_ONLY_UNDER_US = 'test "$PPID" = "$1" || exit 125; shift; exec "$@"'


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
