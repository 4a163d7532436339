"""The trace port of the guest: received in a thread, sub-buffers written to a file per CPU."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from harness.deadline import StallClock
from harness.errors import MmscopeError, SessionError
from harness.record.frames import Frame, FrameDecoder, FrameType
from harness.record.rundir import disk_errors
from harness.record.trace import ring_path
from harness.session.vitals import Pulse, Vitals

_POLL_S = 0.1


@dataclass(slots=True)
class Received:
    """What came of one window so far."""

    path: Path
    hello: dict[str, str] | None = None
    end: dict[str, str] | None = None
    end_seq: int = 0
    """Frames of sub-buffers that the reader says it sent."""
    frames: int = 0
    """… and those that came."""
    subbuffers: dict[int, int] = field(default_factory=dict)
    """CPU → whole sub-buffers written."""
    marks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def subbuffer_bytes(self) -> int:
        """Size that the reader announced; 0 before it did."""
        return int((self.hello or {}).get("subbuffer_bytes", "0"))


class TraceReceiver:
    """Owns the host's end of the trace port for as long as a guest is traced.

    Windows come one after the other on the same port. Once the stream is damaged nothing after
    that can be trusted: the rest is read and thrown away, so that the guest never waits for us,
    and ``broken`` says why.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._window: Received | None = None
        self._files: dict[int, BinaryIO] = {}
        self._received_bytes = 0
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._receive, name="trace", daemon=True)
        channel.settimeout(None)
        self._thread.start()

    @property
    def received_bytes(self) -> int:
        """Bytes received: a sign of life."""
        return self._received_bytes

    @property
    def broken(self) -> str | None:
        """Why the port can no longer be used; None while it can."""
        return self._broken

    def open_window(self, path: Path) -> Received:
        """From now on what comes belongs to this window."""
        with self._changed:
            assert self._window is None
            self._window = Received(path=path)
            return self._window

    def close_window(self) -> None:
        """Closes the window's files; what still comes for it is dropped."""
        with self._changed:
            window = self._window
            assert window is not None
            self._window = None
            for cpu, stream in self._files.items():
                try:
                    with disk_errors(ring_path(window.path, cpu)):
                        stream.close()
                except MmscopeError as error:
                    window.problems.append(error.message)
            self._files.clear()

    def send(self, line: str) -> None:
        """A request to the reader in the guest.

        Raises:
            SessionError: the port is closed.
        """
        try:
            self._channel.sendall(line.encode() + b"\n")
        except OSError as error:
            raise SessionError(f"the trace port is closed: {error.strerror}") from None

    def wait(
        self,
        until: Callable[[], bool],
        doing: str,
        vitals: Vitals,
        clock: StallClock,
    ) -> None:
        """Returns when ``until`` holds or the port is broken.

        Raises:
            GuestTimeoutError: nothing moved for too long.
            KernelCrashError, LostMachineError: the guest is gone.
        """
        pulse = Pulse(vitals, clock)
        while True:
            with self._changed:
                if until() or self._broken is not None:
                    return
                self._changed.wait(_POLL_S)
            pulse.check(doing)

    def close(self) -> None:
        """Ends the port's use; nobody can receive from it after this."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)

    def _receive(self) -> None:
        decoder = FrameDecoder("trace port")
        reason = "the trace port was closed"
        while data := self._recv():
            self._received_bytes += len(data)
            if self._broken is not None:
                continue
            try:
                for frame in decoder.feed(data):
                    with self._changed:
                        self._take(frame)
                        self._changed.notify_all()
            except MmscopeError as error:
                self._break(error.message)
        if self._broken is None:
            try:
                decoder.finish()
            except MmscopeError as error:
                reason = error.message
            self._break(reason)

    def _recv(self) -> bytes:
        try:
            return self._channel.recv(1 << 18)
        except OSError:
            return b""

    def _break(self, reason: str) -> None:
        with self._changed:
            self._broken = reason
            self._changed.notify_all()

    def _take(self, frame: Frame) -> None:
        window = self._window
        if window is None:
            return
        if frame.type is FrameType.TRACE_PAGES:
            self._write(window, frame)
        elif frame.type is FrameType.HELLO:
            window.hello = _values(frame)
        elif frame.type is FrameType.MARK:
            window.marks.append(frame.payload.decode(errors="replace"))
        elif frame.type is FrameType.ERROR:
            window.problems.append(f"reader: {frame.payload.decode(errors='replace')}")
        elif frame.type is FrameType.END:
            window.end, window.end_seq = _values(frame), frame.seq
        else:
            window.problems.append(f"reader: an unexpected {frame.type.name} frame")

    def _write(self, window: Received, frame: Frame) -> None:
        size = window.subbuffer_bytes
        if not size or len(frame.payload) % size:
            window.problems.append(
                f"reader: a frame of {len(frame.payload)} bytes for cpu{frame.source} does not "
                f"hold whole sub-buffers of {size}"
            )
            return
        if frame.seq != window.frames:
            window.problems.append(f"reader: frame {frame.seq} came where {window.frames} was due")
        window.frames = frame.seq + 1
        path = ring_path(window.path, frame.source)
        with disk_errors(path):
            if frame.source not in self._files:
                self._files[frame.source] = path.open("wb")
            self._files[frame.source].write(frame.payload)
        window.subbuffers[frame.source] = (
            window.subbuffers.get(frame.source, 0) + len(frame.payload) // size
        )


def _values(frame: Frame) -> dict[str, str]:
    lines = frame.payload.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}
