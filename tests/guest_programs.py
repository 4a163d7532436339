"""Runs the guest's own programs on the host: its agent over sockets, its sampler's doorbell."""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from harness.record.frames import Frame, FrameDecoder, FrameType

GUEST = Path(__file__).parents[1] / "guest"
LIMIT_S = 20.0


def compile_guest(out: Path, *, compiler: str = "gcc") -> Path:
    """Builds all programs into ``out``; their own Makefile does it."""
    done = subprocess.run(
        ["make", "-s", "-j2", "-C", str(GUEST), f"OUT={out}", f"CC={compiler}", "all"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return out


@functools.cache
def host_programs(out: Path) -> Path:
    """The programs for this machine, built once a test run."""
    return compile_guest(out)


class Channel:
    """One end of a port: frames as they come, every wait bounded."""

    def __init__(self, name: str) -> None:
        self.near, self.far = socket.socketpair()
        self._decoder = FrameDecoder(name)
        self._frames: list[Frame] = []

    def frames(self, until: Callable[[Frame], bool]) -> list[Frame]:
        """All frames up to and including the first for which ``until`` holds."""
        taken: list[Frame] = []
        end_s = time.monotonic() + LIMIT_S
        while True:
            while self._frames:
                taken.append(self._frames.pop(0))
                if until(taken[-1]):
                    return taken
            readable, _, _ = select.select([self.near], [], [], max(0, end_s - time.monotonic()))
            assert readable, f"nothing more after {taken[-3:]}"
            data = self.near.recv(1 << 16)
            assert data, f"closed after {taken[-3:]}"
            self._frames += self._decoder.feed(data)

    def close(self) -> None:
        self.near.close()
        self.far.close()


class HostAgent:
    """The agent on the host, serving two sockets and reading files below ``root``."""

    def __init__(self, programs: Path, root: Path | None = None) -> None:
        self.control = Channel("control")
        self.stream = Channel("stream")
        self.doorbell = f"mmscope-test-{os.getpid()}-{time.monotonic_ns()}"
        self._argv = [
            str(programs / "mmscope-agent"),
            f"--control={self.control.far.fileno()}",
            f"--stream={self.stream.far.fileno()}",
            *([f"--root={root}"] if root else []),
        ]
        self._next_seq = 1

    def __enter__(self) -> HostAgent:
        self.process = subprocess.Popen(
            self._argv,
            pass_fds=[self.control.far.fileno(), self.stream.far.fileno()],
            env={**os.environ, "MMSCOPE_DOORBELL": self.doorbell},
            stderr=subprocess.PIPE,
        )
        self.control.far.close()
        hello = self.control.frames(lambda _: True)[0]
        assert hello.type is FrameType.HELLO
        self.hello = dict(line.split("=", 1) for line in hello.payload.decode().splitlines())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.control.close()
        self.stream.close()
        try:
            self.process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=LIMIT_S)
            raise
        finally:
            assert self.process.stderr is not None
            self.process.stderr.close()

    def send(self, *words: str) -> int:
        """Sends a request; its number."""
        seq = self._next_seq
        self._next_seq += 1
        payload = b"\0".join(os.fsencode(word) for word in words)
        self.control.near.sendall(Frame(type=FrameType.REQUEST, seq=seq, payload=payload).encode())
        return seq

    def answer(self, seq: int) -> tuple[int, list[Frame]]:
        """Exit status of a request and the frames that came before it."""
        frames = self.control.frames(lambda f: f.type is FrameType.EXIT and f.seq == seq)
        return int(frames[-1].payload), [frame for frame in frames[:-1] if frame.seq == seq]

    def ask(self, *words: str) -> tuple[int, list[Frame]]:
        """Sends a request and waits for its end."""
        return self.answer(self.send(*words))

    def round(self) -> list[Frame]:
        """The stream up to the end of the next round."""
        return self.stream.frames(lambda f: f.type is FrameType.ROUND_END)


class Doorbell:
    """A stand-in for the sampler: takes labels, answers each."""

    def __init__(self) -> None:
        self.name = f"mmscope-test-{os.getpid()}-{time.monotonic_ns()}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(LIMIT_S)
        self._listener.bind("\0" + self.name)
        self._listener.listen()

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def labels(self, hook: Callable[[str], None] = lambda _: None) -> Iterator[str]:
        """The labels of one client until it goes; ``hook`` runs before each is answered."""
        client, _ = self._listener.accept()
        with client:
            client.settimeout(LIMIT_S)
            while label := client.recv(4096):
                hook(label.decode())
                client.send(b"\0")
                yield label.decode()
