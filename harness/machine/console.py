"""The guest's serial console: always drained, always logged, watched for crashes."""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from harness.errors import MmscopeError
from harness.machine.crash import Finding, FindingKind, LockupReports, recognise
from harness.record.rundir import disk_errors

TAIL_LINES = 40
_CHUNK_BYTES = 65536
_TAP_LIMIT_BYTES = 4 << 20
_PARTIAL_BYTES = 4096
"""So much is kept of a line without an end."""


class Console:
    """Reads the console socket in a thread: to a file, to the crash watch, and to one tap.

    The guest never waits for us: what a tap does not read is kept up to a limit, and the oldest
    bytes beyond it are dropped for the tap only, never for the log.
    """

    def __init__(self, channel: socket.socket, log_path: Path) -> None:
        self._channel = channel
        self._log_path = log_path
        self._changed = threading.Condition()
        self._findings: list[Finding] = []
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._partial = b""
        self._received_bytes = 0
        self._reports = LockupReports()
        self._whole_life_bytes = 0
        self._begun_life_bytes = 0
        self._closed = False
        self._error: MmscopeError | None = None
        self._tap: socket.socket | None = None
        self._tapped = False
        self._tap_backlog = bytearray()
        self._wake_read, self._wake_write = socket.socketpair()
        self._stopping = False
        self._thread = threading.Thread(target=self._drain, name="console", daemon=True)

    def __enter__(self) -> Console:
        self._channel.setblocking(False)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._wake()
        self._thread.join(timeout=5)
        for end in (self._channel, self._wake_read, self._wake_write):
            end.close()
        if self._tap is not None:
            self._tap.close()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the crash watch has seen so far, in order."""
        with self._changed:
            return tuple(self._findings)

    @property
    def fatal(self) -> Finding | None:
        """The finding that says most about the guest's death: a panic before an oops."""
        fatal = [finding for finding in self.findings if finding.is_fatal]
        panics = [finding for finding in fatal if finding.kind is FindingKind.PANIC]
        return next(iter(panics or fatal), None)

    @property
    def received_bytes(self) -> int:
        """Grows whenever the guest prints."""
        with self._changed:
            return self._received_bytes

    @property
    def life_bytes(self) -> int:
        """Grows when the guest prints anything but reports of its kernel about CPUs or tasks that
        are stuck: the sign of life that waits are extended by."""
        with self._changed:
            return self._whole_life_bytes + self._begun_life_bytes

    @property
    def lockup(self) -> Finding | None:
        """The last report that a CPU or a task is stuck."""
        stuck = [found for found in self.findings if found.kind is FindingKind.LOCKUP]
        return stuck[-1] if stuck else None

    @property
    def closed(self) -> bool:
        """QEMU has closed its end."""
        with self._changed:
            return self._closed

    @property
    def error(self) -> MmscopeError | None:
        """The log could not be written (full disk)."""
        with self._changed:
            return self._error

    def tail(self, lines: int = 15) -> str:
        """The last lines printed, an unfinished one included."""
        with self._changed:
            text = list(self._tail)
            if self._partial.strip():
                text.append(_decode(self._partial))
        return "\n".join(text[-lines:])

    def wait_change(self, timeout_s: float) -> None:
        """Sleeps until something was printed, the console closed, or the time is over."""
        with self._changed:
            self._changed.wait(timeout_s)

    def open_tap(self) -> socket.socket:
        """A two-way socket that carries the console; the caller closes it.

        The first tap also gets what was printed before it, so that a fast boot is not missed;
        later ones start now. One tap at a time: a new one replaces the old.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with self._changed:
            if self._tap is not None:
                self._tap.close()
            if self._tapped:
                self._tap_backlog.clear()
            self._tap = ours
            self._tapped = True
        self._wake()
        return theirs

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_write.send(b"!")

    def _drain(self) -> None:
        try:
            with disk_errors(self._log_path):
                self._log_path.parent.mkdir(parents=True, exist_ok=True)
                with self._log_path.open("ab", buffering=0) as log:
                    self._drain_into(log.write)
        except MmscopeError as error:
            with self._changed:
                self._error = error
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _drain_into(self, write: Callable[[bytes], object]) -> None:
        while not self._stopping:
            with selectors.DefaultSelector() as selector:
                selector.register(self._channel, selectors.EVENT_READ)
                selector.register(self._wake_read, selectors.EVENT_READ)
                tap = self._tap
                if tap is not None:
                    events = selectors.EVENT_READ
                    if self._tap_backlog:
                        events |= selectors.EVENT_WRITE
                    selector.register(tap, events)
                ready = {key.fileobj for key, _ in selector.select(timeout=1.0)}
            if self._wake_read in ready:
                self._wake_read.recv(4096)
            if tap is not None and tap in ready:
                self._serve_tap(tap)
            if self._channel in ready:
                try:
                    data = self._channel.recv(_CHUNK_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                write(data)
                self._take(data)

    def _serve_tap(self, tap: socket.socket) -> None:
        try:
            if self._tap_backlog:
                sent = tap.send(self._tap_backlog)
                del self._tap_backlog[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop_tap(tap)
            return
        try:
            typed = tap.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            typed = b""
        if not typed:
            self._drop_tap(tap)
            return
        self._channel.setblocking(True)
        try:
            self._channel.settimeout(5)
            self._channel.sendall(typed)
        except OSError:
            self._drop_tap(tap)
        finally:
            self._channel.setblocking(False)

    def _drop_tap(self, tap: socket.socket) -> None:
        with self._changed:
            if self._tap is tap:
                self._tap = None
                self._tap_backlog.clear()
        tap.close()

    def _take(self, data: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        texts = [_decode(line) for line in lines]
        recognised = [recognise(text) for text in texts]
        found = [finding for finding in recognised if finding is not None]
        covered = [
            self._reports.covers(text, finding)
            for text, finding in zip(texts, recognised, strict=True)
        ]
        life_bytes = sum(
            len(line) + 1 for line, is_report in zip(lines, covered, strict=True) if not is_report
        )
        if covered and covered[0]:
            # the report follows on a line that was begun, and counted, before it
            life_bytes += self._begun_life_bytes
        cut_bytes = max(0, len(partial) - _PARTIAL_BYTES)
        partial = partial[cut_bytes:]
        # what may be a line of a report counts when it is whole
        said = b"" if self._reports.expects_lines else partial.partition(b"[")[0]
        with self._changed:
            self._received_bytes += len(data)
            self._whole_life_bytes += life_bytes + cut_bytes
            self._begun_life_bytes = len(said)
            self._partial = partial
            self._tail.extend(texts)
            self._findings.extend(found)
            if self._tap is not None or not self._tapped:
                self._tap_backlog += data
                del self._tap_backlog[: max(0, len(self._tap_backlog) - _TAP_LIMIT_BYTES)]
            self._changed.notify_all()


def _decode(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
