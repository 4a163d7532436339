"""A booted guest: machine, console, agent and, when asked for, ssh, under one roof."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable
from types import TracebackType

from harness.deadline import StallClock
from harness.errors import MmscopeError, SessionError
from harness.machine.process import Machine
from harness.machine.spec import MachineSpec
from harness.record.rundir import RunDirectory
from harness.session.agent import AgentSession
from harness.session.serial import SerialSession
from harness.session.ssh import SshSession, make_key
from harness.session.vitals import MachineVitals

BOOT_STALL_S = 60.0
"""Longest silence of a booting guest; a healthy one under TCG prints every second or so."""
BOOT_CEILING_S = 600.0
_POWER_OFF_S = 10.0
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b")


class Guest:
    """Boots on entering; on leaving powers off politely, then ends QEMU in any case."""

    def __init__(
        self,
        spec: MachineSpec,
        run: RunDirectory,
        *,
        ssh: bool = False,
        progress: Callable[[str], None] = lambda _: None,
        boot_stall_s: float = BOOT_STALL_S,
    ) -> None:
        self._key = make_key() if ssh else None
        if self._key is not None:
            public = self._key.get_base64()
            spec = dataclasses.replace(
                spec, network=True, append=(*spec.append, f"mmscope.ssh_key={public}")
            )
        self.spec = spec
        self.run = run
        self._progress = progress
        self._boot_stall_s = boot_stall_s
        self._stack = contextlib.ExitStack()
        self.boot_s = 0.0
        self.host_key = ""

    def __enter__(self) -> Guest:
        try:
            self._boot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _boot(self) -> None:
        start_s = time.monotonic()
        self._progress("starting QEMU")
        self.machine = self._stack.enter_context(Machine(self.spec, self.run))
        self.vitals = MachineVitals(self.machine)
        self.agent = AgentSession(self.machine.control, self.vitals)
        self._stack.callback(self.agent.close)
        self.vitals.add_pulse(lambda: self.agent.received_bytes)
        self._progress("booting the kernel")
        clock = StallClock(self._boot_stall_s, BOOT_CEILING_S)
        serial = SerialSession(self.machine.console, self.vitals)
        try:
            serial.wait_ready(clock)
            self.agent.wait_hello(clock)
            if self._key is not None:
                self.host_key = serial.wait_line(
                    r"mmscope: hostkey ssh-ed25519 (\S+)\r?\n", clock, "waiting for ssh"
                )
                serial.wait_line(r"(mmscope: ssh-ready)\r?\n", clock, "waiting for ssh")
        finally:
            serial.close()
        self.boot_s = time.monotonic() - start_s
        self._progress(f"guest is up after {self.boot_s:.1f} s")

    def serial(self) -> SerialSession:
        """A shell on the serial console; close it when done."""
        return SerialSession(self.machine.console, self.vitals)

    def ssh(self) -> SshSession:
        """A new ssh connection; the guest must have been made with ``ssh=True``.

        Raises:
            SessionError: refused, or the machine has no network.
        """
        if self._key is None:
            raise SessionError("this guest was booted without ssh")
        return SshSession(self.ssh_port(), self._key, self.host_key, self.vitals)

    def ssh_port(self) -> int:
        """The loopback port that QEMU forwards to the guest's sshd."""
        answer = self.machine.qmp.human("info usernet")
        match = _FORWARD.search(answer)
        if match is None:
            raise SessionError("QEMU reports no forwarded ssh port", details={"usernet": answer})
        return int(match[1])

    def power_off(self) -> None:
        """Asks the guest to end in order; QEMU is ended when it does not within ten seconds."""
        self.agent.power_off()
        self.machine.wait_exit(_POWER_OFF_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.machine.poll() is None:
                with contextlib.suppress(MmscopeError):
                    self.power_off()
        finally:
            self._stack.close()
