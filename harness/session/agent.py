"""The control port of our agent in the guest: commands, files, marks, sampling."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.deadline import StallClock
from harness.errors import MmscopeError, SessionError
from harness.record.frames import Frame, FrameDecoder, FrameType
from harness.session.protocol import CommandResult, Output, command_clock
from harness.session.vitals import Pulse, Vitals, check_after_loss

_POLL_S = 0.2
_SIGKILL = 9
_SERIAL_REST_S = 0.1
"""Requests over a serial port wait until the last answer has left the other channel of the chip:
QEMU's ESCC keeps the interrupt of a channel up that was touched while the other had one, and the
guest then does nothing but serve it."""
REQUEST_STALL_S = 60.0
REQUEST_CEILING_S = 300.0

Take = Callable[[Frame], None]


@dataclass(slots=True)
class _Pending:
    frames: list[Frame] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """Files read from the guest, and what could not be read with the reason."""

    files: Mapping[str, bytes]
    errors: tuple[str, ...]


class AgentSession:
    """Requests to the agent over virtio-serial; any number may be under way at once."""

    def __init__(
        self, channel: socket.socket, vitals: Vitals, *, hello: Mapping[str, str] | None = None
    ) -> None:
        """``hello`` is what an agent said that does not say it again, in a restored guest."""
        self._channel = channel
        self._requests: socket.socket | None = None
        self._vitals = vitals
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._hello: Mapping[str, str] | None = hello
        self._received_bytes = 0
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._receive, name="agent", daemon=True)
        channel.settimeout(None)
        self._thread.start()

    @property
    def received_bytes(self) -> int:
        """Everything that came from the agent: a sign of life."""
        return self._received_bytes

    @property
    def hello(self) -> Mapping[str, str]:
        """What the agent said of itself and the guest; empty before ``wait_hello``."""
        return self._hello or {}

    def send_through(self, requests: socket.socket) -> None:
        """Sends requests by another way than answers come, for agents that take them so."""
        self._requests = requests

    def wait_hello(self, clock: StallClock) -> None:
        """Waits for the agent's first word."""
        pulse = Pulse(self._vitals, clock)
        with self._changed:
            while self._hello is None:
                self._check_channel("waiting for the agent")
                self._changed.wait(_POLL_S)
                pulse.check("waiting for the agent")

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """See ``Session.run``."""
        start_s = time.monotonic()
        stdout: list[bytes] = []
        stderr: list[bytes] = []
        status = 1

        def take(frame: Frame) -> None:
            nonlocal status
            if frame.type is FrameType.STDOUT:
                stdout.append(frame.payload)
            elif frame.type is FrameType.STDERR:
                stderr.append(frame.payload)
            elif frame.type is FrameType.EXIT:
                status = _status(frame)
                return
            if on_output is not None:
                on_output(frame.payload, frame.type is FrameType.STDERR)

        self._request(["exec", *argv], take, clock or command_clock(), kill_on_error=True)
        return CommandResult(
            argv=tuple(argv),
            status=status,
            stdout=b"".join(stdout),
            stderr=b"".join(stderr),
            wall_s=time.monotonic() - start_s,
        )

    def read(self, patterns: Sequence[str]) -> ReadResult:
        """Whole files by glob pattern."""
        files: dict[str, bytes] = {}
        errors: list[str] = []

        def take(frame: Frame) -> None:
            if frame.type is FrameType.FILE:
                path, _, content = frame.payload.partition(b"\0")
                files[path.decode()] = content
            elif frame.type is FrameType.ERROR:
                errors.append(frame.payload.decode(errors="replace"))

        self._simple(["read", *patterns], take)
        return ReadResult(files=files, errors=tuple(errors))

    def mark(self, label: str) -> None:
        """Sets a mark and waits until its full round of samples is written."""
        self._simple(["mark", label])

    def start_sampling(self, period_ms: int, sparse_every: int) -> None:
        """Starts the sampler; ``period_ms`` 0 samples at marks only."""
        self._simple(["sample-start", str(period_ms), str(sparse_every)])

    def stop_sampling(self) -> None:
        """Stops the sampler in order: the stream ends with an END frame."""
        self._simple(["sample-stop"])

    def power_off(self) -> None:
        """Asks for an orderly power-off and does not wait for it."""
        with contextlib.suppress(MmscopeError):
            self._send(next(self._ids), ["poweroff"])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)

    def _simple(self, words: Sequence[str], take: Take | None = None) -> None:
        status = 0
        complaint = ""

        def collect(frame: Frame) -> None:
            nonlocal status, complaint
            if frame.type is FrameType.EXIT:
                status = _status(frame)
            elif take is not None:
                take(frame)
            elif frame.type in (FrameType.STDERR, FrameType.ERROR):
                complaint += frame.payload.decode(errors="replace")

        self._request(words, collect, StallClock(REQUEST_STALL_S, REQUEST_CEILING_S))
        if status:
            raise SessionError(
                f"the agent could not do {' '.join(words)!r} (status {status})"
                + (f": {complaint.strip()}" if complaint else "")
            )

    def _request(
        self,
        words: Sequence[str],
        take: Take,
        clock: StallClock,
        *,
        kill_on_error: bool = False,
    ) -> None:
        request = next(self._ids)
        doing = f"running {' '.join(words[1:4])!r}" if words[0] == "exec" else f"asking {words[0]}"
        pulse = Pulse(self._vitals, clock)
        pending = _Pending()
        with self._changed:
            self._pending[request] = pending
        try:
            self._send(request, words)
            while True:
                with self._changed:
                    if not pending.done and not pending.frames:
                        self._changed.wait(_POLL_S)
                    fresh = list(pending.frames)
                    pending.frames.clear()
                    done = pending.done
                for frame in fresh:
                    clock.progress()
                    take(frame)
                if done:
                    return
                if not fresh:
                    self._nudge()
                self._check_channel(doing)
                pulse.check(doing)
        except BaseException:
            if kill_on_error:
                with contextlib.suppress(MmscopeError):
                    self._send(next(self._ids), ["kill", str(request), str(_SIGKILL)])
            raise
        finally:
            with self._changed:
                self._pending.pop(request, None)

    def _nudge(self) -> None:
        """Sends a byte that means nothing to an agent that is silent on a serial port: the driver
        may keep the end of a request until more comes (pmz_interrupt, when the handler of the
        other channel has read it), and QEMU an interrupt until the channel is touched."""
        if self._requests is not None:
            with self._send_lock, contextlib.suppress(OSError):
                self._requests.sendall(b"\0")

    def _send(self, request: int, words: Sequence[str]) -> None:
        payload = b"\0".join(word.encode() for word in words)
        frame = Frame(type=FrameType.REQUEST, seq=request, payload=payload)
        try:
            with self._send_lock:
                if self._requests is not None:
                    time.sleep(_SERIAL_REST_S)
                (self._requests or self._channel).sendall(frame.encode())
        except OSError as error:
            check_after_loss(self._vitals, f"asking {words[0]}")
            raise SessionError(f"the agent's port is closed: {error.strerror}") from None

    def _check_channel(self, doing: str) -> None:
        if self._broken is not None:
            check_after_loss(self._vitals, doing)
            raise SessionError(f"the agent's port broke while {doing}: {self._broken}")

    def _receive(self) -> None:
        decoder = FrameDecoder("agent port")
        reason = "closed by QEMU"
        try:
            while data := self._channel.recv(1 << 18):
                self._received_bytes += len(data)
                for frame in decoder.feed(data):
                    self._dispatch(frame)
        except (OSError, MmscopeError) as error:
            reason = str(error)
        with self._changed:
            self._broken = reason
            self._changed.notify_all()

    def _dispatch(self, frame: Frame) -> None:
        with self._changed:
            if frame.type is FrameType.HELLO:
                lines = frame.payload.decode(errors="replace").splitlines()
                self._hello = {k: v for k, _, v in (line.partition("=") for line in lines)}
            elif (pending := self._pending.get(frame.seq)) is not None:
                pending.frames.append(frame)
                pending.done |= frame.type is FrameType.EXIT
            self._changed.notify_all()


def _status(frame: Frame) -> int:
    try:
        return int(frame.payload)
    except ValueError:
        raise SessionError(f"the agent sent an exit status {frame.payload!r}") from None
