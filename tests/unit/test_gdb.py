"""The debugger's side of gdb's remote protocol, against a stub of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import QmpError
from harness.machine.gdb import Gdb

LIMIT_S = 5.0
Answer = Callable[[str], str | None]


class Stub:
    """Answers each packet; None: says nothing."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        channel, _ = self._listening.accept()
        with channel:
            data = b""
            while piece := channel.recv(4096):
                data += piece.replace(b"+", b"")
                while (end := data.find(b"#")) >= 0 and len(data) >= end + 3:
                    words = data[data.index(b"$") + 1 : end].decode()
                    data = data[end + 3 :]
                    self.asked.append(words)
                    answer = self._answer(words)
                    if answer == "hang up":
                        return
                    if answer is not None:
                        body = answer.encode()
                        packet = b"$%s#%02x" % (body, sum(body) % 256)
                        channel.sendall(b"+" + packet[:3])
                        channel.sendall(packet[3:])

    def close(self) -> None:
        self._listening.close()
        self._thread.join(LIMIT_S)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Callable[[Answer], tuple[Stub, Path]]]:
    made: list[Stub] = []

    def make(answer: Answer) -> tuple[Stub, Path]:
        path = tmp_path / "gdb"
        made.append(Stub(path, answer))
        return made[-1], path

    yield make
    for one in made:
        one.close()


def registers(*values: int) -> str:
    return b"".join(value.to_bytes(8, "little") for value in values).hex()


def polite(words: str) -> str:
    if words == "c":
        return "T05thread:01;"
    if words == "g":
        return registers(*range(100, 132))
    if words.startswith("m"):
        return (0x1234).to_bytes(8, "little").hex()
    return "OK"


def test_a_breakpoint_is_set_reached_and_cleared(stub: Callable[..., tuple[Stub, Path]]) -> None:
    seen, path = stub(polite)
    with Gdb(path, "x86_64", LIMIT_S) as gdb:
        gdb.run_to(0xFFFF)
        gdb.detach()
    assert seen.asked == ["Z1,ffff,1", "c", "z1,ffff,1", "D"]


@pytest.mark.parametrize(
    ("arch", "arguments", "back", "result"),
    [("x86_64", (105, 104, 103), 0x1234, 100), ("arm64", (100, 101, 102), 130, 100)],
)
def test_registers_by_the_calling_convention(
    stub: Callable[..., tuple[Stub, Path]],
    arch: str,
    arguments: tuple[int, ...],
    back: int,
    result: int,
) -> None:
    _, path = stub(polite)
    with Gdb(path, arch, LIMIT_S) as gdb:
        assert gdb.arguments(3) == arguments
        assert gdb.return_address() == back
        assert gdb.result() == result


def test_another_reason_to_stop_is_an_error(stub: Callable[..., tuple[Stub, Path]]) -> None:
    seen, path = stub(lambda words: "T02thread:01;" if words == "c" else "OK")
    with Gdb(path, "x86_64", LIMIT_S) as gdb, pytest.raises(QmpError, match="running to 0x10"):
        gdb.run_to(0x10)
    assert seen.asked[-1] == "z1,10,1"


def test_a_guest_that_never_comes_there_is_an_error(
    stub: Callable[..., tuple[Stub, Path]],
) -> None:
    _, path = stub(lambda words: None if words == "c" else "OK")
    with Gdb(path, "x86_64", 0.2) as gdb, pytest.raises(QmpError, match="did not answer"):
        gdb.run_to(0x10)


def test_a_stub_that_goes_away_is_an_error(stub: Callable[..., tuple[Stub, Path]]) -> None:
    _, path = stub(lambda _: "hang up")
    with Gdb(path, "x86_64", LIMIT_S) as gdb, pytest.raises(QmpError):
        gdb.detach()
