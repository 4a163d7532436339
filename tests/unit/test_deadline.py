"""Waits end, and extend only as far as they should."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline, StallClock
from harness.errors import GuestTimeoutError


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_deadline_passes() -> None:
    clock = Clock()
    deadline = Deadline(5, clock=clock)
    clock.now_s += 4
    deadline.check("x")
    assert deadline.remaining_s() == pytest.approx(1)
    clock.now_s += 1
    with pytest.raises(GuestTimeoutError, match="x: not done within 5 s"):
        deadline.check("x")


def test_progress_extends_the_stall_but_not_the_ceiling() -> None:
    clock = Clock()
    stall = StallClock(10, 25, clock=clock)
    for _ in range(2):
        clock.now_s += 9
        stall.check("boot")
        stall.progress()
    clock.now_s += 8
    with pytest.raises(GuestTimeoutError, match="still not done after 25 s"):
        stall.check("boot")


def test_a_stall_is_told_from_the_ceiling() -> None:
    clock = Clock()
    stall = StallClock(10, 1000, clock=clock)
    clock.now_s += 10
    with pytest.raises(GuestTimeoutError, match="no progress for 10 s"):
        stall.check("boot")
