"""Two readings of /proc/kpageflags by one process that waits in the middle."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from harness.errors import GuestTimeoutError, SessionError
from harness.session.agent import ReadResult
from harness.session.protocol import CommandResult
from harness.tour import buddy_reader
from harness.tour.buddy_reader import BuddyReader, buddy_runs, frames_of
from harness.tour.evidence import Evidence

BUDDY = 1 << 10
SHELL = (b"sh\0-c\0sleep 3; exec cat /proc/kpageflags\0", b"7 (sh) S 1")
READS = (b"busybox\0cat\0/proc/kpageflags\0/tmp/hold\0", b"7 (cat) R 1")
WAITS = (READS[0], b"7 (a name) b) S 1")
ZOMBIE = (b"", b"7 (cat) Z 1")
GONE = (None, None)


def words(*flags: int) -> bytes:
    return struct.pack(f"<{len(flags)}Q", *flags)


class Guest:
    """Runs what it is asked to, and shows one state of the process after the other."""

    def __init__(self, *states: tuple[bytes | None, bytes | None], content: bytes = b"") -> None:
        self.agent = self
        self.states = list(states)
        self.content = content
        self.status = 0
        self.ran: list[str] = []

    def run(self, argv: list[str]) -> CommandResult:
        self.ran.append(argv[-1])
        out = b"7\n" if "echo $!" in argv[-1] else self.content
        return CommandResult(
            argv=tuple(argv), status=self.status, stdout=out, stderr=b"no room", wall_s=0.0
        )

    def read(self, paths: list[str]) -> ReadResult:
        assert paths == ["/proc/7/cmdline", "/proc/7/stat"]
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        found = {path: text for path, text in zip(paths, state, strict=True) if text is not None}
        return ReadResult(files=found, errors=())


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buddy_reader, "_POLL_S", 0.0)


def reader(guest: Guest) -> BuddyReader:
    class Made:
        def __init__(self) -> None:
            self.guest: Any = guest

        def shell(self, name: str, script: str) -> str:
            assert "mkfifo" in script, name
            return ""

    return BuddyReader(cast(Evidence, Made()))


def test_runs_are_stretches_of_free_frames() -> None:
    runs = buddy_runs(words(0, BUDDY, BUDDY | 1, 0, 1, BUDDY))
    assert runs == [[1, 2], [5, 1]]
    assert frames_of(runs) == {1, 2, 5}


def test_the_two_halves_are_the_two_readings() -> None:
    content = words(BUDDY, 0, BUDDY) + words(0, 0, BUDDY)
    guest = Guest(SHELL, READS, WAITS, WAITS, READS, ZOMBIE, content=content)
    made = reader(guest)
    made.start()
    assert len(guest.states) == 3, "it waits for the process to hold still, not for the shell"
    assert made.end() == ([[0, 1], [2, 1]], [[2, 1]])


def test_a_process_that_has_gone_has_read() -> None:
    made = reader(guest := Guest(WAITS, GONE, content=words(BUDDY, BUDDY)))
    made.start()
    assert made.end() == ([[0, 1]], [[0, 1]])
    assert guest.ran[1].startswith(": >")


def test_a_reading_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buddy_reader, "_READ_S", 0.05)
    with pytest.raises(GuestTimeoutError, match="kpageflags"):
        reader(Guest(SHELL)).start()


def test_a_guest_that_cannot_is_quoted() -> None:
    guest = Guest(WAITS)
    guest.status = 1
    with pytest.raises(SessionError, match="no room"):
        reader(guest).start()
