"""Every kind of session keeps the same promises; here those that need no real guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.fake import FakeSession
from harness.session.guest import Guest
from harness.session.protocol import Session

FakeQemu = Callable[[str], None]
Opener = Callable[[], AbstractContextManager[Session]]


@pytest.fixture(params=["fake", "agent"])
def session(request: pytest.FixtureRequest, fake_qemu: FakeQemu, tmp_path: Path) -> Opener:
    @contextmanager
    def fake() -> Iterator[Session]:
        yield FakeSession(lambda argv: (0, f"ran {' '.join(argv)}\n".encode(), b""))

    @contextmanager
    def agent() -> Iterator[Session]:
        fake_qemu("good")
        spec = MachineSpec(
            arch="x86_64",
            nodes=(NodeSpec(size_bytes=256 << 20, cpus=(0,)),),
            kernel=tmp_path,
            initramfs=tmp_path,
            root=tmp_path,
        )
        with Guest(spec, RunDirectory.create(tmp_path, "x")) as guest:
            yield guest.agent

    openers: dict[str, Opener] = {"fake": fake, "agent": agent}
    return openers[str(request.param)]


def test_output_and_status_come_back(session: Opener) -> None:
    with session() as channel:
        result = channel.run(["uname", "-r"])
    assert (result.argv, result.status) == (("uname", "-r"), 0)
    assert result.stdout == b"ran uname -r\n"
    assert result.killed_by is None


def test_output_is_handed_on_as_it_comes(session: Opener) -> None:
    pieces: list[tuple[bytes, bool]] = []
    with session() as channel:
        channel.run(["true"], on_output=lambda data, is_stderr: pieces.append((data, is_stderr)))
    assert pieces == [(b"ran true\n", False)]


def test_commands_follow_one_another(session: Opener) -> None:
    with session() as channel:
        outputs = [channel.run(["echo", str(n)]).stdout for n in range(20)]
    assert outputs == [f"ran echo {n}\n".encode() for n in range(20)]
