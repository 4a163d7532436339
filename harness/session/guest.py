"""A booted guest: machine, console, agent and, when asked for, ssh, under one roof."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from harness.deadline import StallClock
from harness.errors import GuestError, LostMachineError, MmscopeError, QmpError, SessionError
from harness.machine.argv import platform_of
from harness.machine.diagnosis import diagnose
from harness.machine.process import Machine
from harness.machine.shape import UNSHAPED, Shaped
from harness.machine.snapshot import Clone, Template, save_template
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
_STATUS_S = 3.0
_EXPLAINED_BYTES = 256 << 10
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b")


class Guest:
    """Boots on entering; on leaving powers off politely, then ends QEMU in any case.

    Made with ``Guest.restored``, it goes on from a template instead, and is ended without ado.
    """

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
        self._template: Template | None = None
        self._private = True
        self._stack = contextlib.ExitStack()
        self.boot_s = 0.0
        self.shaped: Shaped = UNSHAPED
        """What was made of it since it booted: see ``harness.experiment.shaping``."""
        self.host_key = ""

    @classmethod
    def restored(
        cls,
        template: Template,
        run: RunDirectory,
        *,
        private: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Guest:
        """A guest that goes on where the template's stood; ``private``: see ``Clone``.

        It has no ssh. The console and QEMU's logs go to ``run``.
        """
        guest = cls(template.spec, run, progress=progress)
        guest._template = template
        guest._private = private
        return guest

    def __enter__(self) -> Guest:
        try:
            if self._template is None:
                self._boot()
            else:
                self._restore(self._template)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _boot(self) -> None:
        start_s = time.monotonic()
        self._progress("starting QEMU")
        self._start(Machine(self.spec, self.run))
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
        except (GuestError, LostMachineError) as error:
            self._explain(error)
            raise
        finally:
            serial.close()
        if platform_of(self.spec.arch).control:
            requests = self.machine.console.open_tap()
            self._stack.callback(requests.close)
            self.agent.send_through(requests)
        self.boot_s = time.monotonic() - start_s
        self._progress(f"guest is up after {self.boot_s:.1f} s")

    def _explain(self, error: MmscopeError) -> None:
        """Adds to the error what the console says of its cause."""
        with contextlib.suppress(OSError):
            console = self.run.console_path.read_bytes()[-_EXPLAINED_BYTES:]
            ended = self.machine.poll() is not None
            text = console.decode(errors="replace")
            if (found := diagnose(text, self.spec.arch, ended=ended)) is not None:
                error.details = {"diagnosis": found.why, **error.details}
                error.fix = found.fix

    def _restore(self, template: Template) -> None:
        start_s = time.monotonic()
        self._start(Clone(template, self.run, private=self._private), template.hello)
        self.agent.read(["/proc/uptime"])
        self.boot_s = time.monotonic() - start_s
        self._progress(f"restored guest answers after {self.boot_s:.2f} s")

    def _start(self, machine: Machine, hello: Mapping[str, str] | None = None) -> None:
        self.machine = self._stack.enter_context(machine)
        self.vitals = MachineVitals(self.machine)
        self.agent = AgentSession(self.machine.control, self.vitals, hello=hello)
        self._stack.callback(self.agent.close)
        self.vitals.add_pulse(lambda: self.agent.received_bytes)

    def save(self, *, go_on: bool = False) -> Template:
        """The guest as it stands, for ``restored``; see ``save_template``. Nothing may be under
        way in it: the host's side of a request is not saved.
        """
        return save_template(self.machine, hello=self.agent.hello, go_on=go_on)

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
        """Asks the guest to end in order, and gives it ten seconds; none where it is stopped."""
        with contextlib.suppress(QmpError):
            status = self.machine.qmp.execute("query-status", timeout_s=_STATUS_S)
            if not status.get("running", True):
                return
        self.agent.power_off()
        self.machine.wait_exit(_POWER_OFF_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            polite = kind is None and self._template is None
            if polite and self.machine.poll() is None:
                with contextlib.suppress(MmscopeError):
                    self.power_off()
        finally:
            self._stack.close()
