"""Which page frames a guest's kernel says are free, at two moments with nobody coming or going."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.errors import GuestTimeoutError, SessionError
from harness.tour.evidence import Evidence
from harness.workload.mechanism import BUSYBOX

_SCRATCH = "/tmp"  # noqa: S108 - in the guest
_HOLD, _FRAMES = f"{_SCRATCH}/frames.hold", f"{_SCRATCH}/frames.bin"
_FLAGS = "/proc/kpageflags"  # which is read in whole words only, as cat does
_BUDDY = 10
"""Kernel: include/uapi/linux/kernel-page-flags.h, KPF_BUDDY."""
_WORD_BYTES = 8
_QUIET_S = 3
"""Between the coming and going of other processes and the first reading."""
_READ_S, _POLL_S = 120.0, 0.25

Runs = list[list[int]]
"""(first, number) of stretches of page frames."""


class BuddyReader:
    """Reads /proc/kpageflags twice.

    A page that is given back after the first reading and taken before the second would be free in
    between, and at neither of them. So one process does both, into memory that it has already, and
    waits in the middle for whoever looks from outside.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._process = 0
        evidence.shell(
            "frames",
            f"mkfifo {_HOLD} && size=$({BUSYBOX} cat {_FLAGS} | wc -c) && echo $size && "
            f"head -c $((2 * size)) /dev/zero >{_FRAMES}",
        )

    def start(self) -> None:
        """Returns after the first reading.

        Raises:
            GuestTimeoutError: it does not come to an end.
        """
        script = (
            f"{{ sleep {_QUIET_S}; exec {BUSYBOX} cat {_FLAGS} {_HOLD} {_FLAGS}; }} "
            f"1<>{_FRAMES} 2>/dev/null </dev/null & echo $!"
        )
        self._process = int(self._shell(script))
        self._wait(lambda state: state == "S")

    def end(self) -> tuple[Runs, Runs]:
        """The frames in free blocks at both readings; does the second.

        Raises:
            GuestTimeoutError: as ``start``.
        """
        self._shell(f": >{_HOLD}")
        self._wait(lambda state: state is None)
        content = self._run(BUSYBOX, "cat", _FRAMES)
        half = len(content) // 2
        return buddy_runs(content[:half]), buddy_runs(content[half:])

    def _shell(self, script: str) -> bytes:
        return self._run("/bin/sh", "-c", script)

    def _run(self, *argv: str) -> bytes:
        result = self._evidence.guest.agent.run(list(argv))
        if result.status:
            said = result.stderr.decode(errors="replace").strip()
            raise SessionError(f"the guest gives no {_FLAGS}: {said}")
        return result.stdout

    def _wait(self, reached: Callable[[str | None], bool]) -> None:
        """Until the state of the process that cats is such, None before and after; the agent itself
        looks, so that no other process comes and goes."""
        end = time.monotonic() + _READ_S
        paths = [f"/proc/{self._process}/{name}" for name in ("cmdline", "stat")]
        while time.monotonic() < end:
            files = self._evidence.guest.agent.read(paths).files
            words, stat = (files.get(path, b"") for path in paths)
            cats = bool(stat) and _FLAGS.encode() in words.split(b"\0")
            if reached(stat.decode().rpartition(")")[2].split()[0] if cats else None):
                return
            time.sleep(_POLL_S)
        raise GuestTimeoutError(f"the guest did not read {_FLAGS} within {_READ_S:.0f} s")


def buddy_runs(content: bytes) -> Runs:
    """The stretches of page frames that /proc/kpageflags says lie in free blocks."""
    runs: Runs = []
    for pfn in range(len(content) // _WORD_BYTES):
        word = int.from_bytes(content[pfn * _WORD_BYTES : (pfn + 1) * _WORD_BYTES], "little")
        if not word >> _BUDDY & 1:
            continue
        if runs and sum(runs[-1]) == pfn:
            runs[-1][1] += 1
        else:
            runs.append([pfn, 1])
    return runs


def frames_of(runs: Sequence[Sequence[int]]) -> set[int]:
    """Each of the frames."""
    return {pfn for first, count in runs for pfn in range(first, first + count)}
