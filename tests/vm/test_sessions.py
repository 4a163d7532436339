"""All three channels to a real guest keep the promises of ``Session``."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from harness.deadline import StallClock
from harness.errors import GuestTimeoutError, SessionError
from harness.session.guest import Guest
from harness.session.protocol import Session
from harness.session.ssh import SshSession, make_key
from harness.workload.mechanism import BUSYBOX

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.fixture(params=["agent", "ssh", "serial"])
def session(request: pytest.FixtureRequest, guest: Guest) -> Iterator[Session]:
    if request.param == "agent":
        yield guest.agent
        return
    opened: Session = guest.ssh() if request.param == "ssh" else guest.serial()
    yield opened
    opened.close()


def test_output_and_status(session: Session) -> None:
    result = session.run(["sh", "-c", "echo hello; exit 7"])
    assert result.stdout.splitlines()[-1] == b"hello"
    assert result.status == 7


def test_arguments_are_not_split(session: Session) -> None:
    result = session.run(["echo", "two  words", "$HOME", "it's"])
    assert result.stdout.splitlines()[-1] == b"two  words $HOME it's"


def test_a_command_that_does_not_exist(session: Session) -> None:
    assert session.run(["no-such-command"]).status == 127


def test_much_output_arrives_whole(session: Session) -> None:
    result = session.run(["seq", "1", "3000"])
    lines = result.stdout.split(b"\n")
    assert [line for line in lines if line.strip()][-3000:] == [
        str(number).encode() for number in range(1, 3001)
    ]


def test_a_deadline_ends_a_silent_command(guest: Guest) -> None:
    with pytest.raises(GuestTimeoutError, match="no progress for 2 s"):
        guest.agent.run(["sleep", "60"], clock=StallClock(2, 30))
    # The command was killed, not left behind.
    assert guest.agent.run(["pgrep", "-x", "sleep"]).status == 1


def test_standard_error_is_kept_apart(guest: Guest) -> None:
    result = guest.agent.run(["sh", "-c", "echo out; echo err >&2"])
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_a_killed_command_reports_its_signal(guest: Guest) -> None:
    result = guest.agent.run(["sh", "-c", "kill -9 $$"])
    assert result.killed_by == 9


def test_the_guest_sees_its_nodes_and_distances(guest: Guest) -> None:
    answer = guest.agent.read(["/sys/devices/system/node/node*/distance"])
    assert [text.split() for _, text in sorted(answer.files.items())] == [
        [b"10", b"21"],
        [b"21", b"10"],
    ]


def test_the_network_goes_nowhere_but_to_the_host(guest: Guest) -> None:
    """restrict=on: the guest reaches neither the host's services nor anything beyond."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(5)
        command = [BUSYBOX, "nc", "-w", "3", "10.0.2.2", str(port)]
        assert guest.agent.run(command).status != 0
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_ssh_without_the_key(guest: Guest) -> None:
    with pytest.raises(SessionError, match="ssh to the guest on port"):
        SshSession(guest.ssh_port(), make_key(), guest.host_key, guest.vitals)


def test_no_ssh_to_a_stranger(guest: Guest) -> None:
    stranger = make_key().get_base64()
    with pytest.raises(SessionError, match="ssh to the guest on port"):
        SshSession(guest.ssh_port(), make_key(), stranger, guest.vitals)
