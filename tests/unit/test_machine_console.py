"""What of a console's text counts as a sign of life."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from harness.machine.console import Console

LIMIT_S = 10.0
REPORT = (
    b"[   26.045061] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\r\n"
    b"[   26.048014] rcu: All QSes seen, last activity 5252\r\n"
    b"[   26.049247] rcu: rcu_preempt kthread starved for 5252 jiffies!\r\n"
)


def told(console: Console, guest: socket.socket, text: bytes) -> int:
    """By how much the sign of life has grown when all of the text has come."""
    before, wanted = console.life_bytes, console.received_bytes + len(text)
    guest.sendall(text)
    end_s = time.monotonic() + LIMIT_S
    while console.received_bytes < wanted and time.monotonic() < end_s:
        console.wait_change(0.1)
    assert console.received_bytes == wanted
    return console.life_bytes - before


def test_a_report_of_a_lockup_is_no_sign_of_life(tmp_path: Path) -> None:
    guest, channel = socket.socketpair()
    with guest, Console(channel, tmp_path / "console.log") as console:
        assert told(console, guest, b"[    1.0] Linux version 6.1\r\nmmscope# ") > 0
        # the report follows the prompt on its line
        assert told(console, guest, REPORT) == 0
        assert console.lockup is not None
        assert "detected stalls" in console.lockup.line
        assert told(console, guest, REPORT.replace(b"   26.", b"   89.")) == 0
        # byte by byte, a line at a time
        assert told(console, guest, b"mmscope# ") == len(b"mmscope# ")
        assert sum(told(console, guest, bytes([byte])) for byte in REPORT) == 0
        assert [told(console, guest, text) for text in (b"hi\r\n", b"ls\r\n")] == [4, 4]
        # a line of the kernel counts when it is whole
        assert told(console, guest, b"[   95.0] usb 1-1: new device") == 0
        assert told(console, guest, b"\r\n") > 0
        assert told(console, guest, b"mmscope# ") > 0
    assert (tmp_path / "console.log").read_bytes().count(b"starved") == 3


def test_stacks_without_times_are_none_either(tmp_path: Path) -> None:
    guest, channel = socket.socketpair()
    bare = b"".join(line.partition(b"] ")[2] for line in REPORT.splitlines(keepends=True))
    with guest, Console(channel, tmp_path / "console.log") as console:
        assert told(console, guest, bare) == 0
        assert sum(told(console, guest, bytes([byte])) for byte in bare) == 0


@pytest.mark.parametrize("size", [1, 1000, 60_000])
def test_a_line_without_an_end_is_a_sign_of_life(size: int, tmp_path: Path) -> None:
    guest, channel = socket.socketpair()
    with guest, Console(channel, tmp_path / "console.log") as console:
        assert [told(console, guest, b"." * size) for _ in range(8)] == [size] * 8
        assert told(console, guest, b"\r\nnext\r\n") == len(b"\r\nnext\r\n")
