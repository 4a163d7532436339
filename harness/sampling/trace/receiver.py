"""The trace port of the guest: received in a thread, sub-buffers written to a file per CPU."""

from __future__ import annotations

import select
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
    damaged: bool = False
    """From some point on nothing could be understood; ``problems`` says where and why."""
    problems: list[str] = field(default_factory=list)

    @property
    def subbuffer_bytes(self) -> int:
        """Size that the reader announced; 0 before it did."""
        return int((self.hello or {}).get("subbuffer_bytes", "0"))


class TraceReceiver:
    """Reads the host's end of the trace port, window by window.

    What is damaged is read on and thrown away, so that the guest never waits for us. The port
    itself stays open: it belongs to the machine.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._decoder = FrameDecoder("trace port")
        self._window: Received | None = None
        self._files: dict[int, BinaryIO] = {}
        self._received_bytes = 0
        self._closed = False
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._receive, name="trace", daemon=True)
        self._thread.start()

    @property
    def received_bytes(self) -> int:
        """Bytes received: a sign of life."""
        return self._received_bytes

    @property
    def closed(self) -> bool:
        """The machine's end of the port is gone."""
        return self._closed

    def open_window(self, path: Path) -> Received:
        """From now on what comes belongs to this window, and begins with a whole frame."""
        with self._changed:
            assert self._window is None
            self._decoder = FrameDecoder("trace port")
            self._window = Received(path=path)
            return self._window

    def close_window(self) -> None:
        """Ends the window and its files; each CPU that its reader named has one."""
        with self._changed:
            window = self._window
            assert window is not None
            self._window = None
            try:
                if not window.damaged:
                    self._decoder.finish()
            except MmscopeError as error:
                window.problems.append(error.message)
            try:
                for name in window.end or {}:
                    if name.startswith("cpu"):
                        self._file(window, int(name.removeprefix("cpu")))
                for stream in self._files.values():
                    with disk_errors(window.path):
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
        self, until: Callable[[], bool], doing: str, vitals: Vitals, clock: StallClock
    ) -> None:
        """Returns when ``until`` holds, or the port is closed.

        Raises:
            GuestTimeoutError: nothing moved for too long.
            KernelCrashError, LostMachineError: the guest is gone.
        """
        pulse = Pulse(vitals, clock)
        while True:
            with self._changed:
                if until() or self._closed:
                    return
                self._changed.wait(_POLL_S)
            pulse.check(doing)

    def close(self) -> None:
        """Stops receiving."""
        self._waker.close()
        self._thread.join(timeout=5)
        self._wake.close()

    def _receive(self) -> None:
        while data := self._recv():
            self._received_bytes += len(data)
            with self._changed:
                window = self._window
                if window is not None and not window.damaged:
                    self._decode(window, data)
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _recv(self) -> bytes:
        try:
            ready, _, _ = select.select([self._channel, self._wake], [], [])
            return b"" if self._wake in ready else self._channel.recv(1 << 18)
        except (OSError, ValueError):
            return b""

    def _decode(self, window: Received, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._take(window, frame)
        except MmscopeError as error:
            window.damaged = True
            window.problems.append(error.message)

    def _take(self, window: Received, frame: Frame) -> None:
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
            window.problems.append(f"trace port: an unexpected {frame.type.name} frame")

    def _write(self, window: Received, frame: Frame) -> None:
        size = window.subbuffer_bytes
        if not size or not frame.payload or len(frame.payload) % size:
            window.problems.append(
                f"trace port: {len(frame.payload)} bytes of cpu{frame.source} are not whole "
                f"sub-buffers of {size} bytes"
            )
            return
        if frame.seq != window.frames:
            window.problems.append(
                f"trace port: frame {frame.seq} came where {window.frames} was due"
            )
        window.frames += 1
        with disk_errors(ring_path(window.path, frame.source)):
            self._file(window, frame.source).write(frame.payload)
        window.subbuffers[frame.source] = (
            window.subbuffers.get(frame.source, 0) + len(frame.payload) // size
        )

    def _file(self, window: Received, cpu: int) -> BinaryIO:
        if cpu not in self._files:
            path = ring_path(window.path, cpu)
            with disk_errors(path):
                self._files[cpu] = path.open("wb")
        return self._files[cpu]


def _values(frame: Frame) -> dict[str, str]:
    lines = frame.payload.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}
