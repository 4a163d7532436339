"""Is the guest still with us? Asked in every wait, so that no wait outlives its guest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from harness.deadline import Deadline, StallClock
from harness.errors import GuestTimeoutError, KernelCrashError, LostMachineError
from harness.machine.cpus import where_cpus_stand
from harness.machine.crash import FindingKind
from harness.machine.process import Machine

_LOSS_S = 2.0


class Vitals(Protocol):
    """What a session asks while it waits."""

    def check(self, doing: str) -> None:
        """Raises KernelCrashError or LostMachineError when the guest is gone."""

    def pulse(self) -> int:
        """A number that grows whenever the guest shows life."""

    def standing(self) -> dict[str, str]:
        """What can be told of a guest that shows none, for an error's details."""


class MachineVitals:
    """The signs of life of a real machine: QEMU's exit, its console, its crash findings."""

    _LAST_WORDS_S = 1.0

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pulses: list[Callable[[], int]] = [lambda: machine.console.life_bytes]
        self._checks: list[Callable[[], None]] = []

    def add_pulse(self, counter: Callable[[], int]) -> None:
        """Adds a counter of bytes received from the guest on another channel."""
        self._pulses.append(counter)

    def add_check(self, check: Callable[[], None]) -> None:
        """Adds a check that raises when another part of the run has failed."""
        self._checks.append(check)

    def pulse(self) -> int:
        return sum(counter() for counter in self._pulses)

    def standing(self) -> dict[str, str]:
        """What its kernel last said of what is stuck, and where its CPUs stand."""
        told: dict[str, str] = {}
        if (lockup := self._machine.console.lockup) is not None:
            told["the guest's kernel says"] = lockup.line
        if where := where_cpus_stand(self._machine):
            told["CPUs"] = where
        return told

    def check(self, doing: str) -> None:
        """A kernel crash outranks the lost connection it causes."""
        machine = self._machine
        if machine.console.error is not None:
            raise machine.console.error
        for other in self._checks:
            other()
        ended = machine.poll() is not None
        if ended:
            # A panic ends QEMU at once; let the console deliver what it still holds.
            end_s = time.monotonic() + self._LAST_WORDS_S
            while not machine.console.closed and time.monotonic() < end_s:
                machine.console.wait_change(0.05)
        finding = machine.console.fatal
        if finding is not None:
            what = (
                "the guest's set-up failed"
                if finding.kind is FindingKind.INIT_FAILED
                else f"{finding.kind.value} in the guest"
            )
            raise KernelCrashError(
                f"{what} while {doing}: {finding.line}", details=machine.evidence()
            )
        if ended:
            machine.check_alive(doing)
            raise LostMachineError(f"QEMU ended while {doing}")


class Pulse:
    """Feeds a stall clock from the signs of life."""

    def __init__(self, vitals: Vitals, clock: StallClock) -> None:
        self._vitals = vitals
        self._clock = clock
        self._last = vitals.pulse()

    def check(self, doing: str) -> None:
        """Raises when the guest is gone or has shown no life for too long."""
        self._vitals.check(doing)
        now = self._vitals.pulse()
        if now != self._last:
            self._last = now
            self._clock.progress()
        try:
            self._clock.check(doing)
        except GuestTimeoutError as error:
            error.details |= self._vitals.standing()
            raise


def check_after_loss(vitals: Vitals, doing: str) -> None:
    """A channel has closed: gives the guest's own end a moment to show, since it says more.

    Raises:
        KernelCrashError, LostMachineError: that is why the channel closed.
    """
    deadline = Deadline(_LOSS_S)
    while not deadline.expired:
        vitals.check(doing)
        time.sleep(0.05)
