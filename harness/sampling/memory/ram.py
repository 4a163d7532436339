"""Guest-physical memory as one array of bytes, holes included, that costs nothing to have.

Two backends. ``FileRam`` maps the memory files that QEMU shares with us: the array is the guest's
RAM. ``ProcessRam`` is for a machine whose RAM is private (a clone of a snapshot): it copies what
is asked for out of QEMU's address space into an array of its own. Both are used in the same way:
``refresh`` what is about to be read, then read ``words``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError
from harness.sampling.memory.physmap import PhysicalRange

_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED = 0x01, 0x02, 0x10
_MAP_ANONYMOUS, _MAP_NORESERVE = 0x20, 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_CHUNK_BYTES = 4 << 20
_PAGE_BYTES = 4096

Span = tuple[int, int]
"""Guest-physical start, and size in bytes."""


class Ram(Protocol):
    """What every backend gives."""

    base: int
    """Guest-physical address of the array's first byte."""
    array: NDArray[np.uint8]
    """Index = guest-physical address - base; holes are zero."""
    ranges: tuple[PhysicalRange, ...]

    def check(self) -> None:
        """Raises MemoryReadError when the RAM is no longer all there."""

    def refresh(self, spans: Iterable[Span]) -> None:
        """Makes the array show these spans as the guest has them now."""

    def used(self) -> Iterator[tuple[int, bytes]]:
        """(guest-physical address, content) of all that was ever written, in chunks."""

    def close(self) -> None:
        """The array must not be touched afterwards."""


def read(ram: Ram, address: int, size_bytes: int) -> bytes:
    """Bytes at a guest-physical address.

    Raises:
        MemoryReadError: the span is not wholly RAM.
    """
    require(ram, address, size_bytes)
    ram.refresh([(address, size_bytes)])
    start = address - ram.base
    return ram.array[start : start + size_bytes].tobytes()


def require(ram: Ram, address: int, size_bytes: int) -> None:
    """Raises MemoryReadError unless the whole span is RAM."""
    at, left = address, size_bytes
    for part in ram.ranges:
        if part.start <= at < part.end:
            left -= part.end - at
            at = part.end
            if left <= 0:
                return
    if size_bytes:
        raise MemoryReadError(
            f"guest-physical {address:#x}, {size_bytes} bytes, is not RAM of this guest",
            details={"RAM": ", ".join(f"{p.start:#x}-{p.end - 1:#x}" for p in ram.ranges)},
        )


class _Span:
    """A stretch of our address space, reserved and empty; what is not mapped over reads as 0."""

    def __init__(self, ranges: Sequence[PhysicalRange], protection: int) -> None:
        self.base = min(part.start for part in ranges)
        self.size_bytes = max(part.end for part in ranges) - self.base
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
            ctypes.c_long,
        ]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
        self.address = self._map(None, self.size_bytes, protection, flags, -1, 0)

    def place(self, part: PhysicalRange, memory_fd: int) -> None:
        """Maps a file's range where its guest-physical addresses are."""
        where = self.address + part.start - self.base
        self._map(
            where, part.size_bytes, _PROT_READ, _MAP_SHARED | _MAP_FIXED, memory_fd, part.offset
        )

    def array(self) -> NDArray[np.uint8]:
        buffer = (ctypes.c_uint8 * self.size_bytes).from_address(self.address)
        return np.ctypeslib.as_array(buffer)

    def unmap(self) -> None:
        self._libc.munmap(self.address, self.size_bytes)

    def _map(
        self,
        where: int | None,
        size_bytes: int,
        protection: int,
        flags: int,
        memory_fd: int,
        offset: int,
    ) -> int:
        address = self._libc.mmap(where, size_bytes, protection, flags, memory_fd, offset)
        if address in (None, _MAP_FAILED):
            reason = os.strerror(ctypes.get_errno())
            raise MemoryReadError(f"the guest's RAM cannot be mapped ({size_bytes} B): {reason}")
        return int(address)


class FileRam:
    """The guest's RAM itself: its memory files, mapped read-only, one beside the other."""

    def __init__(self, memory_fds: Sequence[int | None], ranges: tuple[PhysicalRange, ...]) -> None:
        """Raises MemoryReadError when a file is missing, unreadable or shorter than its RAM."""
        self.ranges = ranges
        self._memory_fds = memory_fds
        self.check()
        self._span = _Span(ranges, _PROT_READ)
        self.base = self._span.base
        try:
            for part in ranges:
                self._span.place(part, _file(self._memory_fds, part))
        except MemoryReadError:
            self._span.unmap()
            raise
        self.array = self._span.array()

    def check(self) -> None:
        for part in self.ranges:
            try:
                size_bytes = os.fstat(_file(self._memory_fds, part)).st_size
            except OSError as error:
                raise _unreadable(part.node, error) from None
            if size_bytes < part.offset + part.size_bytes:
                raise MemoryReadError(
                    f"memory of node {part.node} is truncated: {size_bytes} bytes, QEMU shows "
                    f"{part.offset + part.size_bytes}"
                )

    def refresh(self, spans: Iterable[Span]) -> None:
        """Nothing to do: the array is the RAM."""

    def used(self) -> Iterator[tuple[int, bytes]]:
        return _used(self._memory_fds, self.ranges)

    def close(self) -> None:
        self._span.unmap()

    def __enter__(self) -> FileRam:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ProcessRam:
    """RAM of which only QEMU has the latest state: copied out of its address space, by the span.

    ``memory_fds`` are the files that it began with (a snapshot's, mapped privately): enough to
    find the kernel in, since it stays where it is. ``host_addresses`` says where in QEMU's
    address space each node's memory begins. The kernel lets a parent read its child's memory.
    """

    def __init__(
        self,
        pid: int,
        host_addresses: Mapping[int, int],
        memory_fds: Sequence[int | None],
        ranges: tuple[PhysicalRange, ...],
    ) -> None:
        """Raises MemoryReadError when the process's memory cannot be opened or read."""
        self.ranges = ranges
        self._host_addresses = dict(host_addresses)
        self._files = memory_fds
        try:
            self._mem_fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise MemoryReadError(
                f"the memory of QEMU (pid {pid}) cannot be read: {error.strerror}",
                fix="run as the user that started it; see /proc/sys/kernel/yama/ptrace_scope",
            ) from None
        try:
            self._span = _Span(ranges, _PROT_READ | _PROT_WRITE)
        except MemoryReadError:
            os.close(self._mem_fd)
            raise
        self.base = self._span.base
        self.array = self._span.array()
        try:
            self.check()
        except MemoryReadError:
            self.close()
            raise

    def check(self) -> None:
        for part in self.ranges:
            self._copy(part, part.start, 1)
            self._copy(part, part.end - 1, 1)

    def refresh(self, spans: Iterable[Span]) -> None:
        for start, end in _whole_pages(spans):
            for part in self.ranges:
                a, b = max(start, part.start), min(end, part.end)
                if a < b:
                    self._copy(part, a, b - a)

    def used(self) -> Iterator[tuple[int, bytes]]:
        """What the files held from the start: asking QEMU would make it keep every page."""
        return _used(self._files, self.ranges)

    def close(self) -> None:
        os.close(self._mem_fd)
        self._span.unmap()

    def _host(self, part: PhysicalRange, address: int) -> int:
        return self._host_addresses[part.node] + part.offset + address - part.start

    def _copy(self, part: PhysicalRange, address: int, size_bytes: int) -> None:
        start = address - self.base
        view = memoryview(self.array)[start : start + size_bytes]  # type: ignore[arg-type]
        done = 0
        while done < size_bytes:
            try:
                got = os.preadv(self._mem_fd, [view[done:]], self._host(part, address + done))
            except OSError as error:
                raise _unreadable(part.node, error) from None
            if not got:
                raise MemoryReadError(f"memory of node {part.node} ends early in QEMU's process")
            done += got


def _whole_pages(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """(start, end) of the pages that the spans lie in, sorted and joined: few, large copies."""
    open_start = open_end = -1
    for start, size_bytes in sorted(spans):
        first, last = start & -_PAGE_BYTES, (start + size_bytes + _PAGE_BYTES - 1) & -_PAGE_BYTES
        if first > open_end:
            if open_end > open_start:
                yield open_start, open_end
            open_start, open_end = first, last
        else:
            open_end = max(open_end, last)
    if open_end > open_start:
        yield open_start, open_end


def _file(memory_fds: Sequence[int | None], part: PhysicalRange) -> int:
    memory_fd = memory_fds[part.node] if part.node < len(memory_fds) else None
    if memory_fd is None:
        raise MemoryReadError(f"QEMU shows memory of node {part.node}, of which we have no file")
    return memory_fd


def _used(
    memory_fds: Sequence[int | None], ranges: Iterable[PhysicalRange]
) -> Iterator[tuple[int, bytes]]:
    for part in ranges:
        memory_fd = _file(memory_fds, part)
        end = part.offset + part.size_bytes
        try:
            for start, stop in _data(memory_fd, part.offset, end):
                for at in range(start, stop, _CHUNK_BYTES):
                    chunk = os.pread(memory_fd, min(_CHUNK_BYTES, stop - at), at)
                    yield part.start + at - part.offset, chunk
        except OSError as error:
            raise _unreadable(part.node, error) from None


def _data(memory_fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Written parts of a sparse file; reading the rest would make the host keep pages for it."""
    at = start
    while at < end:
        try:
            data = os.lseek(memory_fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole until the end
                return
            raise
        if data >= end:
            return
        at = min(end, os.lseek(memory_fd, data, os.SEEK_HOLE))
        yield data, at


def _unreadable(node: int, error: OSError) -> MemoryReadError:
    return MemoryReadError(f"memory of node {node} cannot be read: {error.strerror}")
