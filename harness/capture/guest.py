"""A capture of a guest, read by its agent."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.capture.record import (
    capture_directory,
    new_record,
    without_places,
    write_file,
    write_files,
    write_record,
)
from harness.errors import SessionError, UsageError
from harness.experiment.preparation import read_slab
from harness.experiment.provenance import image_record, kernel_record, machine_record
from harness.image.assembly import Image
from harness.kernel.package import Kernel
from harness.record.captured import (
    AGAIN,
    FOLDING,
    MOVING,
    STILL,
    SYSCTLS,
    held_still,
)
from harness.session.guest import Guest
from harness.workload.mechanism import BUSYBOX

_READINGS_MAX = 6
"""Two readings that are the same are wanted; a guest that is never quiet gives what it gives."""


def capture_guest(
    guest: Guest,
    kernel: Kernel,
    image: Image,
    path: Path,
    *,
    settings: Mapping[str, str],
    progress: Callable[[str], None],
) -> None:
    """Writes sysctls, lets the guest come to rest, and keeps its files at ``path``.

    Raises:
        UsageError: the path exists, or the guest refuses a sysctl.
        SessionError, GuestError: the guest failed meanwhile.
    """
    with capture_directory(path) as directory:
        for name, value in settings.items():
            _write_sysctl(guest, name, value)
        progress("reading what moves")
        first, second = _readings(guest)
        write_files(directory, first)
        write_files(directory, second, suffix=AGAIN)
        progress("reading what stays")
        still, unreadable = _read(guest, (*STILL, SYSCTLS))
        write_files(directory, still)
        slab = read_slab(guest)
        if slab is not None:
            write_file(directory, "slab_sysfs", slab)
        write_file(directory, "dmesg", _output(guest, "dmesg"))
        write_file(directory, "uname", _output(guest, "uname", "-a"))
        write_file(directory, "config", kernel.config_path.read_bytes())
        record = new_record("guest")
        record.kernel = kernel_record(kernel)
        record.image = image_record(image)
        record.machine = machine_record(
            guest.spec, without_places(guest.machine.argv), guest.shaped
        )
        record.settings = dict(settings)
        record.unreadable = unreadable
        record.still = held_still(first, second)
        write_record(directory, record)


def _readings(guest: Guest) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two readings of what moves, the same if the guest comes to rest within a few tries."""
    _read(guest, [FOLDING])
    first, _ = _read(guest, MOVING)
    for _ in range(_READINGS_MAX):
        second, _ = _read(guest, MOVING)
        if held_still(first, second):
            break
        first, second = second, first
    else:
        second, _ = _read(guest, MOVING)
    return first, second


def _read(
    guest: Guest, patterns: tuple[str, ...] | list[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    answer = guest.agent.read(patterns)
    for path in answer.files:
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            raise SessionError(f"the guest answered with {path!r}, which nobody asked for")
    errors = dict(error.partition(": ")[::2] for error in answer.errors)
    return dict(answer.files), errors


def _write_sysctl(guest: Guest, name: str, value: str) -> None:
    result = guest.agent.run([BUSYBOX, "sysctl", "-w", f"{name}={value}"])
    if result.status:
        raise UsageError(
            f"--sysctl {name}={value}: the guest refuses it",
            details={"it said": result.stderr.decode(errors="replace").strip()},
            fix="name a sysctl of that kernel and a value within its limits",
        )


def _output(guest: Guest, *command: str) -> bytes:
    result = guest.agent.run([BUSYBOX, *command])
    if result.status:
        raise SessionError(f"{' '.join(command)} failed in the guest (status {result.status})")
    return result.stdout
