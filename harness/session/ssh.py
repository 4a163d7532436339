"""ssh into the guest: a shell for people, and a session like the others.

The client's key is made in memory for this machine alone and is never written down; the guest
learns its public half from the kernel command line and tells its own host key on the console,
so that both sides know whom they talk to.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
import select
import shlex
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.deadline import StallClock
from harness.errors import SessionError
from harness.session.protocol import CommandResult, Output, command_clock
from harness.session.vitals import Pulse, Vitals, check_after_loss

_CONNECT_S = 60.0
_POLL_S = 0.2


def make_key() -> paramiko.Ed25519Key:
    """A fresh ed25519 key, in memory only."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))


class SshSession:
    """One ssh connection to a guest's forwarded port on loopback."""

    def __init__(
        self, port: int, key: paramiko.Ed25519Key, host_key_base64: str, vitals: Vitals
    ) -> None:
        """Raises SessionError when the guest refuses, or is not the one we started."""
        self._vitals = vitals
        self._client = paramiko.SSHClient()
        known = paramiko.Ed25519Key(data=_decode_key(host_key_base64))
        self._client.get_host_keys().add(f"[127.0.0.1]:{port}", "ssh-ed25519", known)
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            self._client.connect(
                "127.0.0.1",
                port=port,
                username="root",
                pkey=key,
                timeout=_CONNECT_S,
                banner_timeout=_CONNECT_S,
                auth_timeout=_CONNECT_S,
                allow_agent=False,
                look_for_keys=False,
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._client.close()
            check_after_loss(vitals, "connecting by ssh")
            raise SessionError(
                f"ssh to the guest on port {port} failed: {error or type(error).__name__}",
                fix="see the console log for what dropbear said; try without --shell",
            ) from None

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """See ``Session.run``."""
        clock = clock or command_clock()
        pulse = Pulse(self._vitals, clock)
        doing = f"running {' '.join(argv[:3])!r} by ssh"
        start_s = time.monotonic()
        stdout: list[bytes] = []
        stderr: list[bytes] = []
        channel = self._open()
        with contextlib.closing(channel):
            channel.exec_command(shlex.join(argv))
            channel.settimeout(_POLL_S)
            while True:
                moved = False
                while channel.recv_ready():
                    moved = True
                    stdout.append(channel.recv(65536))
                    if on_output is not None:
                        on_output(stdout[-1], False)
                while channel.recv_stderr_ready():
                    moved = True
                    stderr.append(channel.recv_stderr(65536))
                    if on_output is not None:
                        on_output(stderr[-1], True)
                if moved:
                    clock.progress()
                    continue
                if channel.exit_status_ready() and channel.eof_received:
                    break
                if channel.closed:
                    check_after_loss(self._vitals, doing)
                    raise SessionError(f"the guest closed the connection while {doing}")
                select.select([channel], [], [], _POLL_S)
                pulse.check(doing)
            status = channel.recv_exit_status()
        return CommandResult(
            argv=tuple(argv),
            status=status if status >= 0 else 255,
            stdout=b"".join(stdout),
            stderr=b"".join(stderr),
            wall_s=time.monotonic() - start_s,
        )

    def shell(self) -> int:
        """Hands this process's terminal to a login shell in the guest; returns its exit status.

        Without a terminal the shell reads commands from standard input.
        """
        channel = self._open()
        with contextlib.closing(channel):
            if sys.stdin.isatty():
                size = shutil.get_terminal_size()
                channel.get_pty(os.environ.get("TERM", "vt100"), size.columns, size.lines)
                channel.invoke_shell()
            else:
                channel.exec_command("/bin/sh")
            with _raw_terminal(channel):
                self._pump(channel)
            return channel.recv_exit_status()

    def close(self) -> None:
        self._client.close()

    def _open(self) -> paramiko.Channel:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            check_after_loss(self._vitals, "opening an ssh channel")
            raise SessionError("the ssh connection to the guest is closed")
        try:
            return transport.open_session(timeout=_CONNECT_S)
        except paramiko.SSHException as error:
            check_after_loss(self._vitals, "opening an ssh channel")
            raise SessionError(f"the guest opens no ssh channel: {error}") from None

    def _pump(self, channel: paramiko.Channel) -> None:
        stdin = sys.stdin.fileno()
        sources: list[paramiko.Channel | int] = [channel, stdin]
        while not (channel.exit_status_ready() and channel.eof_received):
            ready = select.select(sources, [], [], 1.0)[0]
            self._vitals.check("in the shell")
            if stdin in ready:
                typed = os.read(stdin, 4096)
                if typed:
                    channel.sendall(typed)
                else:
                    channel.shutdown_write()
                    sources.remove(stdin)
            while channel.recv_stderr_ready():
                _write(sys.stderr.fileno(), channel.recv_stderr(65536))
            while channel.recv_ready():
                _write(sys.stdout.fileno(), channel.recv(65536))
            if channel.closed:
                return


@contextlib.contextmanager
def _raw_terminal(channel: paramiko.Channel) -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    saved = termios.tcgetattr(sys.stdin)

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        channel.resize_pty(size.columns, size.lines)

    previous = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
        signal.signal(signal.SIGWINCH, previous)


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _decode_key(base64_text: str) -> bytes:
    try:
        return base64.b64decode(base64_text, validate=True)
    except binascii.Error:
        raise SessionError(f"the guest announced a host key {base64_text!r}") from None
