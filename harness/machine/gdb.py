"""As much of gdb's remote protocol as it takes to stop a guest's kernel at an address."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from harness.errors import QmpError
from harness.machine.process import Machine

_HARDWARE_BREAKPOINT = 1
_BREAKPOINT_REACHED = "T05"
"""SIGTRAP, as the protocol says that a breakpoint was reached."""
_CONNECT_S = 10.0
_STACK_POINTER = 7
"""x86_64's rsp among gdb's registers."""
_X86_ARGUMENTS = (5, 4, 3, 2)
"""rdi, rsi, rdx and rcx among gdb's registers."""
_X86_RESULT = 0
_LINK_REGISTER = 30
"""arm64's x30."""


class Gdb:
    """A connection to QEMU's gdb stub; the guest stands still from its begin to ``run_to``."""

    def __init__(self, path: Path, arch: str, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._arch = arch
        self._path = path
        self._received = b""

    def __enter__(self) -> Gdb:
        deadline_s = time.monotonic() + _CONNECT_S
        while True:
            try:
                self._socket.connect(str(self._path))
                return self
            except OSError as error:
                if time.monotonic() > deadline_s:
                    raise QmpError(f"QEMU's gdb stub cannot be reached: {error}") from None
                time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def run_to(self, address: int) -> None:
        """Lets the guest go on until its kernel comes to an address.

        Raises:
            QmpError: it did not within the time given, or stopped for another reason.
        """
        breakpoint_ = f"{_HARDWARE_BREAKPOINT},{address:x},1"
        self._expect("OK", self._ask(f"Z{breakpoint_}"), "setting a breakpoint")
        try:
            self._expect(_BREAKPOINT_REACHED, self._ask("c"), f"running to {address:#x}")
        finally:
            with contextlib.suppress(QmpError):
                self._expect("OK", self._ask(f"z{breakpoint_}"), "clearing a breakpoint")

    def arguments(self, count: int) -> tuple[int, ...]:
        """The first arguments of the function at whose entry the guest stands."""
        numbers = _X86_ARGUMENTS if self._arch == "x86_64" else range(8)
        return tuple(self.register(number) for number in numbers[:count])

    def result(self) -> int:
        """What the function returned from which the guest has just come."""
        return self.register(_X86_RESULT if self._arch == "x86_64" else 0)

    def return_address(self) -> int:
        """Where the function will return to at whose entry the guest stands."""
        if self._arch == "x86_64":
            return int.from_bytes(self.read(self.register(_STACK_POINTER), 8), "little")
        return self.register(_LINK_REGISTER)

    def register(self, number: int) -> int:
        """One of the general registers, all of which have 8 bytes on x86_64 and arm64."""
        values = bytes.fromhex(self._ask("g"))
        return int.from_bytes(values[8 * number : 8 * number + 8], "little")

    def read(self, address: int, size_bytes: int) -> bytes:
        """Memory at a virtual address, as the guest's CPU sees it now."""
        return bytes.fromhex(self._ask(f"m{address:x},{size_bytes:x}"))

    def detach(self) -> None:
        """Lets the guest go on without us."""
        self._expect("OK", self._ask("D"), "detaching")

    def _expect(self, wanted: str, answer: str, doing: str) -> None:
        if not answer.startswith(wanted):
            raise QmpError(f"QEMU's gdb stub answered {answer!r} when {doing}")

    def _ask(self, text: str) -> str:
        body = text.encode()
        try:
            self._socket.sendall(b"$%s#%02x" % (body, sum(body) % 256))
            while True:
                packet = self._packet()
                if packet is not None:
                    self._socket.sendall(b"+")
                    return packet
                data = self._socket.recv(65536)
                if not data:
                    raise QmpError("QEMU's gdb stub has closed the connection")
                self._received += data
        except TimeoutError:
            raise QmpError(
                f"QEMU's gdb stub did not answer {text[:20]!r} within {self._timeout_s:g} s"
            ) from None
        except OSError as error:
            raise QmpError(f"QEMU's gdb stub cannot be asked: {error.strerror}") from None

    def _packet(self) -> str | None:
        start = self._received.find(b"$")
        end = self._received.find(b"#", start)
        if start < 0 or end < 0 or len(self._received) < end + 3:
            return None
        packet = self._received[start + 1 : end]
        self._received = self._received[end + 3 :]
        return packet.decode()


@contextlib.contextmanager
def attached(machine: Machine, *, timeout_s: float) -> Iterator[Gdb]:
    """A debugger on the machine; the guest stands still when the block begins. Afterwards the
    debugger is gone, and the guest left as it is then.

    Raises:
        QmpError: QEMU does not answer.
    """
    # a socket's path may have no more than a hundred letters
    with tempfile.TemporaryDirectory(prefix="mmscope-gdb-") as scratch:
        path = Path(scratch) / "gdb"
        # or the stub would stop it, and say so unasked
        if machine.qmp.execute("query-status")["running"]:
            machine.qmp.execute("stop")
        machine.qmp.human(f"gdbserver unix:{path},server=on,wait=off")
        try:
            with Gdb(path, machine.spec.arch, timeout_s) as gdb:
                yield gdb
        finally:
            with contextlib.suppress(QmpError):
                machine.qmp.human("gdbserver none")
