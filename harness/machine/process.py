"""The QEMU process: started with inherited sockets and memory, ended on every path.

QEMU runs in a session of its own, so that a Ctrl-C at the terminal reaches mmscope alone, and
it dies with mmscope (``harness.mortal``), so that even ``kill -9`` leaves nothing running. The
thread that starts a machine must outlive it: the kernel sends the death signal when that thread,
not the whole process, ends.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from harness.errors import LaunchError, LostMachineError, QmpError
from harness.kernel.elf import parse_elf
from harness.machine.argv import Endpoints, qemu_argv
from harness.machine.chunks import RECORDS_BYTES, place_chunks, with_chunks
from harness.machine.console import Console
from harness.machine.memfile import memory_file
from harness.machine.qemu import find_qemu, may_keep_stale_code, qemu_version
from harness.machine.qmp import Qmp
from harness.machine.spec import CHUNK_ARCHES, MachineSpec
from harness.mortal import mortal
from harness.record.rundir import RunDirectory, disk_errors, write_atomic

_QUIT_S = 5.0
_TERM_S = 3.0
_KILL_S = 10.0

_TRACE_BUFFER_BYTES = 8 << 20
"""What the trace port may be ahead of us, so that the guest need not wait while we are busy."""
_SO_SNDBUFFORCE = 32
"""asm-generic/socket.h; Python's socket module does not name it."""


class MachineState(enum.Enum):
    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"


class Machine:
    """A running guest's host side. Use it as a context manager: leaving ends QEMU.

    ``control``, ``stream`` and ``trace`` are the host's ends of the guest's ports; whoever reads
    them closes them. ``memory_fds`` are the guest's RAM, one file a node (None: no memory), then
    what can be added to it; ``swap_fd`` is its swap disk.
    """

    private_memory = False
    """Whether QEMU keeps the guest's writes to itself: ``memory_fds`` then lack them."""
    restored = False
    """Whether the guest goes on from a saved state instead of booting."""

    def __init__(self, spec: MachineSpec, run: RunDirectory) -> None:
        self.spec = spec
        self.run = run
        self.state = MachineState.NEW
        self.argv: list[str] = []
        self.memory_fds: tuple[int | None, ...] = ()
        self.swap_fd: int | None = None
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        try:
            self._launch()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    @property
    def stderr_path(self) -> Path:
        return self.run.qemu_path / "stderr.log"

    @property
    def pid(self) -> int:
        """QEMU's process; it has been started."""
        assert self._process is not None
        return self._process.pid

    def poll(self) -> int | None:
        """QEMU's exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stderr_text(self) -> str:
        """What QEMU said on its standard error."""
        with contextlib.suppress(OSError):
            return self.stderr_path.read_text(errors="replace").strip()
        return ""

    def check_alive(self, doing: str) -> None:
        """Raises LostMachineError when QEMU is gone, with its last words and the console's."""
        status = self.poll()
        if status is not None:
            raise LostMachineError(
                f"QEMU ended while {doing} ({describe_status(status)})",
                details=self.evidence(),
            )

    def evidence(self) -> dict[str, str]:
        """What a person needs to see of a machine that failed."""
        details: dict[str, str] = {}
        if text := self.stderr_text():
            details["QEMU said"] = text
        if tail := self.console.tail():
            details["last console lines"] = tail
        details["run directory"] = str(self.run.path)
        return details

    def wait_exit(self, timeout_s: float) -> bool:
        """Whether QEMU has ended within the time."""
        if self._process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll() is not None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end_process()
        finally:
            self.state = MachineState.ENDED
            self._stack.close()

    def _launch(self) -> None:
        binary = find_qemu(self.spec.arch)
        inherited: list[socket.socket] = []
        with contextlib.ExitStack() as passed:

            def channel() -> tuple[socket.socket, int]:
                ours, theirs = socket.socketpair()
                passed.callback(theirs.close)
                inherited.append(theirs)
                return ours, theirs.fileno()

            qmp_socket, qmp_fd = channel()
            console_socket, console_fd = channel()
            self.control, control_fd = channel()
            self.stream, stream_fd = channel()
            self.trace, trace_fd = channel()
            _grow_buffer(inherited[-1], _TRACE_BUFFER_BYTES)
            self._stack.callback(self.control.close)
            self._stack.callback(self.stream.close)
            self._stack.callback(self.trace.close)
            self.memory_fds = tuple(
                self._keep(self._memory_file(place))
                for place in range(len(self.spec.nodes) + len(self.spec.hot))
            )
            self.swap_fd = self._keep(self._swap_file())
            endpoints = Endpoints(
                qmp=qmp_fd,
                console=console_fd,
                control=control_fd,
                stream=stream_fd,
                trace=trace_fd,
                memory=self.memory_fds,
                swap=self.swap_fd,
                restored=self.restored,
                private_memory=self.private_memory,
            )
            one_thread = may_keep_stale_code(qemu_version(binary))
            argv = qemu_argv(self.spec, endpoints, one_thread=one_thread)
            self.argv = [binary, *argv[1:]]
            write_atomic(self.run.qemu_path / "argv", ("\n".join(self.argv) + "\n").encode())
            self.console = self._stack.enter_context(Console(console_socket, self.run.console_path))
            self.qmp = self._stack.enter_context(Qmp(qmp_socket, self.run.qemu_path / "qmp.log"))
            command = mortal(self.argv)
            files = [fd for fd in (*self.memory_fds, self.swap_fd) if fd is not None]
            with disk_errors(self.stderr_path), self.stderr_path.open("wb") as stderr:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    pass_fds=[*(end.fileno() for end in inherited), *files],
                    start_new_session=True,
                )
        self.state = MachineState.RUNNING
        try:
            self.qmp.connect()
            if self.spec.arch in CHUNK_ARCHES and self.spec.is_numa:
                self._tell_chunks()
        except QmpError as error:
            self.wait_exit(1.0)
            status = self.poll()
            how = describe_status(status) if status is not None else error.message
            raise LaunchError(
                f"QEMU did not start ({how})",
                fix=_launch_fix(self.stderr_text()),
                details={**self.evidence(), "argv": " ".join(self.argv)},
            ) from None

    def _memory_file(self, place: int) -> int | None:
        """A file for a node's memory, or, past the last node, for memory to be added."""
        nodes = self.spec.nodes
        if self.spec.arch in CHUNK_ARCHES:
            if place:  # one file has all pieces, and the holes
                return None
            return memory_file("mmscope-ram", self.spec.span_bytes, fix="ask for a smaller --node")
        if place >= len(nodes):
            size_bytes = self.spec.hot[place - len(nodes)].size_bytes
            return memory_file(
                f"mmscope-hot{place - len(nodes)}", size_bytes, fix="add less memory"
            )
        size_bytes = nodes[place].size_bytes
        if not size_bytes:
            return None
        return memory_file(f"mmscope-node{place}", size_bytes, fix="ask for a smaller --node")

    def _tell_chunks(self) -> None:
        """Makes the pieces known to a guest that has not started, and starts it.

        QEMU puts the list of boot records at the next even address behind the kernel.
        """
        memory_fd = self.memory_fds[0]
        assert memory_fd is not None
        kernel = parse_elf(self.spec.kernel.read_bytes(), self.spec.kernel.name)
        at = (kernel.load_end() + 1) & ~1
        chunks = place_chunks([part.size_bytes for part in self.spec.nodes])
        records = with_chunks(os.pread(memory_fd, RECORDS_BYTES, at), chunks)
        os.pwrite(memory_fd, records, at)
        self.qmp.execute("cont")

    def _swap_file(self) -> int | None:
        if not self.spec.swap_bytes:
            return None
        return memory_file("mmscope-swap", self.spec.swap_bytes, fix="ask for less swap")

    def _keep(self, file_fd: int | None) -> int | None:
        if file_fd is not None:
            self._stack.callback(os.close, file_fd)
        return file_fd

    def _end_process(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(QmpError):
            self.qmp.execute("quit", timeout_s=_QUIT_S)
        if self.wait_exit(_QUIT_S):
            return
        for number, patience_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            if self.wait_exit(patience_s):
                return
        raise LostMachineError(f"QEMU (pid {process.pid}) does not die", fix="look at its state")


def _grow_buffer(sender: socket.socket, size_bytes: int) -> None:
    """Lets so much wait in the socket; as much as the host allows where it does not allow that."""
    try:
        sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size_bytes)
    except OSError:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


def describe_status(status: int) -> str:
    """``exit status 1`` or ``killed by SIGKILL``, from a subprocess return code."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _launch_fix(stderr: str) -> str | None:
    if "memory" in stderr.lower():
        return "ask for smaller or fewer nodes (--node), or free memory on this host"
    return None
