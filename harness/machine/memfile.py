"""Files in memory that QEMU inherits: a node's RAM, a swap disk, a saved machine's state.

Nothing of them is ever on a disk, and they go with the last process that has them open.
"""

from __future__ import annotations

import errno
import os

from harness.errors import LaunchError
from harness.units import format_size

_COPY_BYTES = 64 << 20


def memory_file(name: str, size_bytes: int, *, fix: str) -> int:
    """A new file of that size that takes memory only where it is written; its descriptor.

    Raises:
        LaunchError: the host refuses that size; ``fix`` is what to tell the person.
    """
    memory_fd = os.memfd_create(name)
    try:
        os.truncate(memory_fd, size_bytes)
    except OSError as error:
        os.close(memory_fd)
        raise LaunchError(
            f"{name}: the host has no {format_size(size_bytes)} to give: {error.strerror}", fix=fix
        ) from None
    return memory_fd


def copy_memory_file(source_fd: int, name: str) -> int:
    """A copy of such a file, holes kept; its descriptor.

    Raises:
        LaunchError: the host has not enough memory for it.
    """
    size_bytes = os.fstat(source_fd).st_size
    fix = "free memory on this host, or ask for a smaller machine"
    target_fd = memory_file(name, size_bytes, fix=fix)
    try:
        for start, end in data_extents(source_fd):
            _copy_extent(source_fd, target_fd, start, end)
    except OSError as error:
        os.close(target_fd)
        raise LaunchError(f"{name}: copying failed: {error.strerror}", fix=fix) from None
    return target_fd


def data_extents(file_fd: int) -> list[tuple[int, int]]:
    """(start, end) of every part of the file that is not a hole, in bytes."""
    extents: list[tuple[int, int]] = []
    end = 0
    while True:
        try:
            start = os.lseek(file_fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return extents
            raise
        end = os.lseek(file_fd, start, os.SEEK_HOLE)
        extents.append((start, end))


def _copy_extent(source_fd: int, target_fd: int, start: int, end: int) -> None:
    os.lseek(target_fd, start, os.SEEK_SET)
    while start < end:
        start += os.sendfile(target_fd, source_fd, start, min(end - start, _COPY_BYTES))
