"""As much of gdb's remote protocol as it takes to stop a guest's kernel at an address."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from types import TracebackType

HARDWARE_BREAKPOINT = 1


class Gdb:
    """A connection to QEMU's gdb stub; the guest stands still from ``connect`` to ``go``."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._path = path
        self._received = b""

    def __enter__(self) -> Gdb:
        deadline_s = time.monotonic() + 10
        while True:
            try:
                self._socket.connect(str(self._path))
                return self
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def set_breakpoint(self, address: int) -> None:
        assert self._ask(f"Z{HARDWARE_BREAKPOINT},{address:x},1") == "OK"

    def clear_breakpoint(self, address: int) -> None:
        assert self._ask(f"z{HARDWARE_BREAKPOINT},{address:x},1") == "OK"

    def register(self, number: int) -> int:
        """One of the general registers, all of which have 8 bytes on x86_64 and arm64."""
        values = bytes.fromhex(self._ask("g"))
        return int.from_bytes(values[8 * number : 8 * number + 8], "little")

    def read(self, address: int, size_bytes: int) -> bytes:
        return bytes.fromhex(self._ask(f"m{address:x},{size_bytes:x}"))

    def run_to_stop(self) -> str:
        """Lets the guest go on until it stops, and returns why."""
        return self._ask("c")

    def _ask(self, text: str) -> str:
        body = text.encode()
        self._socket.sendall(b"$%s#%02x" % (body, sum(body) % 256))
        while True:
            packet = self._packet()
            if packet is not None:
                self._socket.sendall(b"+")
                return packet
            data = self._socket.recv(65536)
            assert data, "the stub has closed the connection"
            self._received += data

    def _packet(self) -> str | None:
        start = self._received.find(b"$")
        end = self._received.find(b"#", start)
        if start < 0 or end < 0 or len(self._received) < end + 3:
            return None
        packet = self._received[start + 1 : end]
        self._received = self._received[end + 3 :]
        return packet.decode()
