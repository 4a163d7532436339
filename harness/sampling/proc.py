"""The sample stream of the guest's agent: received in a thread, written as it comes."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType

from harness.deadline import StallClock
from harness.errors import MmscopeError, SessionError
from harness.record.frames import FrameDecoder, FrameType
from harness.record.rundir import disk_errors
from harness.session.vitals import Pulse, Vitals, check_after_loss


class SampleRecorder:
    """Writes the stream byte for byte to a file.

    The bytes are decoded only to notice damage and the end at once; what is damaged is still
    written, so that a reader can see it.
    """

    def __init__(self, channel: socket.socket, path: Path) -> None:
        self._channel = channel
        self._path = path
        self._changed = threading.Condition()
        self._received_bytes = 0
        self._ended = False
        self._closed = False
        self._error: MmscopeError | None = None
        self._thread = threading.Thread(target=self._receive, name="samples", daemon=True)

    def __enter__(self) -> SampleRecorder:
        self._channel.settimeout(None)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)

    @property
    def received_bytes(self) -> int:
        """Bytes received: a sign of life."""
        return self._received_bytes

    def check(self) -> None:
        """Raises what went wrong with the stream: damage, or a full disk."""
        with self._changed:
            if self._error is not None:
                raise self._error

    def wait_end(self, vitals: Vitals, clock: StallClock) -> None:
        """Waits for the END frame after sampling was stopped.

        Raises:
            SessionError: the stream closed without it.
            GuestTimeoutError: nothing came for too long.
        """
        doing = "receiving the last samples"
        pulse = Pulse(vitals, clock)
        while True:
            with self._changed:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return
                closed = self._closed
                if not closed:
                    self._changed.wait(0.2)
            if closed:
                check_after_loss(vitals, doing)
                raise SessionError("the sample stream closed before its end")
            pulse.check(doing)

    def _receive(self) -> None:
        decoder = FrameDecoder(str(self._path))
        sound = True
        try:
            with disk_errors(self._path), self._path.open("wb") as log:
                while data := self._recv():
                    log.write(data)
                    log.flush()
                    self._received_bytes += len(data)
                    if sound:
                        sound = self._decode(decoder, data)
        except MmscopeError as error:
            self._fail(error)
            while self._recv():
                pass  # The guest must not wait for us; what it sends is lost and said to be.
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _recv(self) -> bytes:
        try:
            return self._channel.recv(1 << 18)
        except OSError:
            return b""

    def _decode(self, decoder: FrameDecoder, data: bytes) -> bool:
        try:
            for frame in decoder.feed(data):
                with self._changed:
                    self._ended |= frame.type is FrameType.END
                    self._changed.notify_all()
        except MmscopeError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: MmscopeError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
