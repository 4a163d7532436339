"""The serial console as a session: the boot handshake, and a shell for when all else is silent."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any

import pexpect
from pexpect import fdpexpect

from harness.deadline import StallClock
from harness.errors import BootError, GuestTimeoutError, SessionError
from harness.machine.console import Console
from harness.session.protocol import CommandResult, Output, command_clock
from harness.session.vitals import Pulse, Vitals, check_after_loss

READY = r"mmscope: ready\r?\n"
PROMPT = "mmscope# "
_POLL_S = 0.2


class SerialSession:
    """pexpect on the console. Output of commands carries both streams, as a terminal does."""

    def __init__(self, console: Console, vitals: Vitals) -> None:
        self._vitals = vitals
        self._console = console
        self._tap = console.open_tap()
        self._child: Any = fdpexpect.fdspawn(self._tap, timeout=_POLL_S, maxread=65536)

    def wait_ready(self, clock: StallClock) -> None:
        """Waits until the guest says that its set-up is done.

        Raises:
            BootError: it stopped printing, or went on too long, before that.
            KernelCrashError, LostMachineError: it died.
        """
        pulse = Pulse(self._vitals, clock)
        try:
            self._expect(READY, pulse, "booting")
        except GuestTimeoutError as error:
            printed = self._console.received_bytes
            if printed:
                what = f"the guest did not come up: {error.message}"
                fix = "see the console log; on a loaded host wait for other guests to end"
            else:
                what = f"the guest printed nothing for {clock.stall_s:g} s"
                fix = (
                    "the kernel may not run on this CPU model or accelerator: try --accel tcg "
                    "and another --kernel; run `mmscope doctor`"
                )
            raise BootError(
                what,
                fix=fix,
                details={
                    "elapsed": f"{clock.elapsed_s:.1f} s",
                    **error.details,
                    "last lines": self._console.tail(),
                },
            ) from None

    def wait_line(self, pattern: str, clock: StallClock, doing: str) -> str:
        """Waits for a line that matches; returns its first group."""
        self._expect(pattern, Pulse(self._vitals, clock), doing)
        return str(self._child.match.group(1).decode(errors="replace"))

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """See ``Session.run``; for short commands, since the console is slow."""
        clock = clock or command_clock()
        pulse = Pulse(self._vitals, clock)
        start_s = time.monotonic()
        token = f"{time.monotonic_ns():x}"
        # The tokens are split by quotes in what is typed, so that the echo never matches them.
        self._child.send(
            f"echo mm'sc'ope-b:{token}; {shlex.join(argv)}; echo mm'sc'ope-e:{token}:$?\n"
        )
        doing = f"running {' '.join(argv[:3])!r} on the console"
        self._expect(rf"mmscope-b:{token}\r?\n", pulse, doing)
        self._expect(rf"mmscope-e:{token}:(\d+)\r?\n", pulse, doing)
        output = bytes(self._child.before).replace(b"\r\n", b"\n")
        status = int(self._child.match.group(1))
        if on_output is not None:
            on_output(output, False)
        return CommandResult(
            argv=tuple(argv),
            status=status,
            stdout=output,
            stderr=b"",
            wall_s=time.monotonic() - start_s,
        )

    def close(self) -> None:
        self._tap.close()

    def _expect(self, pattern: str, pulse: Pulse, doing: str) -> None:
        while True:
            try:
                self._child.expect(pattern, timeout=_POLL_S)
            except pexpect.TIMEOUT:
                pulse.check(doing)
            except pexpect.EOF:
                check_after_loss(self._vitals, doing)
                raise SessionError(f"the console closed while {doing}") from None
            else:
                return
