"""Bounded waiting: every wait in the harness takes one of these two clocks."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.errors import GuestTimeoutError


class Deadline:
    """A fixed moment on the monotonic clock, made from a number of seconds."""

    __slots__ = ("_clock", "_end_s", "limit_s")

    def __init__(self, limit_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._end_s = clock() + limit_s

    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end_s - self._clock())

    @property
    def expired(self) -> bool:
        return self.remaining_s() == 0.0

    def check(self, what: str) -> None:
        """Raises GuestTimeoutError naming ``what`` once the moment has passed."""
        if self.expired:
            raise GuestTimeoutError(f"{what}: not done within {self.limit_s:g} s")


class StallClock:
    """Runs out when nothing has moved for ``stall_s``, or after ``ceiling_s`` in any case.

    Under TCG on a busy host a guest may be fifteen times slower than usual and still be fine,
    so waits end on lack of progress; the ceiling only keeps a chatty, livelocked guest bounded.
    """

    __slots__ = ("_clock", "_last_s", "_start_s", "ceiling_s", "stall_s")

    def __init__(
        self, stall_s: float, ceiling_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stall_s = stall_s
        self.ceiling_s = ceiling_s
        self._clock = clock
        self._start_s = self._last_s = clock()

    def progress(self) -> None:
        """Something moved: start counting the stall anew."""
        self._last_s = self._clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._start_s

    def remaining_s(self) -> float:
        """Seconds until either limit, never below zero."""
        now_s = self._clock()
        left_s = min(self._last_s + self.stall_s - now_s, self._start_s + self.ceiling_s - now_s)
        return max(0.0, left_s)

    @property
    def expired(self) -> bool:
        return self.remaining_s() == 0.0

    def check(self, what: str) -> None:
        """Raises GuestTimeoutError saying which of the two limits was hit."""
        if not self.expired:
            return
        now_s = self._clock()
        if now_s - self._start_s >= self.ceiling_s:
            raise GuestTimeoutError(f"{what}: still not done after {self.ceiling_s:g} s")
        raise GuestTimeoutError(f"{what}: no progress for {self.stall_s:g} s")
