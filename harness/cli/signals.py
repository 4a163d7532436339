"""Signals that end a command in order, so that its guests end with it."""

from __future__ import annotations

import signal
from types import FrameType


def heed_signals() -> None:
    """SIGTERM and SIGHUP act as Ctrl-C does; one that is ignored, as under nohup, stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
